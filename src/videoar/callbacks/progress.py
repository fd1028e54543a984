"""Progress as lines of text, for log files and pipes, where a bar would write thousands of half-lines."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar


class LineProgress(ProgressBar):
    """One line to stderr every `seconds`: place in the run, metrics of the progress bar, batches a second.

    Args:
        seconds: the shortest time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._last, self._batches = time.monotonic(), 0

    def disable(self) -> None:
        """Called by Lightning on all ranks but the first."""
        self.seconds = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches += 1
        elapsed = time.monotonic() - self._last
        if elapsed >= self.seconds:
            place = f"epoch {trainer.current_epoch} batch {batch_idx + 1}/{trainer.num_training_batches}"
            if trainer.max_steps > 0:
                place = f"step {trainer.global_step}/{trainer.max_steps}  {place}"
            self._line(place, elapsed)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._line(f"epoch {trainer.current_epoch} validated", time.monotonic() - self._last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._line(f"done after {trainer.global_step} steps", time.monotonic() - self._last)

    def _line(self, head: str, elapsed: float) -> None:
        if self.seconds == float("inf"):
            return
        metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
        shown = [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, float | int)]
        if self._batches:
            shown.append(f"{self._batches / max(elapsed, 1e-9):.2f} it/s")
        print("  ".join([head, *shown]), file=sys.stderr, flush=True)
        self._last, self._batches = time.monotonic(), 0
