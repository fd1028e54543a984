"""What is asked of the sampler: of pixels by users (`Request`), of latent frames by the loop (`LatentRequest`)."""

# B samples · T pixel frames · n latent frames

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from videoar.bits.pyramid import ScalePyramid
from videoar.errors import UserError
from videoar.generator.conditioning import Condition
from videoar.generator.model import Labels, VideoAR
from videoar.ranges import FRAMES, SEED, SIDE
from videoar.sampling.given import Pixels
from videoar.sampling.guidance import Guidance, default_guidance


class Progress(Protocol):
    """Called after every transformer call."""

    def __call__(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class SamplingOptions:
    """How bits are drawn.

    Attributes:
        guidance: γ(t, k).
        temperature: one value, or one a scale (coarse to fine; the last holds for all finer ones).
        greedy: take the more likely value of every bit.

    Raises:
        UserError: a temperature that is not positive.
    """

    guidance: Guidance = field(default_factory=Guidance)
    temperature: float | tuple[float, ...] = 1.0
    greedy: bool = False

    def __post_init__(self) -> None:
        values = self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)
        if not values or not all(0 < value < float("inf") for value in values):
            raise UserError(f"temperatures must be positive, got {list(values)}; greedy sampling needs none")

    def temperature_of(self, k: int) -> float:
        """The temperature of scale k."""
        if isinstance(self.temperature, tuple):
            return self.temperature[min(k, len(self.temperature) - 1)]
        return self.temperature


@dataclass(frozen=True)
class LatentRequest:
    """One clip a condition entry, as the (t, k) loop sees it.

    Attributes:
        condition: one entry a sample.
        pyramid: grids of every frame.
        frames: latent frames to produce in all.
        seeds: one a sample.
        prefix: continuous latent [B, D, n, H, W] of given frames that the clip starts with.
        progress: called after every transformer call.
    """

    condition: Labels
    pyramid: ScalePyramid
    frames: int
    seeds: Sequence[int]
    options: SamplingOptions
    prefix: Tensor | None = None
    progress: Progress | None = None


class Recorder(Protocol):
    """Makes samplers whose work is recorded and replayed (`graphs.FrameGraphs`)."""

    def sampler(self, generator: VideoAR, asked: LatentRequest) -> Any: ...


@dataclass(frozen=True)
class Request:
    """One video for each entry of `condition` (class-conditional, text, I2V and V2V).

    Attributes:
        condition: class names or labels, or prompts, as the generator's config says.
        frames: pixel frames, 1 + 4n.
        size: (height, width) in pixels, multiples of 16; None: what the generator was trained at.
        seed: sample i uses seed + i (or seed[i]), whatever the batch.
        guidance: a `Guidance`, `"none" | "ucf101" | "text"`, a constant γ, or None: the paper's schedule for the
            generator's kind of condition.
        temperature: a float, or one a scale.
        greedy: no randomness at all.
        prefix: an image or clip that the video starts with: float [3, H, W], [3, T, H, W] or [B, 3, T, H, W] in
            [-1, 1], uint8 [T, H, W, 3], or PIL images (`given.as_clips`). It comes back as the tokenizer rebuilds it.
        progress: called after every transformer call.
        graphs: record the work as CUDA graphs, which later calls with the same object and shapes replay.
    """

    condition: Labels
    frames: int = 17
    size: tuple[int, int] | None = None
    seed: int | Sequence[int] = 0
    guidance: Guidance | float | str | None = None
    temperature: float | Sequence[float] = 1.0
    greedy: bool = False
    prefix: Pixels | None = None
    progress: Progress | None = None
    graphs: Recorder | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a length, a size or a seed out of its range."""
        FRAMES.check("frames", self.frames)
        if self.size is not None and (not isinstance(self.size, Sequence) or len(self.size) != 2):
            raise UserError(f"size must be (height, width), got {self.size}")
        for side in self.size or ():
            SIDE.check("a side of size", side)
        for seed in self.seed if isinstance(self.seed, Sequence) else [self.seed]:
            SEED.check("seed", seed)

    @property
    def batch(self) -> int:
        """Samples."""
        return self.condition.batch if isinstance(self.condition, Condition) else len(self.condition)

    @property
    def seeds(self) -> list[int]:
        """One a sample."""
        return [self.seed + i for i in range(self.batch)] if isinstance(self.seed, int) else list(self.seed)

    def options(self, generator: VideoAR) -> SamplingOptions:
        """How this generator draws its bits."""
        guidance = default_guidance(generator.config.condition) if self.guidance is None else self.guidance
        heat = tuple(self.temperature) if isinstance(self.temperature, Sequence) else float(self.temperature)
        return SamplingOptions(Guidance.of(guidance), heat, self.greedy)
