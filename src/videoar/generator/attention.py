"""Self-attention with QK-norm and RoPE, and the three ways its keys are found: dense mask, FlexAttention, KV cache."""

# B batch · N heads · L tokens of this call · S keys · K head width · C width

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.generator.places import FramePlace
from videoar.generator.rope import rotate
from videoar.kernels.attention import attention
from videoar.kernels.linear import Apply, plain
from videoar.ranges import check_memory


class Attend(Protocol):
    """How queries find their keys: q, k, v [B, N, L, K] of layer `layer` → attention output [B, N, L, K]."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class DenseAttend:
    """Teacher forcing with a dense bool mask [1 or B, 1, L, L] (None: everything is visible).

    Args:
        frame_ends: where each frame ends in the sequence (`kernels.attention` saves what lies behind).
    """

    def __init__(self, mask: Tensor | None, frame_ends: Sequence[int] = ()) -> None:
        self.mask, self.frame_ends = mask, frame_ends

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, self.mask, self.frame_ends)


class KVCache:
    """Preallocated keys and values of the frames that stay visible, for sampling with constant memory.

        [ prefix | sink frames | ring of the last w frames | current frame ]

    Visible keys are always one contiguous slice, so a sampling step needs no mask. The current frame is written behind
    the stored ones; once the ring is full it has a place of its own at the end, and moves over the oldest frame when
    the next frame begins. (RoPE is applied before storing, so the order of the keys does not matter.)

    Args:
        layers, batch, heads, head_width: the transformer's shape.
        prefix: prefix tokens P. frame_length: tokens of one frame.
        frames: latent frames that will be sampled in all. window, sinks: as in `visibility.visible`.
    """

    def __init__(
        self,
        layers: int,
        shape: tuple[int, int, int],
        prefix: int,
        frame_length: int,
        frames: int,
        window: int = 0,
        sinks: int = 0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        batch, heads, head_width = shape
        self.prefix, self.frame_length, self.sinks = prefix, frame_length, sinks
        self.ring = window if window > 0 else frames
        self.slots = min(frames, sinks + self.ring + 1)
        room = prefix + self.slots * frame_length
        if device is None or device.type == "cpu":
            each = torch.empty(0, dtype=dtype).element_size()
            check_memory(2 * layers * batch * heads * room * head_width * each, f"keys and values of {frames} frames")
        # One tensor per layer: a step then reads and writes views without a copy.
        self.keys = [torch.empty(batch, heads, room, head_width, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.empty_like(key) for key in self.keys]
        self.stored: list[int] = []  # frame ids in the order of their keys, the current frame last
        self.write = slice(0, 0)
        self.mask: Tensor | None = None
        self.place: FramePlace | None = None  # of the current frame
        self.linear: Apply = plain  # how the blocks apply their linear layers

    def restart(self) -> None:
        """Forget all frames: the next clip takes the same memory."""
        self.stored = []

    def begin_frame(self, frame: int) -> None:
        """Make room for latent frame `frame` (frames come in order; a second call does nothing)."""
        if self.stored and self.stored[-1] == frame:
            return
        if len(self.stored) == self.slots and self.slots > 0:
            newest = self.stored[-1]
            slot = self.sinks + (newest - self.sinks) % self.ring
            source = self._slot(self.slots - 1)
            target = self._slot(slot)
            for memory in (*self.keys, *self.values):
                memory[:, :, target] = memory[:, :, source]
            self.stored[slot] = newest
            self.stored[-1] = frame
        else:
            self.stored.append(frame)

    def begin_step(self, first: int, last: int, with_prefix: bool, mask: Tensor | None) -> None:
        """The next call writes tokens first … last−1 of the current frame (and the prefix before them)."""
        start = self._slot(len(self.stored) - 1).start
        self.write = slice(0 if with_prefix else start + first, start + last)
        self.mask = mask

    def _slot(self, index: int) -> slice:
        start = self.prefix + index * self.frame_length
        return slice(start, start + self.frame_length)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.write], values[:, :, self.write] = k, v
        end = self.write.stop
        return F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], attn_mask=self.mask)


def autocasts(x: Tensor) -> bool:
    """Whether operations on the device of `x` go through autocast (the meta device has none)."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def working_dtype(weight: Tensor) -> torch.dtype:
    """Of what a linear layer with this weight makes now: autocast's, or the weight's own."""
    return torch.get_autocast_dtype(weight.device.type) if autocasts(weight) else weight.dtype


class RMSNorm(nn.Module):
    """Root-mean-square normalisation of the last axis, with a learned gain if `affine`.

    It keeps the dtype of its input (its sums are float32 in any case): a GPU's autocast would widen it to float32.
    """

    def __init__(self, width: int, affine: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.to(x.dtype)
        if not autocasts(x):
            return F.rms_norm(x, (self.width,), weight, self.eps)
        with torch.autocast(x.device.type, enabled=False):
            return F.rms_norm(x, (self.width,), weight, self.eps)


class Attention(nn.Module):
    """Multi-head self-attention with RMS-normalised queries and keys (LLaMA-style, no biases).

    Args:
        width: C, a multiple of heads. heads: N. layer: index, which tells `attend` whose cache to use.
    """

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = heads, layer
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm, self.key_norm = RMSNorm(width // heads), RMSNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, attend: Attend, linear: Apply = plain
    ) -> Tensor:
        """x [B, L, C] → [B, L, C]; `rotation`: cos and sin of RoPE, or None for absolute positions."""
        q, k, v = linear(self.qkv, x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.query_norm(q), self.key_norm(k)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        return linear(self.out, attend(self.layer, q, k, v).transpose(1, 2).flatten(2))
