"""What a training module logs, and when: a device is asked for the figures of a step once, all together.

Lightning reads what it shows again in every batch (progress bar) and whenever a callback asks. On a device the host
would wait for it each time, so what is logged of a training step lies on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from videoar.kernels.transfer import fetched
from videoar.training.skipped import SkippedSteps

LOOK = 50
"""Batches between two looks at the count of skipped steps on an accelerator, whose host has to wait for it."""


class ReportingModule(LightningModule):
    """The logging of TrainingModule.

    Attributes:
        batches_seen: training batches so far.
        skipped: steps whose gradients were not finite.
        figures: what callbacks want logged with this batch's step, by whole name; they ask `logs_now` first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batches_seen = 0
        self.skipped = SkippedSteps()
        self.figures: dict[str, Tensor | float] = {}
        self._norm: Tensor | None = None  # of the main network's last gradient, before clipping

    @property
    def logs_now(self) -> bool:
        """Whether the loggers are shown this training batch (`log_every_n_steps`); on others nothing is computed."""
        connector = self.trainer._logger_connector  # no public name says it
        return bool(connector.should_update_logs or self.trainer.fast_dev_run)  # type: ignore[attr-defined]

    def log_scalars(self, split: str, values: dict[str, Any], batch_size: int, prog_bar: tuple[str, ...] = ()) -> None:
        """Log `split/name` of validation or test for every value: the mean over batches and ranks."""
        for name, value in values.items():
            self.log(f"{split}/{name}", value, prog_bar=name in prog_bar, batch_size=batch_size, sync_dist=True)

    def show(self, values: Mapping[str, Tensor | float]) -> None:
        """Log values of this rank under their whole names; the host waits for all of them together."""
        self._log(fetched(values), ())

    def _log(self, values: Mapping[str, Tensor], prog_bar: tuple[str, ...]) -> None:
        for name, value in values.items():
            self.log(name, value, prog_bar=name in prog_bar, batch_size=1)

    def end_step(
        self, optimizer: Optimizer, report: Callable[[], Mapping[str, Tensor | float]], prog_bar: tuple[str, ...]
    ) -> None:
        """Log where loggers are shown this batch, look for skipped steps, count the batch; the host waits once at most.

        Args:
            optimizer: the main network's; its learning rate is logged, with the gradient's norm before clipping, the
                skipped steps and `figures`.
            report: what else the step has found, logged as `train/NAME`; called only where it is.
            prog_bar: names that a progress bar shows.

        Raises:
            UserError: too many steps of one network in a row were skipped.
        """
        shown, counts = self.logs_now, self.skipped.counts
        if shown or self.device.type == "cpu" or (self.batches_seen + 1) % LOOK == 0:
            found = fetched(counts | (self._named(optimizer, report()) | self.figures if shown else {}))
            counts = {name: found.pop(name) for name in counts}
            if shown:
                found["train/skipped_steps"] = sum((count[0] for count in counts.values()), torch.zeros(()))
                self._log(found, tuple(f"train/{name}" for name in prog_bar))
            for name, count in counts.items():
                self.skipped.look(name, count, self.batches_seen)
        self.figures = {}
        self.batches_seen += 1

    def _named(self, optimizer: Optimizer, report: Mapping[str, Tensor | float]) -> dict[str, Tensor | float]:
        norm = {} if self._norm is None else {"grad_norm": self._norm}
        values = {**report, "lr": optimizer.param_groups[0]["lr"], **norm}
        return {f"train/{name}": value for name, value in values.items()}
