"""Alarms for the known ways in which a tokenizer's training dies: each a warning with the number that shows it."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class HealthMonitor(Callback):
    """Reads the training's logged numbers and warns when the mean of the last readings is bad.

        collapsed scale           train/bit_usage/scale_k  below `bit_usage`      (1 = every bit used both ways)
        static video              train/motion_ratio       below `motion`         (1 = as much motion as in the data)
        saturated discriminator   train/discriminator      below `discriminator`  (hinge: 1 = guesses, 0 = always right)

    A warning comes once when a number turns bad, and again after it was well in between.

    Args:
        every: batches between two readings.
        readings: how many of them are averaged before anything is judged.
    """

    def __init__(
        self,
        every: int = 50,
        readings: int = 5,
        bit_usage: float = 0.1,
        motion: float = 0.1,
        discriminator: float = 0.05,
    ) -> None:
        if every < 1 or readings < 1:
            raise ValueError(f"every and readings must be at least 1, got {every} and {readings}")
        self.every, self.readings = every, readings
        self.limits = {"bit_usage/": bit_usage, "motion_ratio": motion, "discriminator": discriminator}
        self.history: dict[str, deque[float]] = {}
        self.alarmed: set[str] = set()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        seen = int(pl_module.batches_seen)  # type: ignore[arg-type]
        if seen % self.every:
            return
        for name, value in trainer.callback_metrics.items():
            limit = self._limit(name)
            if limit is None:
                continue
            history = self.history.setdefault(name, deque(maxlen=self.readings))
            history.append(float(value))
            if len(history) == self.readings:
                self._judge(name, sum(history) / self.readings, limit, seen)

    def _limit(self, name: str) -> float | None:
        for key, limit in self.limits.items():
            if name.startswith(f"train/{key}"):
                return limit
        return None

    def _judge(self, name: str, mean: float, limit: float, seen: int) -> None:
        if mean >= limit:
            self.alarmed.discard(name)
        elif name not in self.alarmed:
            self.alarmed.add(name)
            log.warning("batch %d: %s: %s = %.4f, below %.4f", seen, diagnosis(name), name, mean, limit)

    def state_dict(self) -> dict[str, Any]:
        history = {name: list(values) for name, values in self.history.items()}
        return {"history": history, "alarmed": sorted(self.alarmed)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = {name: deque(values, self.readings) for name, values in state_dict["history"].items()}
        self.alarmed = set(state_dict["alarmed"])


def diagnosis(name: str) -> str:
    """What a number below its limit means, and what usually helps."""
    if "bit_usage" in name:
        return "collapsed scale: its bits hardly change (raise losses.entropy, lower optim.lr)"
    if "motion_ratio" in name:
        return "static video: reconstructions hardly move (check stride and data, lower losses.gan)"
    return "saturated discriminator: it is always right (lower discriminator_optim.lr, raise losses.lecam or r1)"
