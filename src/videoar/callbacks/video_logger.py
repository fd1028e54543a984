"""Looking at the model while it trains: contact sheets in TensorBoard, mp4 files beside them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from videoar.callbacks.media import show
from videoar.callbacks.samples import sample_like
from videoar.data.sheets import contact_sheet, moving_grid
from videoar.data.writers import write_mp4, write_png

log = logging.getLogger(__name__)


class VideoLogger(Callback):
    """After validation, with the averaged weights: real | reconstruction | (generator) sample of the same classes.

    Writes `<log_dir>/videos/batch_00001000.mp4` and `.png`, and hands both to every logger that takes them. The first
    clips of the first validation batch are shown each time, and samples have a fixed seed, so that two points of a run
    can be compared.

    Args:
        num: clips shown.
        every: show them at every so many validations.
        fps: of the mp4 files.
        frames: frames of each clip in the contact sheet.
        samples: also sample with the generator (30 transformer calls for 17 frames at 128 pixels).
        seed: of the samples.
        guidance: as in `generate`; None: the paper's schedule for the generator's condition.
    """

    def __init__(
        self,
        num: int = 4,
        every: int = 1,
        fps: float = 8.0,
        frames: int = 5,
        samples: bool = True,
        seed: int = 0,
        guidance: float | str | None = None,
    ) -> None:
        if num < 1 or every < 1:
            raise ValueError(f"num and every must be at least 1, got {num} and {every}")
        self.num, self.every, self.fps, self.frames = num, every, fps, frames
        self.samples, self.seed, self.guidance = samples, seed, guidance
        self._validations = 0
        self._batch: dict[str, Any] | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and dataloader_idx == 0 and not trainer.sanity_checking:
            made = {"rebuilt": outputs["rebuilt"]} if isinstance(outputs, dict) else {}  # a tokenizer's validation
            self._batch = {key: value[: self.num] for key, value in (batch | made).items()}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the module puts its own weights back, hence with the averaged ones.

        On every rank, because a sharded generator samples with all of them; the first one writes.
        """
        if trainer.sanity_checking or self._batch is None:
            return
        self._validations += 1
        if (self._validations - 1) % self.every == 0:
            self._show(trainer, pl_module, self._batch)
        self._batch = None

    @torch.no_grad()
    def _show(self, trainer: Trainer, module: Any, batch: dict[str, Any]) -> None:
        columns: dict[str, Tensor] = {}
        tokenizer = module.tokenizer
        with trainer.precision_plugin.val_step_context():  # as the validation steps
            if "video" in batch:
                columns["real"] = batch["video"].float()
                rebuilt = batch["rebuilt"] if "rebuilt" in batch else tokenizer.reconstruct(batch["video"])
                columns["reconstruction"] = rebuilt.float()
            else:
                columns["reconstruction"] = tokenizer.decode(tokenizer.quantize(batch["latent"].float()).latent).float()
        if module.kind == "generator" and self.samples:
            like = columns["reconstruction"]
            columns["sample"] = sample_like(trainer, module, batch, like, self.seed, self.guidance)
        rows = [list(clips) for clips in zip(*(column.cpu() for column in columns.values()))]
        self._write(trainer, int(module.batches_seen), rows, names_of(trainer, module, batch), tuple(columns))

    def _write(
        self, trainer: Trainer, seen: int, rows: list[list[Tensor]], labels: Sequence[str], columns: Sequence[str]
    ) -> None:
        log_dir = trainer.log_dir  # asks all ranks
        if not trainer.is_global_zero:
            return
        title, video = f"batch {seen}", None
        sheet = contact_sheet(rows, self.frames, labels, columns, title)
        if log_dir is not None:
            stem = Path(log_dir) / "videos" / f"batch_{seen:08}"
            write_png(stem.with_suffix(".png"), sheet)
            if max(clip.shape[1] for row in rows for clip in row) > 1:
                video = stem.with_suffix(".mp4")
                write_mp4(video, moving_grid(rows, labels, columns, title), self.fps)
            log.info("batch %d: %s in %s.png", seen, " | ".join(columns), stem)
        show(trainer.loggers, f"videos/{' | '.join(columns)}", sheet, video, seen)

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = int(state_dict["validations"])


def names_of(trainer: Trainer, module: Any, batch: dict[str, Any]) -> list[str]:
    """What each clip of a batch is called: its class, else its caption; empty where no clip has either."""
    data = getattr(trainer, "datamodule", None)
    classes = getattr(module.network.config, "class_names", None) or getattr(data, "class_names", None) or ()
    numbers = [int(label) for label in batch.get("label", ())]
    captions = [str(caption) for caption in batch.get("caption", [""] * len(numbers))]
    if getattr(module.network.config, "condition", "class") not in ("class", "none") and any(captions):
        return captions
    names = [classes[n] if 0 <= n < len(classes) else caption for n, caption in zip(numbers, captions)]
    return names if any(names) else []
