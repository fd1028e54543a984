"""Says when the curriculum changes, and logs what the batches really held."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

log = logging.getLogger(__name__)


class StageSwitch(Callback):
    """Announces every stage of the curriculum when its first batch trains, and what the one before really held.

    The stage of a batch is the sampler's decision, a function of the batch number; nothing is switched here, so
    nothing can be switched late. Logged under `curriculum/`: stage, frames, height, width, clips a batch, and the
    share of image batches and of unlabelled clips so far in the stage, which should approach what the stage asks for.
    """

    def __init__(self) -> None:
        self.stage = -1
        self.counts: dict[str, Any] = {"batches": 0, "image_batches": 0, "clips": 0, "unlabelled": 0}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        seen = int(pl_module.batches_seen)  # type: ignore[arg-type]
        stage_at = getattr(getattr(trainer, "datamodule", None), "stage_at", None)
        stage = stage_at(seen) if stage_at is not None else 0
        if stage != self.stage:
            if trainer.is_global_zero:
                log.info("batch %d trains in stage %d; %s", seen, stage + 1, self._past())
            self.stage, self.counts = stage, dict.fromkeys(self.counts, 0)
        self._count(batch)
        if pl_module.logs_now:
            figures = {f"curriculum/{name}": value for name, value in self._report(batch).items()}
            pl_module.figures |= figures  # type: ignore[operator]

    def _past(self) -> str:
        """What the stage that ends has held."""
        if not self.counts["batches"]:
            return "the run begins"
        return "stage {} had {batches} batches, {image_batches} of them images, {clips} clips".format(
            self.stage + 1, **self.counts
        )

    def _count(self, batch: dict[str, Any]) -> None:
        clip = _clip(batch)
        self.counts["batches"] += 1
        self.counts["image_batches"] += clip.shape[2] == 1
        self.counts["clips"] += clip.shape[0]
        self.counts["unlabelled"] += (batch["label"] < 0).sum()  # a tensor: the host need not wait for a number

    def _report(self, batch: dict[str, Any]) -> dict[str, float]:
        clips, _, frames, height, width = _clip(batch).shape
        now = {"stage": self.stage + 1, "frames": frames, "height": height, "width": width, "clips": clips}
        return now | {
            "image_share": self.counts["image_batches"] / self.counts["batches"],
            "unlabelled_share": self.counts["unlabelled"] / self.counts["clips"],
        }

    def state_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "counts": {name: int(count) for name, count in self.counts.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stage, self.counts = int(state_dict["stage"]), dict(state_dict["counts"])


def _clip(batch: dict[str, Any]) -> Tensor:
    """The tensor a batch is made of: pixels or cached latents."""
    return batch["video"] if "video" in batch else batch["latent"]
