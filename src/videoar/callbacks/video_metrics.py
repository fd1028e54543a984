"""VideoMetrics: FVD, SSIM, LPIPS and bit usage over the whole validation or test set, for either module."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from videoar.callbacks.log_files import append_line
from videoar.callbacks.samples import sample_like
from videoar.errors import UserError
from videoar.losses.perceptual import Perceptual
from videoar.metrics.bits import CodebookUsage
from videoar.metrics.features.registry import load_features
from videoar.metrics.frechet import FrechetVideoDistance
from videoar.metrics.moving import MovingRatio
from videoar.metrics.reconstruction import LPIPS, SSIM
from videoar.provenance import commit, versions
from videoar.sampling.guidance import default_guidance

log = logging.getLogger(__name__)


class VideoMetrics(Callback):
    """Adds to `validate` and `test` what needs the whole set at once, with the averaged weights.

    A tokenizer's run logs `rfvd`, `ssim`, `lpips_<net>` of reconstructions and the exact `codebook/…` usage; a
    generator's run samples one video for each clip, of its class or caption, and logs `gfvd` and, in all and by class,
    `moving_ratio`: the share of moving pixels in samples over that in real clips. All under `val/` or `test/`, summed
    over ranks. PSNR, moving pixels and temporal errors of reconstructions are the module's own. Each time one line goes
    to `<log_dir>/video_metrics.jsonl`: the numbers with their protocol card.

    Args:
        features: feature net of the FVD, e.g. `atari` or `i3d:FILE`; None: no FVD.
        lpips: backbone, alex or vgg; None: no LPIPS. lpips_weights: its file; None: torchvision's cache.
        seed: of the samples; clip i of the set has the same noise at every validation.
        guidance: as in `generate`.

    Raises:
        UserError: weights that are missing (at construction for `features`, so that no run dies hours later).
    """

    def __init__(
        self,
        features: str | None = "atari",
        lpips: str | None = None,
        lpips_weights: str | None = None,
        seed: int = 0,
        guidance: float | str | None = None,
    ) -> None:
        self.lpips, self.seed, self.guidance = lpips, seed, guidance
        self.fvd = None
        if features is not None:
            self.fvd = FrechetVideoDistance(load_features(features))
        self.paired: dict[str, Metric] = {"ssim": SSIM()}
        if lpips is not None:
            perceptual = Perceptual(lpips, lpips_weights)  # type: ignore[arg-type]
            perceptual.network(torch.device("cpu"))
            self.paired[f"lpips_{lpips}"] = LPIPS(perceptual)
        self.usage: CodebookUsage | None = None
        self.moving: MovingRatio | None = None
        self._seen, self._shape = 0, (0, 0, 0)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen, self.usage, self.moving = 0, None, None
        for metric in (*self.paired.values(), *([self.fvd] if self.fvd else [])):
            metric.to(pl_module.device).reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self._update(pl_module, batch, trainer, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._finish(trainer, pl_module, "test" if trainer.testing else "val")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    @torch.no_grad()
    def _update(self, module: Any, batch: dict[str, Any], trainer: Trainer, outputs: Any) -> None:
        if module.kind == "generator" and self.fvd is None:
            return
        if "video" not in batch:
            raise UserError("VideoMetrics compares pixels, but this data set holds cached latents")
        real = batch["video"].float()
        fvd = self._fvd_of(real.shape[2])
        if module.kind == "generator":
            if fvd is None:
                return
            fake = sample_like(trainer, module, batch, real, self._seeds(trainer, len(real)), self.guidance)
            self._measure_moving(module, batch, real, fake)
        else:
            codes, fake = outputs["codes"], outputs["rebuilt"]
            for metric in self.paired.values():
                metric.update(fake, real)
            if self.usage is None:
                self.usage = CodebookUsage(len(codes.pyramid), codes.latent.shape[1]).to(module.device)
            self.usage.update(codes.bits)
        if fvd is not None:
            fvd.update(real, real=True)
            fvd.update(fake, real=False)
        self._seen += len(real)
        self._shape = tuple(real.shape[2:])

    def _measure_moving(self, module: Any, batch: dict[str, Any], real: Tensor, fake: Tensor) -> None:
        if self.moving is None:
            self.moving = MovingRatio(module.network.config.class_names or ("",)).to(module.device)
        labels = batch["label"].clamp(min=0) if len(self.moving.classes) > 1 else None
        self.moving.update(fake.clamp(-1, 1), labels)
        self.moving.update(real, labels, real=True)

    def _fvd_of(self, frames: int) -> FrechetVideoDistance | None:
        """The FVD, or None where clips are too short for its net, as in a stage of images."""
        if self.fvd is None or frames >= self.fvd.features.min_frames:
            return self.fvd
        if not self._seen:
            log.info("no FVD: %s needs %d frames, got %d", self.fvd.features.name, self.fvd.features.min_frames, frames)
        return None

    def _seeds(self, trainer: Trainer, clips: int) -> list[int]:
        """Seeds of this rank's next clips: clip i of the whole set has `seed` + i."""
        first = self.seed + self._seen * trainer.world_size + trainer.global_rank
        return [first + i * trainer.world_size for i in range(clips)]

    def _finish(self, trainer: Trainer, module: Any, split: str) -> None:
        if not self._seen:
            return
        values: dict[str, Tensor | float] = {}
        if self.fvd is not None and self.fvd.moments(real=True).count > 0:
            values["rfvd" if module.kind == "tokenizer" else "gfvd"] = self.fvd.compute()
        if module.kind == "tokenizer":
            values |= {name: metric.compute() for name, metric in self.paired.items()}
            values |= self.usage.compute().scalars("codebook/") if self.usage else {}
        if self.moving is not None:
            values |= self.moving.compute().scalars("moving_ratio")
        scalars = {name: float(value) for name, value in values.items()}
        module.show({f"{split}/{name}": value for name, value in scalars.items()})
        append_line(trainer, "video_metrics.jsonl", {"values": scalars, "card": self._card(trainer, module, split)})

    def _card(self, trainer: Trainer, module: Any, split: str) -> dict[str, Any]:
        """What must be known about the numbers."""
        frames, height, width = self._shape
        card: dict[str, Any] = {
            "split": split,
            "clips": self._seen * trainer.world_size,
            "frames": frames,
            "size": [height, width],
            "pixels": "in memory: no codec between the model and the metrics",
            "features": self.fvd.features.card() if self.fvd else None,
            "covariance": "N - 1",
            "lpips": self.lpips,
            "batches_seen": int(module.batches_seen),
            "averaged_weights": bool(module.ema.weights),
            "tokenizer": None if module.kind == "tokenizer" else module.tokenizer.fingerprint(),
        }
        if module.kind == "generator":
            guidance = self.guidance or default_guidance(module.network.config.condition)
            card |= {"seeds": f"{self.seed} + number of the clip", "guidance": guidance}
        return card | {"versions": versions(), "commit": commit()}
