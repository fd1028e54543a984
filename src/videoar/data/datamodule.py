"""MixedDataModule: image and video sources, a curriculum of stages, exact resume.

    data = MixedDataModule("my_videos/")          # a folder of class folders, or a flat one
    data = MixedDataModule(stage=Stage(resolution=64, frames=17, batch_size=4), root="data/atari")
    data = MixedDataModule(sources=[Source("photos"), Source("films", weight=2)], stages=[Stage(…), Stage(…)])

A batch is {"video": float [B, 3, T, H, W] in [-1, 1], "label": long [B] (-1: unlabelled), "caption": list of str,
"path": list of str}; cached latents give "latent" [B, D, T', h, w] instead of "video". Images are one-frame clips.
"""

import logging
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from videoar.data.curriculum import Curriculum, Kind, Stage
from videoar.data.datasets import ClipDataset, Reading
from videoar.data.describe import check_condition, describe_source, unreached
from videoar.data.items import Source, SourceIndex
from videoar.data.loader import ClipLoader, Ledger, Loading
from videoar.data.pools import held_out_order, make_pools
from videoar.data.sampler import MixedSampler, SampleRef
from videoar.data.sources import index_source
from videoar.data.transforms import to_pixels
from videoar.data.windows import Evaluation, windows
from videoar.errors import UserError
from videoar.ranges import check_memory

log = logging.getLogger(__name__)


class MixedDataModule(LightningDataModule):
    """Data for either training module.

    Args:
        root: the easy way, instead of `sources`: one data set with every default.
        sources: data sets that are mixed.
        stage: the only stage of the run.
        stages: a curriculum, in order, instead of `stage`.
        reading: how clips are read and cut.
        loading: workers, epoch length, seed, faults.
        evaluation: validation, test and prediction.

    Raises `UserError` for sources that are missing, empty or contradict each other.

    It needs no distributed sampler: batches are sharded here, and Lightning leaves its loaders alone. The number
    of batches handed out is its state in a checkpoint, so `fit(ckpt_path=…)` goes on with exactly the next one.
    """

    def __init__(
        self,
        root: str | None = None,
        sources: list[Source] | None = None,
        stage: Stage | None = None,
        stages: list[Stage] | None = None,
        reading: Reading | None = None,
        loading: Loading | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        super().__init__()
        if (root is None) == (not sources):
            raise UserError("give either data.root (one folder) or data.sources (a list), not both and not neither")
        if stage is not None and stages:
            how = "what a config file gives is taken back by null, e.g. --data.stages null"
            raise UserError(f"give either data.stage (one stage) or data.stages (a curriculum), not both; {how}")
        self.sources = list(sources or [Source(str(root))])
        self.curriculum = Curriculum(stages or [stage or Stage()])
        self.reading, self.loading = reading or Reading(), loading or Loading()
        self.evaluation = evaluation or Evaluation()
        self.ledger = Ledger(self.loading.max_bad)
        self._indices: list[SourceIndex] | None = None
        self._sampler: MixedSampler | None = None
        self._train: ClipLoader | None = None
        self._consumed, self._overfit = 0, 0

    # ---- what is there ----------------------------------------------------------------------------------------

    @property
    def indices(self) -> list[SourceIndex]:
        """What each source holds; found on first use."""
        if self._indices is None:
            self._indices = [index_source(source) for source in self.sources]
            kinds = {index.kind for index in self._indices}
            if {"latent", "video"} <= kinds or {"latent", "image"} <= kinds:
                raise UserError(f"cached latents cannot be mixed with pixels: the sources hold {sorted(kinds)}")
        return self._indices

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order, over all sources; empty: unlabelled."""
        return tuple(dict.fromkeys(name for index in self.indices for name in index.class_names))

    @property
    def num_classes(self) -> int:
        """How many classes there are; 0: unlabelled."""
        return len(self.class_names)

    def look(self, training: bool) -> None:
        """Find everything now, and with `training` plan its stages: what is wrong with them is said before a run."""
        _ = self.sampler if training else self.indices

    @property
    def sampler(self) -> MixedSampler:
        """What decides each training batch."""
        if self._sampler is None:
            stages = list(enumerate(self.curriculum.stages, start=1))
            for number, stage in stages:
                check_memory(stage.pixel_bytes(), f"batches of stage {number}")
            pools = [make_pools(stage, self.indices, f"stage {number}") for number, stage in stages]
            weights = [source.weight for source in self.sources]
            self._sampler = MixedSampler(self.curriculum, pools, weights, self.loading.seed)
        return self._sampler

    def __str__(self) -> str:
        lines = [describe_source(index) for index in self.indices]
        lines += [self.curriculum.describe(number) for number in range(len(self.curriculum.stages))]
        epoch = self.loading.epoch_batches or self._one_pass(self._ranks()[1])
        lines.append(f"epochs of {epoch} batches, {self.loading.workers} workers, seed {self.loading.seed}")
        clips = self.evaluation.clips or "all"
        lines.append(f"validation: {clips} clips; prediction: the {self.evaluation.predict} split")
        return "\n".join([type(self).__name__, *(f"  {line}" for line in lines)])

    def check_condition(self, condition: str) -> None:
        """Raise `UserError` if no clip has what a generator of this condition (class, text, …) learns from."""
        check_condition(condition, self.indices)

    def check_length(self, batches: int) -> None:
        """Warn if a run of so many batches ends before the last stage begins."""
        if not self._overfit and (text := unreached(self.curriculum, batches)):
            log.warning("%s", text)

    # ---- where the run is -------------------------------------------------------------------------------------

    @property
    def consumed(self) -> int:
        """Training batches handed out since the start of the run, earlier sessions included."""
        return self._train.position if self._train else self._consumed

    def set_consumed(self, batches: int) -> None:
        """Go on with training batch number `batches`. The next iterator starts there."""
        if batches < 0:
            raise ValueError(f"consumed batches must be at least 0, got {batches}")
        self._consumed = batches
        if self._train:
            self._train.position = batches

    def stage_at(self, batch: int) -> int:
        """Index of the stage that a training batch belongs to."""
        return self.curriculum.index(batch % self._overfit if self._overfit else batch)

    def state_dict(self) -> dict[str, Any]:
        """Where the run is, and the first rank's ledger."""
        where = {"consumed": self.consumed, "seed": self.loading.seed, "world": self._ranks()[1]}
        return where | {"ledger": self.ledger.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, now in (("seed", self.loading.seed), ("world", self._ranks()[1])):
            if state_dict[name] != now:
                log.warning(
                    "the checkpoint's data %s was %s, now %s: later batches differ", name, state_dict[name], now
                )
        self.set_consumed(state_dict["consumed"])
        self.ledger.load_state_dict(state_dict.get("ledger", {}))

    # ---- loaders ----------------------------------------------------------------------------------------------

    def train_dataloader(self) -> ClipLoader:
        rank, world = self._ranks()
        epoch = self.loading.epoch_batches or self._one_pass(world)
        self._overfit = self._overfitted(epoch)
        # not a function of self, which owns the loader
        plan = partial(_plan, sampler=self.sampler, rank=rank, world=world, overfit=self._overfit)
        loader = self._loader("train", plan, epoch, endless=True)
        loader.position = self.consumed
        log.info("%s", self.curriculum.describe(self.stage_at(loader.position)))
        log.info("an epoch is %d batches, at first %s", epoch, self._passes(epoch, world))
        self._train = loader
        return loader

    def val_dataloader(self) -> ClipLoader:
        return self._fixed("val", self._held_out("val")[: self.evaluation.clips])

    def test_dataloader(self) -> ClipLoader:
        return self._fixed("test", self._held_out("test"))

    def predict_dataloader(self) -> ClipLoader:
        split, every = self.evaluation.predict, self.evaluation.predict_every
        return self._fixed(split, windows(self.indices, split, self.curriculum.stages[-1], every))

    def teardown(self, stage: str) -> None:
        if self._train:
            self._train.close()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Pixels travel to the device as bytes and become floats there."""
        if isinstance(batch, dict) and getattr(batch.get("video"), "dtype", None) == torch.uint8:
            batch["video"] = to_pixels(batch["video"])
        self._log_mixture()
        return batch

    def _passes(self, epoch: int, world: int) -> str:
        clips = sum(len(index.splits["train"]) for index in self.indices)
        seen = epoch * self.curriculum.stages[0].batch_size * world
        return f"{seen / max(1, clips):.3g} passes over {clips} clips (data.loading.epoch_batches)"

    def _one_pass(self, world: int) -> int:
        clips = sum(len(index.splits["train"]) for index in self.indices)
        return max(50, -(-clips // (self.curriculum.stages[0].batch_size * world)))

    def _overfitted(self, epoch: int) -> int:
        """How many batches `Trainer(overfit_batches=…)` trains on again and again; 0: it was not asked to."""
        wanted = getattr(self.trainer, "overfit_batches", 0)
        count = wanted if isinstance(wanted, int) else max(1, int(wanted * epoch)) if wanted > 0 else 0
        if count:
            log.info("overfit_batches: batches 0 to %d again and again, cut as the first time", count - 1)
        return count

    def _held_out(self, split: str) -> list[tuple[int, int, int | None]]:
        return [(*entry, None) for entry in held_out_order(self.indices, split, self.curriculum.stages)]

    def _fixed(self, split: str, clips: Sequence[tuple[int, int, int | None]]) -> ClipLoader:
        """A loader over the same clips every time; ranks take every world-th, the last batch may be smaller."""
        rank, world = self._ranks()
        chosen = list(clips)
        chosen += list(islice(cycle(chosen), -len(chosen) % world))  # every rank the same number of batches
        mine = chosen[rank::world]
        size = self.evaluation.batch_size or self.curriculum.stages[0].batch_size

        def plan(step: int) -> list[SampleRef]:
            index = self.stage_at(self.consumed) if self._training() else len(self.curriculum.stages) - 1
            stage = self.curriculum.stages[index]
            refs = []
            for place, (source, item, first) in enumerate(mine[step * size : (step + 1) * size]):
                kind: Kind = "image" if self.indices[source].kind == "image" else "video"
                frames = 1 if kind == "image" else stage.frames
                shape = stage.sizes()[0]
                refs.append(SampleRef(source, item, (0, step * size + place), kind, shape, frames, index, first))
            return refs

        return self._loader(split, plan, -(-len(mine) // size))

    def _loader(self, split: str, plan: Any, length: int, endless: bool = False) -> ClipLoader:
        stages, seed = self.curriculum.stages, self.loading.seed
        dataset = ClipDataset(self.indices, split, self.class_names, stages, self.reading, seed, training=endless)
        ledger = self.ledger if endless else Ledger(self.loading.max_bad)
        finish = _as_bytes if self.trainer is not None else _as_pixels
        return ClipLoader(dataset, plan, length, self.loading, ledger, finish, endless)

    # ---- the Trainer ------------------------------------------------------------------------------------------

    def _ranks(self) -> tuple[int, int]:
        """(rank, world) of this process."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _training(self) -> bool:
        return self.trainer is not None and self.trainer.state.fn == "fit"

    def _log_mixture(self) -> None:
        """To the loggers: the stage, what share of the samples each source really gave, and unreadable files."""
        trainer = self.trainer
        if trainer is None or not trainer.training or self.consumed % getattr(trainer, "log_every_n_steps", 50):
            return
        values = {"data/stage": self.stage_at(max(self.consumed - 1, 0)) + 1.0}
        values["data/unreadable_files"] = float(len(self.ledger.bad))
        for name, count in self.ledger.drawn.items():
            values[f"data/share/{name}"] = count / self.ledger.samples
        batches = trainer.fit_loop.epoch_loop._batches_that_stepped  # the axis of all that modules log
        for logger in trainer.loggers:
            logger.log_metrics(values, step=batches)


def _plan(step: int, sampler: MixedSampler, rank: int, world: int, overfit: int = 0) -> list[SampleRef]:
    """The batch of one step; called in the main process, ahead of training by what the workers prefetch."""
    curriculum = sampler.curriculum
    step = step % overfit if overfit else step
    if step in curriculum.starts[1:]:
        log.info("%s", curriculum.describe(curriculum.index(step)))
    return sampler.batch(step, rank, world)


def _as_bytes(batch: dict[str, Any]) -> dict[str, Any]:
    return batch


def _as_pixels(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "video": to_pixels(batch["video"])} if "video" in batch else batch
