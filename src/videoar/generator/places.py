"""Where tokens are: positions as RoPE's rotations, or added to embeddings in the ablations without it."""

# B batch · n tokens · K head width · C width

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from videoar.bits.pyramid import ScalePyramid
from videoar.generator.conditioning import Condition
from videoar.generator.config import GeneratorConfig
from videoar.generator.rope import prefix_positions, rotations, sinusoids, video_positions


@dataclass(frozen=True)
class FramePlace:
    """Where the tokens of one frame are.

    Attributes:
        scales: embeddings of their scales, [length, C].
        positions: (t, h, w), float [length, 3].
        rotation: as `rope.rotations`, [length, K] or [B, 1, length, K]; None without RoPE.
    """

    scales: Tensor
    positions: Tensor
    rotation: tuple[Tensor, Tensor] | None

    def turned(self, inside: slice) -> tuple[Tensor, Tensor] | None:
        """The rotation of some tokens."""
        if self.rotation is None:
            return None
        cos, sin = self.rotation
        return cos[..., inside, :], sin[..., inside, :]


def positions_of(
    config: GeneratorConfig, pyramid: ScalePyramid, frames: int, first_frame: int, device: torch.device
) -> Tensor:
    """(t, h, w) of every token of `frames` frames from `first_frame` on, float [frames·length, 3] (eq. 7)."""
    return video_positions(pyramid, frames, first_frame, config.normalised_positions, device, config.order)


def offset(config: GeneratorConfig, x: Tensor, positions: Tensor) -> Tensor:
    """Embeddings [B, n, C] with their positions [n, 3] added, as far as RoPE does not tell them."""
    if config.position == "absolute":
        return x + sinusoids(positions, config.width).to(x.dtype)
    if config.position == "rope2d":
        return x + sinusoids(positions[:, :1], config.width).to(x.dtype)
    return x


def rotation_of(
    config: GeneratorConfig, positions: Tensor, condition: Condition, with_prefix: bool
) -> tuple[Tensor, Tensor] | None:
    """cos and sin of tokens [n, 3] behind |Ψ| prefix tokens (eq. 7), and of those before them if asked.

    Returns:
        float32 [n, K], or [B, 1, n, K] where prefixes differ in length; None without RoPE.
    """
    prefix, lengths = condition.tokens.shape[1], condition.lengths
    if config.position == "absolute":
        return None
    shifted = positions + prefix if lengths is None else positions + lengths[:, None, None]
    if with_prefix:
        head = prefix_positions(prefix, positions.device)
        head = head if lengths is None else head.expand(lengths.shape[0], -1, -1)
        shifted = torch.cat([head, shifted], dim=-2)
    cos, sin = rotations(shifted, config.width // config.heads, config.position)
    return (cos, sin) if lengths is None else (cos[:, None], sin[:, None])
