"""A schedule over training for the flip ratio of cross-frame error correction (paper §4.2, eq. 8).

Eq. 8 ramps the ratio over the frames of one clip; this one moves its upper end over the batches of a run, so that a
young generator, whose bits are near chance anyway, first learns from clean contexts.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from videoar.errors import UserError


def ramp(batch: int, first: int, last: int, start: float, end: float) -> float:
    """`start` until batch `first`, `end` from batch `last` on, a straight line between."""
    if batch >= last:
        return end
    return start + (end - start) * max(0, batch - first) / (last - first)


class FlipSchedule(Callback):
    """Moves `p_max` of the generator's corruption from `start` to `end` between two training batches, and logs it.

    The value is a function of the module's batch counter, so a resumed run goes on where it was.

    Args:
        first_batch, last_batch: where the ramp begins and ends, in training batches.
        start, end: p_max before and after, both in [p_min, 0.5].

    Raises:
        UserError: batches out of order, ratios out of range, or a module or corruption mode without flips.
    """

    def __init__(self, first_batch: int = 0, last_batch: int = 10_000, start: float = 0.0, end: float = 0.25) -> None:
        if not 0 <= first_batch <= last_batch:
            raise UserError(f"a flip schedule needs 0 <= first_batch <= last_batch, got {first_batch}, {last_batch}")
        if not (0 <= start <= 0.5 and 0 <= end <= 0.5):
            raise UserError(f"flip ratios must lie in 0 … 0.5, got start {start} and end {end}")
        self.first_batch, self.last_batch, self.start, self.end = first_batch, last_batch, start, end
        self.p_max = start

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        corruption = getattr(pl_module, "corruption", None)
        if corruption is None or corruption.mode == "off":
            raise UserError("the flip schedule needs a generator whose corruption mode is not `off`")
        lowest = min(self.start, self.end)
        if lowest < corruption.p_min:
            raise UserError(f"the flip schedule goes down to {lowest}, below p_min {corruption.p_min}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seen = int(pl_module.batches_seen)  # type: ignore[arg-type]
        self.p_max = ramp(seen, self.first_batch, self.last_batch, self.start, self.end)
        pl_module.corruption.p_max = self.p_max  # type: ignore[union-attr]
        if pl_module.logs_now:
            pl_module.figures["train/flip_p_max"] = self.p_max  # type: ignore[operator,index]

    def state_dict(self) -> dict[str, Any]:
        return {"p_max": self.p_max}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.p_max = float(state_dict["p_max"])
