"""Optimizers of one's own: groups keep their share of the learning rate, and schedulers are stepped, not overruled.

For subclasses that override `configure_optimizers`. Lightning steps no scheduler under manual optimisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


def remember_shares(optimizers: Iterable[Optimizer]) -> None:
    """Note each group's learning rate as a share of its optimizer's: what the schedule of `OptimConfig` multiplies.

    To be called before the first step; the shares are saved with the optimizer.
    """
    for optimizer in optimizers:
        base = optimizer.defaults.get("lr")
        for group in optimizer.param_groups:
            if base and group["lr"] != base:
                group.setdefault("lr_share", float(group["lr"] / base))


def own_schedulers(trainer: Trainer, optimizer: Any) -> list[Any]:
    """Lightning's entries for the schedulers that `configure_optimizers` gave this optimizer."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return [entry for entry in trainer.lr_scheduler_configs if entry.scheduler.optimizer is inner]


def step_schedulers(entries: Sequence[Any], interval: Literal["step", "epoch"], done: int) -> None:
    """Step the schedulers of this interval, at every `frequency` of the `done` steps or epochs.

    A ReduceLROnPlateau is left to its owner: Lightning drops its `monitor` under manual optimisation.
    """
    for entry in entries:
        plateau = isinstance(entry.scheduler, ReduceLROnPlateau)
        if entry.interval == interval and not plateau and done % entry.frequency == 0:
            entry.scheduler.step()
