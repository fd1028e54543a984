"""TokenizerConfig: everything that says what a video tokenizer is, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from videoar.errors import UserError
from videoar.ranges import WIDTH, Range, check_ranges

MAX_LEVELS = 8
"""Levels of a tokenizer: 7 halvings leave one latent cell of 128 pixels a side."""
FEW = Range(1, 64)
"""Blocks of a level, pixels of a patch's side, multiples of the first width."""


@dataclass
class TokenizerConfig:
    """Shape of the tokenizer; the defaults are the paper's (§4.1, appendix A, and Infinity's widths)."""

    latent_dim: int = 48
    """Bits per token D."""
    channels: int = 128
    """Width of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    """Width of each level in units of `channels`, fine to coarse; between two levels lies one stride-2 stage."""
    res_blocks: int = 2
    """Residual blocks a level in the encoder; the decoder has one more."""
    patch: int = 1
    """Side of the pixel squares folded into channels before the first convolution: cheap models start coarser."""
    temporal_stages: tuple[int, ...] = (-2, -1)
    """Stages (0 is the finest; negative counts from the coarsest) that also halve time; () leaves time alone."""
    temporal_kernel: int = 3
    """Taps of every 3x3 convolution over time: 3, or 1 for a tokenizer of images."""
    norm_groups: int = 32
    """Most groups of a GroupNorm; a width it does not divide takes 24, or else its largest divisor below."""
    scales: list[int | list[int]] | None = None
    """Explicit pyramid, coarse to fine, a side or [height, width] each; None: the default rule for every grid."""

    def __post_init__(self) -> None:
        self.multipliers = tuple(self.multipliers)
        self.temporal_stages = tuple(self.temporal_stages)
        check_ranges(self, latent_dim=WIDTH, channels=WIDTH, res_blocks=FEW, patch=FEW, norm_groups=WIDTH)
        if not 1 <= len(self.multipliers) <= MAX_LEVELS:
            raise UserError(f"multipliers: a tokenizer has 1 to {MAX_LEVELS} levels, got {len(self.multipliers)}")
        for multiplier in self.multipliers:
            FEW.check("a multiplier", multiplier)
        if self.temporal_kernel not in (1, 3):
            raise UserError(f"temporal_kernel must be 1 or 3, got {self.temporal_kernel}")
        stages = len(self.multipliers) - 1
        for stage in self.temporal_stages:
            Range(-MAX_LEVELS, MAX_LEVELS).check("a temporal stage", stage)
        if any(not -stages <= stage < stages for stage in self.temporal_stages):
            raise UserError(f"temporal_stages {self.temporal_stages} must lie in the {stages} stages")
        if self.temporal_kernel == 1 and self.temporal_stages:
            raise UserError("temporal_stages need temporal_kernel 3: one tap would drop frames")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, fine to coarse."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def halves_time(self) -> tuple[bool, ...]:
        """Whether each stride-2 stage, fine to coarse, also halves time."""
        stages = len(self.multipliers) - 1
        chosen = {stage % stages for stage in self.temporal_stages}
        return tuple(stage in chosen for stage in range(stages))

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along each side."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    @property
    def temporal_ratio(self) -> int:
        """Pixel frames per latent frame after the first: T pixels are 1 + ratio·n, latents 1 + n."""
        return 2 ** sum(self.halves_time)

    @classmethod
    def preset(cls, name: str) -> TokenizerConfig:
        """A named configuration: `debug` (seconds on CPU), `atari` (one GPU), `videoar` (the paper)."""
        if name not in PRESETS:
            raise UserError(f"no tokenizer preset {name!r}; there are {', '.join(PRESETS)}")
        return replace(PRESETS[name])


PRESETS = {
    "debug": TokenizerConfig(latent_dim=16, channels=16, multipliers=(1, 2, 2, 2, 2), res_blocks=1, norm_groups=8),
    "atari": TokenizerConfig(32, 48, (1, 2, 3, 4), res_blocks=1, patch=2, norm_groups=16),
    "videoar": TokenizerConfig(),
}
