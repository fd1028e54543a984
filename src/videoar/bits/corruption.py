"""Teacher forcing and cross-frame error correction (paper §4.2, eq. 8 and Fig. 3).

While training, some bits are flipped before they enter the context, as a sampler's mistakes would. Every later scale is
then quantised from the residual that the *corrupted* path leaves, so the targets correct the injected errors.
"""

# B batch · D bits per token · T latent frames · K scales · L tokens

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.bits.bsq import code_of
from videoar.bits.pyramid import Order, ScalePyramid
from videoar.bits.residual import Corrupt, TemporalContext, advance, context, flatten_bits, quantize, walk
from videoar.errors import UserError

CorruptionMode = Literal["off", "per_scale", "time_dependent", "inheritance"]


@dataclass
class CorruptionConfig:
    """How training contexts are corrupted.

    Raises:
        ValueError: ratios outside 0 ≤ p_min ≤ p_max ≤ 0.5, a negative delta, or an unknown mode.
    """

    mode: CorruptionMode = "inheritance"
    """off · per_scale (Infinity: one ratio a sample, frame and scale) · time_dependent (one ratio a sample and
    frame, ramped over frames) · inheritance (the full method: the first scale also inherits the last ratio)."""
    p_min: float = 0.0
    """Lower end of the flip ratio in the first frame."""
    p_max: float = 0.25
    """Upper end of the flip ratio in the first frame."""
    delta: float = 0.01
    """How much both ends grow from one latent frame to the next."""

    def __post_init__(self) -> None:
        if self.mode not in ("off", "per_scale", "time_dependent", "inheritance"):
            raise ValueError(f"corruption mode {self.mode!r} is not off, per_scale, time_dependent or inheritance")
        if not 0 <= self.p_min <= self.p_max <= 0.5:
            raise ValueError(f"flip ratios need 0 <= p_min <= p_max <= 0.5, got {self.p_min} and {self.p_max}")
        if self.delta < 0:
            raise ValueError(f"delta must not be negative, got {self.delta}")


def flip_ratios(
    config: CorruptionConfig,
    batch: int,
    frames: int,
    scales: int,
    rng: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The flip ratio of every (sample, frame, scale), float [B, T, K], clipped to 0 … 0.5 (eq. 8).

    time_dependent:  p(t) ~ U(p_min + δt, p_max + δt), shared by the scales of a frame; t counts from 0.
    inheritance:     the same, but p(t, first scale) ~ U(p(t−1), p_max + δt) for t > 0.
    """
    if config.mode == "off":
        return torch.zeros(batch, frames, scales, device=device)
    draw = torch.rand(batch, frames, scales, generator=rng, device=device)
    if config.mode == "per_scale":
        return (config.p_min + (config.p_max - config.p_min) * draw).clamp(0, 0.5)
    ramp = config.delta * torch.arange(frames, device=device, dtype=torch.float32)
    of_frame = (config.p_min + ramp + (config.p_max - config.p_min) * draw[..., -1]).clamp(0, 0.5)
    ratios = of_frame[..., None].repeat(1, 1, scales)
    if config.mode == "inheritance" and frames > 1:
        inherited = of_frame[:, :-1]
        ceiling = (config.p_max + ramp[1:]).clamp(max=0.5)
        first = inherited + (ceiling - inherited).clamp(min=0) * draw[:, 1:, 0]
        # With a single scale the first is also the last; inheritance still starts each frame above the one before.
        ratios = torch.cat([torch.cat([ratios[:, :1, :1], first[..., None]], 1), ratios[..., 1:]], 2)
    return ratios


def flips(ratios: Tensor, rng: torch.Generator | None = None) -> Corrupt:
    """A corruption for `walk`: XOR each bit of scale k with ξ ~ Bernoulli(ratios[:, t, k]) (eq. 8).

    Args:
        ratios: flip ratios [B, T, K].
    """

    def corrupt(bits: Tensor, k: int) -> Tensor:
        noise = torch.rand(bits.shape, generator=rng, device=bits.device)
        return bits ^ (noise < ratios[:, None, :, k, None, None])

    return corrupt


@dataclass(frozen=True)
class TeacherForcing:
    """What the generator is shown and what it must predict.

    Attributes:
        tokens: context features, float [B, L, F]: D of them a token, 2D with `temporal: every_scale`, nine times as
            many in an interleaved order; the first step of the first frame is zero, since the generator puts its start
            token there.
        targets: bits, bool [B, L, D].
    """

    tokens: Tensor
    targets: Tensor


def teacher_forcing(
    latent: Tensor,
    pyramid: ScalePyramid,
    corruption: CorruptionConfig | None = None,
    rng: torch.Generator | None = None,
    order: Order = "scales",
    temporal: TemporalContext = "every_scale",
) -> TeacherForcing:
    """Turn a continuous latent [B, D, T, H, W] into a training sequence of L = T·length tokens.

    Input of (t, k): what `context` shows there of the corrupted path's codes. With corruption off, or all ratios zero,
    the targets are exactly the bits of `quantize`. Raster order: `raster_forcing`.
    """
    if order == "raster":
        return raster_forcing(latent, pyramid, corruption)
    B, _, T = latent.shape[:3]
    corrupt = None
    if corruption is not None and corruption.mode != "off":
        ratios = flip_ratios(corruption, B, T, len(pyramid), rng, latent.device)
        corrupt = flips(ratios, rng)
    steps = list(walk(latent.float(), pyramid, corrupt))
    previous = F.pad(steps[-1].seen[:, :, :-1], (0, 0, 0, 0, 1, 0))
    shown, bits = [], []
    for step in steps:
        drawn = torch.zeros_like(step.code)
        for rows, columns in pyramid.parts(step.scale, order):
            seen = advance(step.before, drawn, pyramid)
            shown.append(context(seen, previous, pyramid, step.scale, temporal, order)[..., rows, columns])
            bits.append(step.bits[..., rows, columns])
            drawn[..., rows, columns] = step.code[..., rows, columns]
    return TeacherForcing(_sequence(shown), _sequence(bits))


def _sequence(parts: list[Tensor]) -> Tensor:
    """Features of every part of a frame, [B, F, T, h, w] each → [B, T·length, F] in token order."""
    return torch.cat([part.flatten(3) for part in parts], dim=3).flatten(2).transpose(1, 2)


def raster_forcing(latent: Tensor, pyramid: ScalePyramid, corruption: CorruptionConfig | None = None) -> TeacherForcing:
    """The training sequence of next-token prediction: each token's input is the code of the token before it.

    The first token of a frame is shown the last one of the frame before.

    Raises:
        UserError: several scales, or a corruption, which needs finer scales to correct what it flips.
    """
    pyramid.steps("raster")
    if corruption is not None and corruption.mode != "off":
        raise UserError(f"raster order knows no corruption: set corruption.mode off, not {corruption.mode}")
    targets = flatten_bits(quantize(latent, pyramid).bits)
    return TeacherForcing(F.pad(code_of(targets)[:, :-1], (0, 0, 1, 0)), targets)
