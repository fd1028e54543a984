"""VBenchMetrics: VBench's prompt-free dimensions on samples of fixed prompts and seeds, while the generator trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from videoar.callbacks.log_files import append_line
from videoar.errors import UserError
from videoar.metrics.vbench.aggregate import QUALITY, normalise
from videoar.metrics.vbench.backbones import Weights
from videoar.metrics.vbench.base import VBenchDimension
from videoar.metrics.vbench.registry import make_dimensions
from videoar.sampling.generate import generate_asked
from videoar.sampling.jobs import Job, all_conditions, in_batches
from videoar.sampling.request import Request

log = logging.getLogger(__name__)


class VBenchMetrics(Callback):
    """Every `interval` training batches: sample with the averaged weights, measure, log.

    Logs `vbench/<dimension>` (raw) and `vbench_normalised/<dimension>`; a number made with a substitute network is
    logged as `vbench/<dimension>@<substitute>` and has no normalised one. Each time, one line goes to
    `<log_dir>/vbench.jsonl`. Ranks share the videos.

    Args:
        interval: training batches between two measurements.
        conditions: prompts or class names; None: every class of the data, or no condition.
        seeds: one video for each condition and seed.
        dimensions: of the seven (`aggregate.QUALITY`).
        frames, size, fps: of the videos; size None: as trained.
        guidance: as in `generate`.
        batch: videos sampled together.
        weights: folder laid out like VBench's cache; None: $VBENCH_CACHE_DIR, else ~/.cache/vbench.
        substitutes: which may stand in where weights are missing ("ffmpeg", "atari"); others are left out, once warned.

    Raises:
        ValueError: an interval or batch below 1, no seeds, or an unknown dimension.
    """

    def __init__(
        self,
        interval: int = 1000,
        conditions: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
        dimensions: Sequence[str] = QUALITY,
        frames: int = 17,
        size: tuple[int, int] | None = None,
        fps: float = 8.0,
        guidance: float | str | None = None,
        batch: int = 8,
        weights: str | None = None,
        substitutes: Sequence[str] = ("ffmpeg",),
    ) -> None:
        if interval < 1 or batch < 1 or not seeds:
            raise ValueError(f"interval {interval} and batch {batch} must be at least 1, seeds {list(seeds)} not empty")
        if unknown := [name for name in dimensions if name not in QUALITY]:
            raise ValueError(f"unknown dimension {unknown[0]!r}; without prompts there are {', '.join(QUALITY)}")
        self.interval, self.conditions, self.seeds = interval, conditions, list(seeds)
        self.names, self.frames, self.size, self.fps = tuple(dimensions), frames, size, fps
        self.guidance, self.batch = guidance, batch
        self.weights, self.substitutes = Weights(Path(weights) if weights else None), tuple(substitutes)
        self._metrics: tuple[VBenchDimension, ...] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if int(pl_module.batches_seen) % self.interval == 0:  # type: ignore[arg-type]
            self._measure(trainer, pl_module)

    @torch.no_grad()
    def _measure(self, trainer: Trainer, module: Any) -> None:
        if module.kind != "generator":
            raise UserError("VBenchMetrics samples videos: it belongs to a generator's training")
        metrics = self._built(module.device)
        for metric in metrics:
            metric.reset()
        swapped = module.ema.swapped_in
        module.ema.swap_in(module.network)
        training = module.network.training
        module.network.eval()
        try:
            self._sample(trainer, module, metrics)
        finally:
            module.network.train(training)
            if not swapped:
                module.ema.swap_out(module.network)
        self._log(trainer, module, {metric.key: float(metric.compute()) for metric in metrics})

    def _built(self, device: torch.device) -> tuple[VBenchDimension, ...]:
        """The dimensions, made at the first use; what is missing is warned of once."""
        if self._metrics is None:
            made = make_dimensions(self.names, self.weights, self.substitutes)
            for name, reason in made.unavailable.items():
                log.warning("VBench %s is left out: %s", name, reason)
            if not made.metrics:
                raise UserError("none of the VBench dimensions can be measured here; see the warnings above")
            self._metrics = made.metrics
        return tuple(metric.to(device) for metric in self._metrics)

    def _jobs(self, trainer: Trainer, config: Any) -> tuple[list[Job], int]:
        """(condition, seed) of this rank's videos, and how many of them count.

        All ranks get equally many, because a sharded generator samples with all of them together.
        """
        if self.conditions is None and config.condition not in ("class", "none"):
            raise UserError("VBenchMetrics needs `conditions`, the prompts, for a model conditioned on text")
        conditions = all_conditions(config) if self.conditions is None else list(self.conditions)
        jobs: list[Job] = [(condition, seed) for condition in conditions for seed in self.seeds]
        if len(jobs) < trainer.world_size:
            raise UserError(f"{len(jobs)} videos for {trainer.world_size} ranks: give more conditions or seeds")
        mine = jobs[trainer.global_rank :: trainer.world_size]
        idle = len(jobs) % trainer.world_size != 0 and trainer.global_rank >= len(jobs) % trainer.world_size
        return mine + jobs[:idle], len(mine)

    def _sample(self, trainer: Trainer, module: Any, metrics: Sequence[VBenchDimension]) -> None:
        jobs, count = self._jobs(trainer, module.network.config)
        asked = Request((), self.frames, self.size, guidance=self.guidance)
        for _, request in in_batches(jobs, asked, self.batch):
            with trainer.precision_plugin.val_step_context():  # in the run's precision; what is measured is float32
                sample = generate_asked(module.network, module.tokenizer, request)
            if len(video := sample.video[: max(0, count)].float()):
                for metric in metrics:
                    metric.update(video, self.fps)
            count -= request.batch

    def _log(self, trainer: Trainer, module: Any, values: dict[str, float]) -> None:
        scalars = {f"vbench/{key}": value for key, value in values.items()}
        exact = {key: normalise(key, value) for key, value in values.items() if "@" not in key}
        scalars |= {f"vbench_normalised/{key}": value for key, value in exact.items()}
        module.show(scalars)
        append_line(trainer, "vbench.jsonl", {"batches_seen": int(module.batches_seen), "raw": values})
