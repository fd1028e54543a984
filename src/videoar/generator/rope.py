"""Multi-scale temporal RoPE (paper §4.2, eq. 7), as pure functions.

A token of frame t at (h, w) of its own scale's grid sits at (t+|Ψ|, h+|Ψ|, w+|Ψ|) behind a prefix of |Ψ| tokens; prefix
token i sits at (i, i, i). Every pair of head channels keeps the frequency it has in 1D RoPE and reads one of the
three indices, dealt round-robin (t, h, w, t, h, …) so that each axis sees high and low frequencies. With equal indices
this *is* 1D RoPE, so a text-only sequence is treated natively.
"""

# B batch · N heads · L tokens · K head width

from __future__ import annotations

import math

import torch
from torch import Tensor

from videoar.bits.pyramid import Order, ScalePyramid

FIRST_AXIS = {"multiscale_temporal_rope": 0, "rope2d": 1}


def video_positions(
    pyramid: ScalePyramid,
    frames: int,
    first_frame: int = 0,
    normalised: bool = False,
    device: torch.device | None = None,
    order: Order = "scales",
) -> Tensor:
    """(t, h, w) of every token of `frames` latent frames, float [frames·length, 3], not yet shifted by the prefix."""
    grid = pyramid.grid_positions(normalised, device, order)
    t = torch.arange(first_frame, first_frame + frames, device=device, dtype=grid.dtype)
    return torch.cat([t.repeat_interleave(pyramid.length)[:, None], grid.repeat(frames, 1)], dim=1)


def prefix_positions(length: int, device: torch.device | None = None) -> Tensor:
    """(i, i, i) of every prefix token, float [length, 3]."""
    return torch.arange(length, device=device, dtype=torch.float32)[:, None].expand(length, 3)


def rotations(positions: Tensor, head_width: int, position: str, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """cos of every token's rotation angles, and sin with the sign that `rotate` needs, float32 [..., L, K].

    Args:
        positions: (t, h, w), float [..., L, 3].
        position: `multiscale_temporal_rope`, or `rope2d` (the ablation that ignores time).
    """
    pairs = head_width // 2
    frequency = base ** (-torch.arange(pairs, device=positions.device, dtype=torch.float32) / pairs)
    first = FIRST_AXIS[position]
    axis = first + torch.arange(pairs, device=positions.device) % (3 - first)
    angles = positions.index_select(-1, axis) * frequency
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [B, N, L, K]: channel j turns with channel j + K/2. cos, sin: float32 [L, K] or [B, 1, L, K].

    (a, b) → (a·cos − b·sin, b·cos + a·sin). The angles' float32 makes the products float32, whatever x is.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin).to(x.dtype)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Fixed sinusoidal embedding of each column of positions [..., L, A], concatenated: float [..., L, width].

    Used by the `absolute` ablation (t, h, w) and, for time alone, by `rope2d`.
    """
    axes = positions.shape[-1]
    pairs = math.ceil(width / (2 * axes))
    frequency = 10000.0 ** (-torch.arange(pairs, device=positions.device, dtype=torch.float32) / pairs)
    angles = positions[..., None] * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]
