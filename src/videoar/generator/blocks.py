"""The transformer block: LLaMA's (RMSNorm, SwiGLU) with one adaptive modulation shared by all layers."""

# B batch · L tokens · C width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.generator.attention import Attend, Attention, RMSNorm
from videoar.kernels.linear import Apply, plain


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

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        attend: Attend,
        linear: Apply = plain,
    ) -> Tensor:
        """x [B, L, C] → [B, L, C]. Scales and gates are offsets from 1, so a zero modulation is a plain block.

        Args:
            linear: how linear layers are applied (`kernels.linear`).
        """
        scale1, shift1, gate1, scale2, shift2, gate2 = (modulation + self.modulation).unbind(-2)
        h = self.attention_norm(x) * (1 + scale1) + shift1
        x = x + (1 + gate1) * self.attention(h, rotation, attend, linear)
        h = self.feed_forward_norm(x) * (1 + scale2) + shift2
        return x + (1 + gate2) * self.feed_forward(h, linear)
