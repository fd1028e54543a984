"""FlexAttention backend: the same visibility as the dense mask, without a dense mask (long sequences on a GPU).

The block mask is built once for a geometry. What a random frame mask or a batch of prompts changes lives in small
tensors that the mask function reads, so nothing is recompiled when their contents change.
"""

# B batch · N heads · S sequence · K head width · T latent frames

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from videoar.generator.visibility import PREFIX, SequenceIds, visible

BLOCK = 128


@lru_cache(maxsize=1)
def _compiled():
    """`flex_attention` fused by the compiler; uncompiled it would materialise every score.

    It is compiled once for each geometry. Past the compiler's limit (8 by default) it would run uncompiled.
    """
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention, dynamic=False)


class FlexAttend:
    """Attention over one sequence geometry [prefix | video] with visibility decided per block.

    Args:
        ids: frame and step of every token. batch: B. window, sinks: as in `visibility.visible`.

    Raises:
        RuntimeError: at the first call with gradients on a CPU, where FlexAttention has no backward pass.
    """

    def __init__(self, ids: SequenceIds, batch: int, window: int = 0, sinks: int = 0) -> None:
        device, frames = ids.frame.device, int(ids.frame.max()) + 1
        self.frame_keep = torch.ones(batch, frames, frames, dtype=torch.bool, device=device)
        self.prefix = int((ids.frame == PREFIX).sum())
        self.prefix_lengths = torch.full((batch,), self.prefix, device=device)
        frame, step, keep, lengths = ids.frame, ids.step, self.frame_keep, self.prefix_lengths

        def base(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return visible(frame[q], step[q], frame[k], step[k], window, sinks)

        def exact(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            own = (frame[k] == frame[q]) | (frame[k] == PREFIX)
            kept = keep[b, frame[q].clamp(min=0), frame[k].clamp(min=0)] | own
            real = (frame[k] != PREFIX) | (k < lengths[b])
            return base(b, h, q, k) & kept & real

        length = frame.shape[0]
        blocks = create_block_mask(base, None, None, length, length, device=device, BLOCK_SIZE=BLOCK)
        self.plain: BlockMask = blocks
        # Every block that may hold a visible pair is marked partial, so the mask function is asked in all of them.
        some = blocks.to_dense().expand(batch, 1, -1, -1)
        counts, order = some.sum(-1).int(), some.argsort(dim=-1, descending=True, stable=True).int()
        self.general: BlockMask = BlockMask.from_kv_blocks(
            counts, order, BLOCK_SIZE=BLOCK, mask_mod=exact, seq_lengths=(length, length)
        )
        self.mask = self.plain

    def set(self, prefix_lengths: Tensor | None, frame_keep: Tensor | None) -> FlexAttend:
        """Choose what this forward pass hides beyond the geometry; contents are copied, never re-captured."""
        self.mask = self.plain if prefix_lengths is None and frame_keep is None else self.general
        self.prefix_lengths.fill_(self.prefix) if prefix_lengths is None else self.prefix_lengths.copy_(prefix_lengths)
        self.frame_keep.fill_(True) if frame_keep is None else self.frame_keep.copy_(frame_keep)
        return self

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
            raise RuntimeError("FlexAttention has no backward pass on CPU: choose attention='sdpa'")
        return _compiled()(q, k, v, block_mask=self.mask)
