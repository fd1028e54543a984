"""The transformer block: LLaMA's (RMSNorm, SwiGLU) with one adaptive modulation shared by all layers."""

# B batch · L tokens · C width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.generator.attention import Attend, Attention, RMSNorm
from videoar.kernels.linear import Apply, plain

Modulation = tuple[Tensor, ...]
"""Scale, shift and gate of the attention, then of the feed-forward layer; scales and gates with their 1 added."""


class SwiGLU(nn.Module):
    """Gated feed-forward layer, C → hidden → C, without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, linear: Apply = plain) -> Tensor:
        """x [B, L, C] → [B, L, C]."""
        gate, up = linear(self.gate_up, x).chunk(2, dim=-1)
        return linear(self.down, F.silu(gate) * up)


class Block(nn.Module):
    """One layer. `modulation` [B, 1, 6, C] comes from the pooled condition; each layer adds its own learned offset."""

    def __init__(self, width: int, heads: int, hidden: int, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width, affine=False)
        self.attention = Attention(width, heads, layer)
        self.feed_forward_norm = RMSNorm(width, affine=False)
        self.feed_forward = SwiGLU(width, hidden)
        self.modulation = nn.Parameter(torch.zeros(6, width))

    def modulated(self, modulation: Tensor) -> Modulation:
        """Scales, shifts and gates of this layer, [B, 1, C] each, from what all layers share, [B, 1, 6, C]."""
        scale1, shift1, gate1, scale2, shift2, gate2 = (modulation + self.modulation).unbind(-2)
        return 1 + scale1, shift1, 1 + gate1, 1 + scale2, shift2, 1 + gate2

    def forward(
        self,
        x: Tensor,
        modulation: Tensor | Modulation,
        rotation: tuple[Tensor, Tensor] | None,
        attend: Attend,
        linear: Apply = plain,
    ) -> Tensor:
        """x [B, L, C] → [B, L, C]. Scales and gates are offsets from 1, so a zero modulation is a plain block.

        Args:
            modulation: what all layers share, or `modulated` of it, which sampling makes once a clip.
            linear: how linear layers are applied (`kernels.linear`).
        """
        own = self.modulated(modulation) if isinstance(modulation, Tensor) else modulation
        scale1, shift1, gate1, scale2, shift2, gate2 = own
        h = torch.addcmul(shift1, self.attention_norm(x), scale1)
        x = torch.addcmul(x, gate1, self.attention(h, rotation, attend, linear))
        h = torch.addcmul(shift2, self.feed_forward_norm(x), scale2)
        return torch.addcmul(x, gate2, self.feed_forward(h, linear))
