"""Attention under a block-causal mask on a CPU, one block of queries at a time.

torch's own call multiplies every query with every key and then masks 40 % of a five-frame clip away. Here a frame's
queries meet only the keys up to that frame's end. In bfloat16 its backward pass is slow as well: short sequences take
the three lines that define attention instead.
"""

# B batch · N heads · L queries · S keys · K head width

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.kernels import enabled

SHORT = 1024
"""Most keys for which all scores are kept for the backward pass."""


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, ends: Sequence[int] = ()) -> Tensor:
    """Scaled dot-product attention of q [B, N, L, K] with k and v [B, N, L, K] under a bool mask [1 or B, 1, L, L].

    Args:
        mask: True where a query sees a key; every query sees one at least. None: everywhere.
        ends: where blocks of the sequence end, the last is L: no query of a block sees a key behind the block's end.
    """
    if mask is None or len(ends) < 2 or q.device.type != "cpu" or not enabled("attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    trained = torch.is_grad_enabled() and q.requires_grad
    way = _defined if trained and q.dtype == torch.bfloat16 and ends[-1] <= SHORT else F.scaled_dot_product_attention
    blocks = (slice(first, end) for first, end in zip((0, *ends), ends))
    parts = [way(q[:, :, b], k[:, :, : b.stop], v[:, :, : b.stop], mask[:, :, b, : b.stop]) for b in blocks]
    return torch.cat(parts, dim=2)


def _defined(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ / √K) v."""
    with torch.autocast("cpu", enabled=False):
        unseen = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + unseen).softmax(-1) @ v
