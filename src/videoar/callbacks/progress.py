"""Progress with the time that is left: a bar on a terminal, lines of text in log files and pipes."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar


class Clock:
    """How long the rest of a run will take, from the mean time of its last hundred batches or so."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._seconds: float | None = None

    def tick(self) -> None:
        """A batch has ended."""
        now = time.monotonic()
        if self._last is not None:
            taken = now - self._last
            self._seconds = taken if self._seconds is None else 0.98 * self._seconds + 0.02 * taken
        self._last = now

    def rest(self) -> None:
        """What comes now is no training: it does not count."""
        self._last = None

    def left(self, module: Any) -> str:
        """The time until the run's end, `h:mm:ss`; empty where it has none or nothing is known yet."""
        run_length = getattr(module, "run_length", None)
        total = run_length() if run_length is not None else None
        if self._seconds is None or total is None:
            return ""
        left = max(0, round((total - int(module.batches_seen)) * self._seconds))
        return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"


class RunProgress(TQDMProgressBar):
    """Lightning's bar of an epoch, with the time until the end of the whole run (`eta`)."""

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.clock = Clock()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any, **more: Any) -> None:
        self.clock.tick()
        super().on_train_batch_end(trainer, pl_module, *rest, **more)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.rest()
        super().on_validation_start(trainer, pl_module)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        eta = self.clock.left(pl_module) if trainer.training else ""
        return super().get_metrics(trainer, pl_module) | ({"eta": eta} if eta else {})


class LineProgress(ProgressBar):
    """One line to stderr every `seconds`: place in the run, metrics of the progress bar, batches a second, time left.

    Validation, test and prediction have lines of their own, where they take that long.

    Args:
        seconds: the shortest time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.clock = Clock()
        self._last, self._batches = time.monotonic(), 0

    def disable(self) -> None:
        """Called by Lightning on all ranks but the first."""
        self.seconds = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.clock.tick()
        place = f"epoch {trainer.current_epoch} batch {batch_idx + 1}/{trainer.num_training_batches}"
        if trainer.max_steps > 0:
            place = f"step {trainer.global_step}/{trainer.max_steps}  {place}"
        self._now_and_then(place)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.rest()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        self._evaluated("validating", trainer.num_val_batches, batch_idx)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        self._evaluated("testing", trainer.num_test_batches, batch_idx)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        self._evaluated("predicting", trainer.num_predict_batches, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._line(f"epoch {trainer.current_epoch} validated", time.monotonic() - self._last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._line(f"done after {trainer.global_step} steps", time.monotonic() - self._last)

    def _evaluated(self, what: str, of: Any, batch_idx: int) -> None:
        total = sum(of) if isinstance(of, list) else of
        self._now_and_then(f"{what} batch {batch_idx + 1}/{total}")

    def _now_and_then(self, head: str) -> None:
        self._batches += 1
        elapsed = time.monotonic() - self._last
        if elapsed >= self.seconds:
            self._line(head, elapsed)

    def _line(self, head: str, elapsed: float) -> None:
        if self.seconds == float("inf"):
            return
        metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
        shown = [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, float | int)]
        if self._batches:
            shown.append(f"{self._batches / max(elapsed, 1e-9):.2f} it/s")
        if self.trainer.training and (eta := self.clock.left(self.trainer.lightning_module)):
            shown.append(f"eta {eta}")
        print("  ".join([head, *shown]), file=sys.stderr, flush=True)
        self._last, self._batches = time.monotonic(), 0
