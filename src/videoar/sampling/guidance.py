"""Temporal-spatial adaptive classifier-free guidance γ(t, k) (paper §4.2 and Appendix A, Inference)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from videoar.errors import UserError
from videoar.ranges import STRENGTH, Range, check_ranges

Schedule = Literal["none", "constant", "ucf101", "text"]


@dataclass(frozen=True)
class Guidance:
    """How strongly each scale of each frame follows the condition: logits = null + γ·(conditional − null).

    Schedules (t = latent frame, k = scale; both as a fraction 0 … 1 of the clip and of the pyramid):
        none: no guidance, one sequence a sample.
        constant: γ = `end` everywhere.
        ucf101: a frame's first scale rises from `start` to `middle` over the frames, then γ rises linearly to `end`
            within the frame (paper: 1 → 5, then 10).
        text: γ goes from `start` to `end` along both dimensions together (paper: 5 → 3).

    Attributes:
        prefix_strength: visual prefix guidance (arXiv 2605.30317): also push away, by this factor, from the logits
            under a generated prefix with a share `prefix_flip` of its bits flipped. 0 = off.
    """

    schedule: Schedule = "none"
    start: float = 1.0
    middle: float = 5.0
    end: float = 10.0
    prefix_strength: float = 0.0
    prefix_flip: float = 0.1

    def __post_init__(self) -> None:
        if self.schedule not in ("none", "constant", "ucf101", "text"):
            raise UserError(f"guidance {self.schedule!r} is not none, constant, ucf101, text or a number")
        check_ranges(self, start=STRENGTH, middle=STRENGTH, end=STRENGTH, prefix_strength=STRENGTH)
        Range(0, 0.5, whole=False).check("prefix_flip", self.prefix_flip)

    @classmethod
    def of(cls, value: Guidance | Schedule | float | str | None) -> Guidance:
        """A Guidance from a schedule's name (with the paper's values), a constant, or None.

        Raises:
            UserError: neither a known name nor a number.
        """
        if value is None or isinstance(value, Guidance):
            return value or cls()
        if isinstance(value, str) and value in PAPER:
            return PAPER[value]
        try:
            strength = float(value)
        except ValueError:
            raise UserError(f"guidance {value!r} is not {', '.join(PAPER)} or a number") from None
        STRENGTH.check("guidance", strength)
        return cls("constant", end=strength)

    @property
    def guided(self) -> bool:
        """Does sampling need the null condition's logits?"""
        return self.schedule != "none" and not (self.schedule == "constant" and self.end == 1.0)


PAPER = {
    "none": Guidance("none"),
    "ucf101": Guidance("ucf101", start=1.0, middle=5.0, end=10.0),
    "text": Guidance("text", start=5.0, end=3.0),
}


def default_guidance(condition: str) -> str:
    """The paper's schedule for a generator's kind of condition; none where there is nothing to follow."""
    return {"class": "ucf101", "none": "none"}.get(condition, "text")


def guidance_scale(guidance: Guidance, t: int, k: int, frames: int, scales: int) -> float:
    """γ(t, k) for latent frame t of `frames` and scale k of `scales`, both from 0."""
    along_t = t / (frames - 1) if frames > 1 else 0.0
    along_k = k / (scales - 1) if scales > 1 else 0.0
    if guidance.schedule == "none":
        return 1.0
    if guidance.schedule == "constant":
        return guidance.end
    if guidance.schedule == "ucf101":
        first = guidance.start + (guidance.middle - guidance.start) * along_t
        return first + (guidance.end - first) * along_k
    return guidance.start + (guidance.end - guidance.start) * (along_t + along_k) / 2


def guide(logits: Tensor, batch: int, guidance: Guidance, scale: float) -> Tensor:
    """Combine the rows of one guided call into logits [batch, n, D].

    Rows come in groups of `batch`: conditional | null (if guided) | corrupted prefix (if prefix_strength > 0).
    """
    groups = list(logits.split(batch))
    conditional = groups[0]
    guided = conditional
    if guidance.guided:
        guided = groups[1] + scale * (conditional - groups[1])
    if guidance.prefix_strength > 0:
        guided = guided + guidance.prefix_strength * (conditional - groups[-1])
    return guided
