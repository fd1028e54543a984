"""THE residual recursion: encoding, teacher forcing, corruption and sampling all call the functions of this file.

    seen_0 = 0
    bits_k = [ down(latent − seen_{k−1}, grid_k) > 0 ]        code_k = ±1/√D
    seen_k = seen_{k−1} + up(code_k, full grid)               (paper eq. 2 and 6: the accumulated features)

`resize` alone knows the interpolation modes. Quantisation is independent for every frame (paper §4.1), so the time
axis rides along as a batch axis.
"""

# B batch · D bits per token · T latent frames · H W latent grid · h w grid of one scale · L tokens

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.bits.bsq import bits_of, code_of
from videoar.bits.pyramid import INTERLEAVED, Grid, Order, ScalePyramid

Corrupt = Callable[[Tensor, int], Tensor]
TemporalContext = Literal["first_scale", "every_scale"]
"""Which scales of a frame are shown the frame before it (`context`)."""


def resize(x: Tensor, grid: Grid, mode: Literal["area", "bilinear"]) -> Tensor:
    """Resize every frame of x [B, D, T, H, W] to `grid` (h, w).

    Residuals go down by area (each cell is the mean of what it covers), and so does the frame before in a context;
    codes go up, and accumulated features go to the next grid, bilinearly with align_corners=False. Training and
    sampling share these modes.
    """
    if x.shape[-2:] == grid:
        return x
    frames = x.transpose(1, 2).flatten(0, 1)
    if mode == "area":
        frames = F.interpolate(frames, size=grid, mode="area")
    else:
        frames = F.interpolate(frames, size=grid, mode="bilinear", align_corners=False)
    return frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def advance(seen: Tensor, code: Tensor, pyramid: ScalePyramid) -> Tensor:
    """seen + up(code): add one scale's code [B, D, T, h, w] to the accumulated codes [B, D, T, H, W]."""
    return seen + resize(code, pyramid.full, "bilinear")


def context(
    seen: Tensor,
    previous: Tensor,
    pyramid: ScalePyramid,
    k: int,
    temporal: TemporalContext = "every_scale",
    order: Order = "scales",
) -> Tensor:
    """What the generator is shown at scale k of a frame; teacher forcing and sampling both ask here.

    every_scale: two features, the frame's own accumulated codes so far (eq. 6) and the complete ones of the frame
        before, [B, 2D, T, h, w]. At the finest scale nothing is resized away, so every bit of a frame reaches the next
        one, as eq. 5 says. The frame before comes by area, as residuals do: where nothing moves it tells what the next
        bits are, at coarse scales too.
    first_scale: one feature, [B, D, T, h, w], the paper's wording (§4.2): the frame before at k = 0, the own codes at
        k > 0. What the finest scale of a frame said is then never shown to later frames, but for what a resize of it
        to the first grid keeps.

    In an interleaved order a cell is also shown the eight around it (nine times the features): what the passes before
    drew there is in `seen`.

    Args:
        seen: accumulated codes of the frame before scale k, and of those parts of k that are drawn, [B, D, T, H, W];
            zero for k = 0.
        previous: complete accumulated codes of the frame before, [B, D, T, H, W]; zero for the first frame.
    """
    grid = pyramid.grids[k]
    if temporal == "first_scale":
        shown = resize(previous if k == 0 else seen, grid, "bilinear")
    else:
        shown = torch.cat([resize(seen, grid, "bilinear"), resize(previous, grid, "area")], dim=1)
    return with_neighbours(shown) if order in INTERLEAVED else shown


def with_neighbours(x: Tensor) -> Tensor:
    """Every cell of x [B, F, T, h, w] with the eight around it, [B, 9F, T, h, w]; zeros outside the grid."""
    frames = x.transpose(1, 2).flatten(0, 1)
    around = F.unfold(frames, 3, padding=1).unflatten(-1, x.shape[-2:])
    return around.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


@dataclass(frozen=True)
class Step:
    """One scale of the recursion.

    Attributes:
        scale: index k, from 0.
        before: accumulated codes before this scale, [B, D, T, H, W].
        residual: what is left to say at grid k, [B, D, T, h, w]: the bits are its signs.
        bits: bool [B, D, T, h, w], what the generator must predict.
        code: what the context goes on with, ±1/√D [B, D, T, h, w]: the bits' code, or a corrupted one.
        seen: accumulated codes after this scale, [B, D, T, H, W].
    """

    scale: int
    before: Tensor
    residual: Tensor
    bits: Tensor
    code: Tensor
    seen: Tensor


def walk(latent: Tensor, pyramid: ScalePyramid, corrupt: Corrupt | None = None) -> Iterator[Step]:
    """Walk a latent [B, D, T, H, W] down its pyramid, coarse to fine.

    `corrupt(bits, k)` may replace the bits that feed the context (eq. 3 and 8). Residuals are then what the
    *corrupted* path leaves, so later bits are requantised targets that correct the injected errors.

    Raises:
        ValueError: the latent's grid is not the pyramid's.
    """
    if tuple(latent.shape[-2:]) != pyramid.full:
        raise ValueError(f"latent grid {tuple(latent.shape[-2:])} does not match the pyramid's {pyramid.full}")
    seen = torch.zeros_like(latent)
    for k, grid in enumerate(pyramid.grids):
        before = seen
        residual = resize(latent - seen, grid, "area")
        bits = bits_of(residual)
        kept = bits if corrupt is None else corrupt(bits, k)
        code = code_of(kept, latent.dtype, dim=1)
        seen = advance(seen, code, pyramid)
        yield Step(k, before, residual, bits, code, seen)


@dataclass(frozen=True)
class Quantized:
    """A latent in bits.

    Attributes:
        bits: one bool [B, T, h, w, D] a scale, coarse to fine.
        latent: the quantised latent [B, D, T, H, W], i.e. the sum of all upsampled codes.
        residuals: one [B, D, T, h, w] a scale, whose signs are the bits (for the entropy penalty).
        pyramid: the grids.
    """

    bits: tuple[Tensor, ...]
    latent: Tensor
    residuals: tuple[Tensor, ...]
    pyramid: ScalePyramid


def quantize(latent: Tensor, pyramid: ScalePyramid, straight_through: bool = False) -> Quantized:
    """Multi-scale residual quantisation of a latent [B, D, T, H, W] (paper §3, §4.1), computed in float32.

    Args:
        straight_through: let the gradient of the quantised latent reach `latent` unchanged (training the tokenizer).
    """
    latent = latent.float() if latent.dtype in (torch.bfloat16, torch.float16) else latent
    steps = list(walk(latent, pyramid))
    bits = tuple(step.bits.movedim(1, -1) for step in steps)
    seen = steps[-1].seen
    quantized = latent + (seen - latent).detach() if straight_through else seen
    return Quantized(bits, quantized, tuple(step.residual for step in steps), pyramid)


def decode_bits(bits: tuple[Tensor, ...], pyramid: ScalePyramid, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bits of the first scales (one bool [B, T, h, w, D] a scale) → their summed codes [B, D, T, H, W].

    Fewer scales than the pyramid has give the coarse picture those scales hold.
    """
    if not 1 <= len(bits) <= len(pyramid):
        raise ValueError(f"{len(bits)} scales of bits for a pyramid of {len(pyramid)}")
    B, T, _, _, D = bits[0].shape
    seen = torch.zeros(B, D, T, *pyramid.full, dtype=dtype, device=bits[0].device)
    for scale in bits:
        seen = advance(seen, code_of(scale, dtype).movedim(-1, 1), pyramid)
    return seen


def flatten_bits(bits: tuple[Tensor, ...]) -> Tensor:
    """One [B, T, h, w, D] a scale → [B, T·length, D] in token order (frame, scale, row, column)."""
    return torch.cat([scale.flatten(2, 3) for scale in bits], dim=2).flatten(1, 2)


def unflatten_bits(flat: Tensor, pyramid: ScalePyramid, frames: int) -> tuple[Tensor, ...]:
    """The inverse of `flatten_bits`: [B, frames·length, D] → one [B, frames, h, w, D] a scale."""
    if flat.shape[1] != pyramid.sequence_length(frames):
        raise ValueError(f"{flat.shape[1]} tokens are not {frames} frames of {pyramid.length}")
    per_frame = flat.unflatten(1, (frames, pyramid.length))
    return tuple(per_frame[:, :, s].unflatten(2, grid) for s, grid in zip(pyramid.slices, pyramid.grids))
