"""The head: the feature of a token → the logits of its D bits, all at once (the paper) or in groups, one after another.

Bits that are drawn independently give the mean of what is possible: a sprite that may be in one of ten places needs
many bits to flip together, and appears nowhere. A light head that draws a token's bits in groups, each told the groups
before, makes them agree. It adds no call of the transformer. (RQ-Transformer's depth transformer, arXiv 2203.01941, in
small.)
"""

# B batch · n tokens · C width · D bits per token · G groups · M hidden width

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(Protocol):
    """What model and sampler ask of a head."""

    parts: tuple[slice, ...]
    """The groups of bits, in the order in which they are drawn."""

    def __call__(self, x: Tensor, bits: Tensor | None = None) -> Tensor:
        """Features [B, n, C] and, for more than one group, the true bits [B, n, D] → logits [B, n, D]."""

    def begin(self, x: Tensor) -> Tensor:
        """What the features [B, n, C] say to all groups; computed once a call."""

    def group(self, state: Tensor, told: Tensor, index: int) -> Tensor:
        """Logits [B, n, D/G] of one group, given `begin`'s state and the bits [B, n, g·D/G] of the groups before."""


class BitHead(nn.Linear):
    """One logit a bit, all bits at once (paper §4.2)."""

    def __init__(self, width: int, bits: int) -> None:
        super().__init__(width, bits)
        self.parts = (slice(0, bits),)

    def forward(self, x: Tensor, bits: Tensor | None = None) -> Tensor:
        return super().forward(x)

    def begin(self, x: Tensor) -> Tensor:
        return super().forward(x)

    def group(self, state: Tensor, told: Tensor, index: int) -> Tensor:
        return state


class GroupedBitHead(nn.Module):
    """logits_g = a_g·x + b_g·signs_{<g} + W_g · silu(A_g x + B_g signs_{<g}): G small networks beside the plain head.

    Each is told what the groups before have drawn.

    Args:
        width: C. bits: D, a multiple of groups. groups: G. hidden: M, hidden width of a group.
    """

    def __init__(self, width: int, bits: int, groups: int, hidden: int) -> None:
        super().__init__()
        size, self.bits = bits // groups, bits
        self.parts = tuple(slice(g * size, (g + 1) * size) for g in range(groups))
        self.hidden = tuple(slice(bits + g * hidden, bits + (g + 1) * hidden) for g in range(groups))
        self.read = nn.Linear(width, bits + groups * hidden)
        self.told = nn.Linear(bits, bits + groups * hidden, bias=False)
        self.write = nn.Parameter(torch.randn(groups, hidden, size) * 0.02)

    def forward(self, x: Tensor, bits: Tensor | None = None) -> Tensor:
        if bits is None:
            raise ValueError("a head in groups needs the true bits of every token: forward(…, bits=lesson.targets)")
        weight = self.told.weight
        state = self.read(x) + F.linear(_signs(bits, x.dtype), weight * self.mask(weight.device))
        direct, hidden = state[..., : self.bits], F.silu(state[..., self.bits :]).unflatten(-1, (len(self.parts), -1))
        return direct + torch.einsum("...gm,gmd->...gd", hidden, self.write).flatten(-2)

    def mask(self, device: torch.device) -> Tensor:
        """Which bits each row of `told` may read, bool [D + G·M, D]: those of the groups before its own.

        Computed at each call: a buffer that no file holds would be left empty by loading.
        """
        groups = torch.arange(len(self.parts), device=device)
        earlier = groups[:, None] > groups.repeat_interleave(self.bits // len(groups))  # [G, D]
        sizes = self.bits // len(groups), (self.told.out_features - self.bits) // len(groups)
        return torch.cat([earlier.repeat_interleave(size, 0) for size in sizes])

    def begin(self, x: Tensor) -> Tensor:
        return self.read(x)

    def group(self, state: Tensor, told: Tensor, index: int) -> Tensor:
        part, hidden = self.parts[index], self.hidden[index]
        signs, weight = _signs(told, state.dtype), self.told.weight[:, : part.start]
        inner = F.silu(state[..., hidden] + F.linear(signs, weight[hidden]))
        return state[..., part] + F.linear(signs, weight[part]) + inner @ self.write[index]


def _signs(bits: Tensor, dtype: torch.dtype) -> Tensor:
    return bits.to(dtype) * 2 - 1


def make_head(width: int, bits: int, groups: int) -> BitHead | GroupedBitHead:
    """The head of a generator of `width` for tokens of `bits` bits in `groups` groups."""
    return BitHead(width, bits) if groups == 1 else GroupedBitHead(width, bits, groups, max(64, width // 2))
