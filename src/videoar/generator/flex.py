"""FlexAttention backend: the same visibility as the dense mask, without a dense mask (long sequences on a GPU).

The block mask is built once for a geometry. What a random frame mask or a batch of prompts changes lives in small
tensors that the mask function reads, so nothing is recompiled when their contents change.
"""

# B batch · N heads · S sequence · K head width · T latent frames

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from videoar.generator.visibility import PREFIX, SequenceIds, visible

BLOCK = 128
Predicate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""FlexAttention's mask function: does query q of sample b and head h see key k?"""


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

    @torch.inference_mode(False)  # training may go on with what a validation has made
    def __init__(self, ids: SequenceIds, batch: int, window: int = 0, sinks: int = 0) -> None:
        frame, step = ids.frame.clone(), ids.step.clone()
        device, frames = frame.device, int(frame.max()) + 1
        self.frame_keep = keep = torch.ones(batch, frames, frames, dtype=torch.bool, device=device)
        self.prefix = int((frame == PREFIX).sum())
        self.prefix_lengths = lengths = torch.full((batch,), self.prefix, device=device)

        def base(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return visible(frame[q], step[q], frame[k], step[k], window, sinks)

        def prompted(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return base(b, h, q, k) & ((frame[k] != PREFIX) | (k < lengths[b]))

        def exact(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            own = (frame[k] == frame[q]) | (frame[k] == PREFIX)
            kept = keep[b, frame[q].clamp(min=0), frame[k].clamp(min=0)] | own
            return prompted(b, h, q, k) & kept

        some, full = _blocks(ids, window, sinks)
        video = F.pad(frame != PREFIX, (0, -len(frame) % BLOCK)).unflatten(0, (-1, BLOCK)).all(-1)  # no prompt in it
        self.plain = _block_mask(some, full, base, len(frame))
        self.with_prompts = _block_mask(some, full & video, prompted, len(frame))
        self.general = _block_mask(some, torch.zeros_like(full), exact, len(frame))
        self.mask = self.plain

    def set(self, prefix_lengths: Tensor | None, frame_keep: Tensor | None) -> FlexAttend:
        """Choose what this forward pass hides beyond the geometry; contents are copied, never re-captured."""
        if frame_keep is not None:
            self.mask = self.general
        else:
            self.mask = self.plain if prefix_lengths is None else self.with_prompts
        self.prefix_lengths.fill_(self.prefix) if prefix_lengths is None else self.prefix_lengths.copy_(prefix_lengths)
        self.frame_keep.fill_(True) if frame_keep is None else self.frame_keep.copy_(frame_keep)
        return self

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
            raise RuntimeError("FlexAttention has no backward pass on CPU: choose attention='sdpa'")
        run = flex_attention if torch.compiler.is_compiling() else _compiled()  # a compiled block takes it in whole
        return run(q, k, v, block_mask=self.mask)


def _blocks(ids: SequenceIds, window: int, sinks: int) -> tuple[Tensor, Tensor]:
    """Of each block of queries and keys: does it hold visible pairs, and nothing else? Two bool [S/128, S/128].

    `create_block_mask` would make all S² pairs at once (8 GB for the paper's stage III); this makes 128 rows of them.
    """
    length = len(ids.frame)
    some, full = [], []
    for first in range(0, length, BLOCK):
        rows = slice(first, min(first + BLOCK, length))
        queries = ids.frame[rows, None], ids.step[rows, None]
        seen = visible(*queries, ids.frame[None], ids.step[None], window, sinks)
        seen = F.pad(seen, (0, -length % BLOCK, 0, BLOCK - seen.shape[0])).unflatten(1, (-1, BLOCK))
        some.append(seen.any(2).any(0))
        full.append(seen.all(2).all(0))
    return torch.stack(some), torch.stack(full)


def _block_mask(some: Tensor, full: Tensor, rule: Predicate, length: int) -> BlockMask:
    """The mask that asks `rule` in the blocks of `some`, except those of `full`, where all pairs are visible."""
    partial, whole = (_listed(blocks) for blocks in (some & ~full, full))
    sizes: dict[str, Any] = {"BLOCK_SIZE": BLOCK, "mask_mod": rule, "seq_lengths": (length, length)}
    return BlockMask.from_kv_blocks(*partial, *whole, **sizes)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many key blocks each block of queries has, and their indices first: int [1, 1, n] and [1, 1, n, n]."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1)[None, None].int(), order[None, None].int()
