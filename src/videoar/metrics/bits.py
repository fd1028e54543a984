"""What the generator is trained on, measured in bits: accuracy per scale and frame, and how the bits are used."""

# B batch · T latent frames · K scales · L tokens = T · pyramid.length · D bits per token

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from videoar.bits.pyramid import ScalePyramid

_CODES_UP_TO = 16  # bits; above this 2^D codes are too many to tick off one by one


@dataclass  # not frozen: torchmetrics rebuilds what `compute` returns, and turns one-element vectors into scalars
class BitScores:
    """Accuracies in [0, 1]; NaN where nothing was seen.

    Attributes:
        bits, tokens: over every bit, and over every token with all its D bits right (the last scale dominates both).
        bits_per_scale, tokens_per_scale: [K].
        bits_per_frame: [T].
        bits_per_frame_and_scale: [T, K].
    """

    bits: Tensor
    tokens: Tensor
    bits_per_scale: Tensor
    tokens_per_scale: Tensor
    bits_per_frame: Tensor
    bits_per_frame_and_scale: Tensor

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """Flat names for a logger: `bits`, `tokens`, `bits/scale_1`, …, `bits/frame_1`, …"""
        out = {f"{prefix}bits": float(self.bits), f"{prefix}tokens": float(self.tokens)}
        out |= {f"{prefix}bits/scale_{k}": float(v) for k, v in enumerate(self.bits_per_scale.reshape(-1), 1)}
        return out | {f"{prefix}bits/frame_{t}": float(v) for t, v in enumerate(self.bits_per_frame.reshape(-1), 1)}


class BitAccuracy(Metric):
    """Share of bits predicted right, per scale and per latent frame (paper §4.2: one logit a bit).

    Args:
        pyramid: the grids of one frame.
        frames: the most latent frames a sequence may have.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    tokens_right: Tensor
    tokens: Tensor

    def __init__(self, pyramid: ScalePyramid, frames: int, bits: int) -> None:
        super().__init__()
        self.pyramid, self.frames, self.width = pyramid, frames, bits
        for name in ("right", "tokens_right", "tokens"):
            self.add_state(name, torch.zeros(frames, len(pyramid), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add logits (or bool bits) [B, L, D] and target bits bool [B, L, D].

        Raises:
            ValueError: shapes differ, D is not `bits`, or L is not 1 … `frames` frames of the pyramid.
        """
        if prediction.shape != target.shape or target.shape[-1] != self.width:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            raise ValueError(f"prediction and target are {shapes}, expected [B, L, {self.width}]")
        frames, rest = divmod(target.shape[1], self.pyramid.length)
        if rest or not 1 <= frames <= self.frames:
            raise ValueError(f"{target.shape[1]} tokens are not 1 to {self.frames} frames of {self.pyramid.length}")
        bits = prediction if prediction.dtype == torch.bool else prediction > 0
        right = (bits == target.bool()).unflatten(1, (frames, self.pyramid.length))
        for k, s in enumerate(self.pyramid.slices):
            of_scale = right[:, :, s]
            self.right[:frames, k] += of_scale.sum((0, 2, 3)).to(self.right)
            self.tokens_right[:frames, k] += of_scale.all(-1).sum((0, 2)).to(self.right)
            self.tokens[:frames, k] += of_scale.shape[0] * of_scale.shape[2]

    def compute(self) -> BitScores:
        """All accuracies; a frame that no sequence reached is NaN."""
        right, n, all_right = self.right, self.tokens * self.width, self.tokens_right
        return BitScores(
            bits=right.sum() / n.sum(),
            tokens=all_right.sum() / self.tokens.sum(),
            bits_per_scale=right.sum(0) / n.sum(0),
            tokens_per_scale=all_right.sum(0) / self.tokens.sum(0),
            bits_per_frame=right.sum(1) / n.sum(1),
            bits_per_frame_and_scale=right / n,
        )


@dataclass  # not frozen: torchmetrics rebuilds what `compute` returns, and turns one-element vectors into scalars
class Usage:
    """How evenly a tokenizer uses its bits.

    Attributes:
        entropy_per_scale: [K], mean over the D bits of each bit's entropy, in bits: 1 = both values equally often.
        dead_bits_per_scale: [K], share of bits that never changed value.
        codes: share of the 2^D codes that occurred (any scale); None when D > 16.
    """

    entropy_per_scale: Tensor
    dead_bits_per_scale: Tensor
    codes: Tensor | None

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """Flat names for a logger."""
        out = {f"{prefix}entropy/scale_{k}": float(v) for k, v in enumerate(self.entropy_per_scale.reshape(-1), 1)}
        out |= {f"{prefix}dead_bits/scale_{k}": float(v) for k, v in enumerate(self.dead_bits_per_scale.reshape(-1), 1)}
        return out if self.codes is None else out | {f"{prefix}codes_used": float(self.codes)}


class CodebookUsage(Metric):
    """Bit usage per scale, and, for D ≤ 16, the share of all codes that occur.

    Args:
        scales: number of scales K.
        bits: bits per token D.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    ones: Tensor
    tokens: Tensor
    seen: Tensor

    def __init__(self, scales: int, bits: int) -> None:
        super().__init__()
        self.width = bits
        self.add_state("ones", torch.zeros(scales, bits, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros(scales, dtype=torch.float64), dist_reduce_fx="sum")
        codes = 2**bits if bits <= _CODES_UP_TO else 0
        self.add_state("seen", torch.zeros(codes, dtype=torch.int64), dist_reduce_fx="max")

    def update(self, bits: tuple[Tensor, ...]) -> None:
        """Add the bits of a batch, one bool [B, T, h, w, D] a scale (`Quantized.bits`)."""
        if len(bits) != len(self.tokens) or any(scale.shape[-1] != self.width for scale in bits):
            raise ValueError(
                f"expected {len(self.tokens)} scales of {self.width} bits, got {[tuple(b.shape) for b in bits]}"
            )
        for k, scale in enumerate(bits):
            flat = scale.flatten(0, -2)
            self.ones[k] += flat.sum(0).to(self.ones)
            self.tokens[k] += len(flat)
            if len(self.seen):
                index = (flat.long() << torch.arange(self.width, device=flat.device)).sum(-1)
                self.seen[index] = 1

    def compute(self) -> Usage:
        """Usage so far; raises ValueError when nothing was added."""
        if (self.tokens == 0).any():
            raise ValueError("codebook usage was computed before any bits were added")
        p = self.ones / self.tokens[:, None]
        entropy = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0))
        dead = ((self.ones == 0) | (self.ones == self.tokens[:, None])).double()
        codes = self.seen.double().mean() if len(self.seen) else None
        return Usage(entropy.mean(1), dead.mean(1), codes)
