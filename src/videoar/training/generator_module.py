"""GeneratorModule: trains the generator on the bits of a frozen tokenizer (paper §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from videoar.bits.corruption import CorruptionConfig, TeacherForcing
from videoar.bits.pyramid import ScalePyramid
from videoar.data.latents import latent_tokenizer
from videoar.errors import UserError
from videoar.generator.conditioning import Condition, batch_condition
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.generator.visibility import draw_frame_keep
from videoar.losses.bitwise import bitwise_loss
from videoar.randomness import seeded_weights
from videoar.ranges import SHARE, check_ranges
from videoar.sampling.pairing import bits_of, check_pair
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.base import LoopConfig, TrainingModule
from videoar.training.checkpoint import load_models, load_tokenizer, pack_tokenizer, tokenizer_from
from videoar.training.diagnostics import loss_report
from videoar.training.optim import OptimConfig, make_optimizer
from videoar.training.plain import from_plain, plain
from videoar.training.sharding import shard
from videoar.training.tokenizer_module import checked_video
from videoar.weights import affordable, load_strict


@dataclass
class TeachingConfig:
    """How the generator is shown its lessons, besides their corruption.

    Raises:
        UserError: a probability outside 0 … 1.
    """

    condition_drop: float = 0.1
    """Probability that a sample loses its condition (classifier-free guidance)."""
    frame_mask: float = 0.0
    """p_mask of the random frame mask (eq. 9); the window is the generator's own."""
    scale_weights: list[float] | None = None
    """Weight of a bit of each scale; None: every bit counts the same."""

    def __post_init__(self) -> None:
        check_ranges(self, condition_drop=SHARE, frame_mask=SHARE)


class GeneratorModule(TrainingModule):
    """The generator, the frozen tokenizer whose bits it learns, and one optimizer.

    The tokenizer is no submodule: it is in no state_dict and no optimizer. A checkpoint carries it whole
    under its own key, so that sampling needs a checkpoint and nothing else.

    Args:
        generator: a preset's name or a full configuration; None: that of `init_from`.
        tokenizer: checkpoint or exported folder; None: that of `init_from`.
        init_from: checkpoint or exported folder of a generator to start from (the stage before).
        corruption, teaching, optim, loop: see their classes.
        follow_tokenizer: start from `init_from` though it was trained with another tokenizer (of as many bits): after
            the tokenizer was trained on, its generator learns the new bits from what it knows of the old ones.
    """

    kind: ClassVar[Literal["tokenizer", "generator"]] = "generator"

    def __init__(
        self,
        generator: GeneratorConfig | str | None = None,
        tokenizer: str | None = None,
        init_from: str | None = None,
        corruption: CorruptionConfig | None = None,
        teaching: TeachingConfig | None = None,
        optim: OptimConfig | None = None,
        loop: LoopConfig | None = None,
        follow_tokenizer: bool = False,
    ) -> None:
        super().__init__(loop)
        if generator is None and init_from is None:
            raise UserError("give `generator` (a preset or a configuration), `init_from`, or both")
        self.corruption = from_plain(CorruptionConfig, corruption)
        self.teaching = from_plain(TeachingConfig, teaching)
        self.optim = from_plain(OptimConfig, optim)
        self.generator: VideoAR | None = None
        if follow_tokenizer and (tokenizer is None or init_from is None):
            raise UserError("`follow_tokenizer` needs `init_from`, a generator, and the `tokenizer` that it follows")
        self._wanted, self._tokenizer_path, self.init_from = generator, tokenizer, init_from
        self.follow_tokenizer = follow_tokenizer
        self._class_names: tuple[str, ...] = ()
        self._origin_checked = False
        self._frozen: list[VideoTokenizer] = []  # a list, so that it is no submodule
        self.save_hyperparameters(
            {
                "generator": plain(generator),
                "corruption": plain(self.corruption),
                "teaching": plain(self.teaching),
                "optim": plain(self.optim),
                "loop": plain(self.loop),
            }
        )

    @property
    def network(self) -> VideoAR:
        assert self.generator is not None, "configure_model builds the generator"
        return self.generator

    @property
    def tokenizer(self) -> VideoTokenizer:
        """The frozen tokenizer, on this module's device.

        Raises:
            UserError: none was given, and no checkpoint brought one.
        """
        if not self._frozen:
            raise UserError("no tokenizer: give `tokenizer`, the path of a tokenizer's checkpoint or folder")
        tokenizer = self._frozen[0]
        if next(tokenizer.parameters()).device != self.device:
            tokenizer.to(self.device)
        return tokenizer

    # ---- building ---------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Learn the names of the classes from the data module."""
        self._class_names = tuple(getattr(getattr(self.trainer, "datamodule", None), "class_names", ()) or ())

    def configure_model(self) -> None:
        """Build the generator, now that the classes are known, and load what it starts from."""
        if self.generator is not None:
            self._with_classes(self.generator.config)
            return
        earlier = load_models(self.init_from, ema=True) if self.init_from is not None else None
        if self._tokenizer_path is not None:
            self._adopt(load_tokenizer(self._tokenizer_path))
        elif earlier is not None:
            self._adopt(earlier[1])
        config = self._with_classes(_wanted_config(self._wanted, earlier))
        check_condition = getattr(getattr(self._trainer, "datamodule", None), "check_condition", None)
        if check_condition is not None and self.trainer.state.fn == "fit":
            check_condition(config.condition)
        if self._frozen:
            config = replace(config, tokenizer_fingerprint=self._frozen[0].encoder_fingerprint())
        with seeded_weights():
            self.generator = affordable(VideoAR, config)
        if earlier is not None:
            load_strict(self.generator, earlier[0].state_dict(), str(self.init_from))
            self._check_lineage(earlier[0])
        if self._frozen:
            check_pair(self.generator, self._frozen[0])
        self.generator.checkpointing = self.loop.checkpointing
        if self.device_mesh is not None:  # under ModelParallelStrategy
            shard(self.generator, self.device_mesh["data_parallel"], self.trainer.precision)

    def _with_classes(self, config: GeneratorConfig) -> GeneratorConfig:
        """The configuration with the data's classes, or an error if it has others already."""
        names = self._class_names
        if config.condition != "class" or not names or config.class_names == names:
            return config
        if config.class_names:
            raise UserError(
                f"the generator knows {len(config.class_names)} classes ({', '.join(config.class_names[:3])}, …),"
                f" the data has {len(names)} ({', '.join(names[:3])}, …)"
            )
        return replace(config, num_classes=len(names), class_names=names)

    def _check_lineage(self, earlier: VideoAR) -> None:
        """The stage before must have learned the same tokenizer's bits, unless it is to learn new ones."""
        if self._frozen and not self.follow_tokenizer:
            check_pair(earlier, self._frozen[0])

    def _adopt(self, tokenizer: VideoTokenizer) -> None:
        self._frozen = [tokenizer.requires_grad_(False).eval()]

    def configure_optimizers(self) -> list[Optimizer]:
        return [make_optimizer(self.network, self.optim)]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.loop.compile:
            for block in self.network.blocks:
                block.compile()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        batch = super().on_before_batch_transfer(batch, dataloader_idx)
        if self.network.config.condition == "class" and isinstance(batch, dict) and "label" in batch:
            encoder: Any = self.network.encode_condition
            encoder.check(batch["label"].clamp(min=0))
        return batch

    # ---- one training step ------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        latent, pyramid = self.latents(batch)
        B, frames = latent.shape[0], latent.shape[2]
        ratio = self.tokenizer.config.spatial_ratio
        self.network.config.size = (pyramid.full[0] * ratio, pyramid.full[1] * ratio)  # sampling's default
        rng = self.rng()
        lesson = self.network.lesson(latent, pyramid, self.corruption, rng)
        condition = self._condition(batch, self.teaching.condition_drop, rng)
        keep = None
        if self.teaching.frame_mask > 0:
            keep = draw_frame_keep(B, frames, self.teaching.frame_mask, rng, latent.device)
        logits = self.network(lesson.tokens, condition, pyramid, frames, bits=lesson.targets, frame_keep=keep)
        result = bitwise_loss(logits, lesson.targets, pyramid, frames, self.teaching.scale_weights)
        extra = self.extra_terms(logits, lesson, batch)
        loss = sum(extra.values(), result.loss)
        optimizer: Any = self.optimizers()
        self.descend("generator", loss, optimizer, self.optim, batch_idx)
        self.end_step(optimizer, lambda: loss_report(result) | extra, prog_bar=("loss", "accuracy"))
        return {"loss": loss.detach()}

    def extra_terms(self, logits: Tensor, lesson: TeacherForcing, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A hook for subclasses: more terms of the loss by name, none here.

        Each is a scalar that is added to the bits' cross-entropy as it is (a weight belongs into it) and is logged as
        `train/NAME` and `val/NAME`. `logits` are [B, L, D] of the whole clip; `lesson` holds the tokens and the target
        bits, uncorrupted in validation.
        """
        return {}

    @torch.no_grad()
    def latents(self, batch: dict[str, Any]) -> tuple[Tensor, ScalePyramid]:
        """Latents [B, D, T, H, W] of a batch of pixels, or the cached ones it holds, and their pyramid."""
        tokenizer = self.tokenizer
        if "latent" in batch:
            self._check_origin(batch["path"])
            latent = batch["latent"].float()
        else:
            latent = tokenizer.encode(checked_video(batch)).float()
        ratio = tokenizer.config.spatial_ratio
        height, width = latent.shape[-2] * ratio, latent.shape[-1] * ratio
        return latent, tokenizer.pyramid(height, width)

    def _check_origin(self, paths: Sequence[str]) -> None:
        """Cached latents must be of this tokenizer; looked up in the files of the first batch."""
        if self._origin_checked:
            return
        own = bits_of(self.tokenizer)
        for path in paths:
            maker = latent_tokenizer(path) if Path(path).is_file() else ""
            if maker and maker not in own:
                raise UserError(f"{path} was written by tokenizer {maker}, this one is {own[0]}")
        self._origin_checked = True

    def _condition(self, batch: dict[str, Any], drop: float, rng: torch.Generator | None) -> Condition:
        """The encoded conditions; null where a sample has none (label −1, empty caption) or is drawn to lose it."""
        condition = batch_condition(self.network, batch)
        return self.network.drop_condition(condition, drop, rng) if drop > 0 else condition

    # ---- validation and test (with the averaged weights, without corruption) ----------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, split: str, batch: dict[str, Any]) -> None:
        latent, pyramid = self.latents(batch)
        lesson = self.network.lesson(latent, pyramid)
        frames = latent.shape[2]
        condition = self._condition(batch, 0.0, None)
        logits = self.network(lesson.tokens, condition, pyramid, frames, bits=lesson.targets)
        report = loss_report(bitwise_loss(logits, lesson.targets, pyramid, frames))
        report |= self.extra_terms(logits, lesson, batch)
        self.log_scalars(split, report, latent.shape[0], prog_bar=("loss", "accuracy"))

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"]["generator"] = checkpoint["generator_config"]  # with classes, size, tokenizer
        checkpoint["tokenizer"] = pack_tokenizer(self.tokenizer, plain(self.tokenizer.config))

    def _check_config(self, saved: dict[str, Any]) -> None:
        if not self._frozen:  # a run that names no tokenizer goes on with the checkpoint's
            self.network.config.tokenizer_fingerprint = saved.get("tokenizer_fingerprint", "")
        super()._check_config(saved)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.network.config.size = tuple(checkpoint["generator_config"]["size"])
        self._adopt(tokenizer_from(checkpoint, "the checkpoint"))
        check_pair(self.network, self._frozen[0])


def _wanted_config(wanted: Any, earlier: tuple[VideoAR, VideoTokenizer] | None) -> GeneratorConfig:
    if wanted is None:
        assert earlier is not None
        return earlier[0].config
    return GeneratorConfig.preset(wanted) if isinstance(wanted, str) else from_plain(GeneratorConfig, wanted)
