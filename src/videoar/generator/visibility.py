"""Who sees whom: ONE predicate, from which the dense mask and the FlexAttention block mask are both made.

    query            sees the prefix | every step of earlier visible frames | its frame's steps up to its own

A step is a scale; in raster order, every token is a step of its own (`ScalePyramid.steps`).

Earlier frames are visible inside a window of w frames (paper eq. 9), and a random frame mask may drop single
(query frame, earlier frame) pairs. The own frame and the prefix are always visible.
"""

# B batch · P prefix tokens · L video tokens · S = P + L sequence · T latent frames

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videoar.bits.pyramid import Order, ScalePyramid

PREFIX = -1
"""Frame id of prefix tokens."""


def visible(
    query_frame: Tensor,
    query_step: Tensor,
    key_frame: Tensor,
    key_step: Tensor,
    window: int = 0,
    sinks: int = 0,
) -> Tensor:
    """Does a query see a key? Element-wise on frame and step ids that broadcast; bool.

    Args:
        window: earlier frames that stay visible; 0 = all of them.
        sinks: the first so many frames stay visible for ever.
    """
    prefix = key_frame == PREFIX
    own = (key_frame == query_frame) & (key_step <= query_step)
    earlier = (key_frame < query_frame) & ~prefix
    if window > 0:
        earlier = earlier & ((key_frame >= query_frame - window) | (key_frame < sinks))
    return prefix | own | earlier


@dataclass(frozen=True)
class SequenceIds:
    """Frame and step id of every token of a sequence [prefix | video], long [S] each."""

    frame: Tensor
    step: Tensor

    @classmethod
    def build(
        cls,
        pyramid: ScalePyramid,
        frames: int,
        prefix: int,
        device: torch.device | None = None,
        order: Order = "scales",
    ) -> SequenceIds:
        """Ids of `prefix` prefix tokens followed by `frames` latent frames."""
        head = torch.full((prefix,), PREFIX, device=device)
        frame = torch.arange(frames, device=device).repeat_interleave(pyramid.length)
        step = pyramid.step_ids(order, device).repeat(frames)
        return cls(torch.cat([head, frame]), torch.cat([torch.zeros_like(head), step]))


def dense_mask(
    query: SequenceIds,
    key: SequenceIds,
    window: int = 0,
    sinks: int = 0,
    prefix_lengths: Tensor | None = None,
    frame_keep: Tensor | None = None,
) -> Tensor:
    """The predicate as a mask for scaled_dot_product_attention, bool [1 or B, 1, queries, keys].

    Args:
        prefix_lengths: real prefix tokens of each sample, long [B]; later prefix positions are padding nobody sees.
        frame_keep: random frame mask, bool [B, T, T] (query frame, key frame); False drops an earlier frame.
    """
    qf, qs, kf, ks = query.frame[:, None], query.step[:, None], key.frame[None], key.step[None]
    mask = visible(qf, qs, kf, ks, window, sinks)[None]
    if frame_keep is not None:
        kept = frame_keep[:, query.frame.clamp(min=0)][:, :, key.frame.clamp(min=0)]
        mask = mask & (kept | ((kf == PREFIX) | (kf == qf))[None])
    if prefix_lengths is not None:
        index = torch.arange(key.frame.shape[0], device=key.frame.device)
        mask = mask & ((kf != PREFIX) | (index < prefix_lengths[:, None])[:, None])
    return mask[:, None]


def step_mask(
    pyramid: ScalePyramid,
    stored: Sequence[int],
    inside: slice,
    prefix: int,
    with_prefix: bool,
    lengths: Tensor | None,
    device: torch.device,
    order: Order = "scales",
) -> Tensor | None:
    """Mask of one transformer call over the keys in the cache; None where all of them are visible.

    That is so for the tokens of one step once the prefix is stored, if prefixes have one length.

    Args:
        stored: frame ids in the order of the cached keys, the frame being sampled last.
        inside: the call's tokens in their frame. with_prefix: they follow the prefix's own `prefix` tokens.
        lengths: real prefix tokens of each sample, long [B], where they differ.
    """
    one_step = any(s.start <= inside.start and inside.stop <= s.stop for s in pyramid.steps(order))
    if one_step and not with_prefix and lengths is None:
        return None
    step = pyramid.step_ids(order, device)
    head = SequenceIds(
        torch.full((prefix,), PREFIX, device=device), torch.zeros(prefix, device=device, dtype=torch.long)
    )
    end = (len(stored) - 1) * pyramid.length + inside.stop
    frames = [torch.full((pyramid.length,), frame, device=device) for frame in stored]
    key = SequenceIds(
        torch.cat([head.frame, *frames])[: prefix + end],
        torch.cat([head.step, *[step] * len(stored)])[: prefix + end],
    )
    query = SequenceIds(torch.full_like(step[inside], stored[-1]), step[inside])
    if with_prefix:
        query = SequenceIds(torch.cat([head.frame, query.frame]), torch.cat([head.step, query.step]))
    return dense_mask(query, key, 0, 0, lengths)


def draw_frame_keep(
    batch: int,
    frames: int,
    p_mask: float,
    rng: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """A random frame mask (paper eq. 9): each (sample, t, t') is kept with probability 1 − p_mask, bool [B, T, T]."""
    return torch.rand(batch, frames, frames, generator=rng, device=device) >= p_mask
