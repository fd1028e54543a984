"""The sampler: frame by frame, scale by scale (paper §4.2), one transformer call for each (t, k).

for t in frames:
    for k in scales:
        logits = generator.step(context of (t, k))        # everything before is in the KV cache
        bits   = draw(guide(logits))
        seen   = advance(seen, code(bits))                # the same line that training walks
"""

# B samples · R rows of a call (samples x guidance groups) · D bits · T latent frames · h w grid of one scale

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from videoar.bits.bsq import code_of
from videoar.bits.pyramid import INTERLEAVED, Order
from videoar.bits.residual import advance, context, quantize
from videoar.generator.conditioning import Condition, stack
from videoar.generator.model import VideoAR
from videoar.sampling.draw import Noise, draw_bits
from videoar.sampling.guidance import guidance_scale, guide
from videoar.sampling.request import LatentRequest

Record = Callable[[Callable[[], Any]], tuple[Callable[[], Any], Any]]
"""Runs a function and records its work: (what replays it, its result). See `FrameGraphs.record`."""


@dataclass(frozen=True)
class LatentFrame:
    """One sampled latent frame.

    Attributes:
        index: its place in the clip, from 0.
        bits: one bool [B, 1, h, w, D] a scale.
        latent: their summed codes [B, D, 1, H, W].
        steps: transformer calls made so far.
    """

    index: int
    bits: tuple[Tensor, ...]
    latent: Tensor
    steps: int


class LatentSampler:
    """The (t, k) loop over latent frames; `frames()` is an iterator, so frames can be decoded while others are sampled.

    Nothing in the loop waits for the device: all shapes follow from (t, k), and only noise is sent there, once a frame.

    Args:
        asked: the clip.
        record: how to record the work of a frame, which the clips after `restart` then replay; None: do not.

    Raises:
        ValueError: a generator of another order (`raster.sampler_of` chooses the sampler), or not one seed a sample.
    """

    orders: ClassVar[tuple[Order, ...]] = ("scales", *INTERLEAVED)

    def __init__(self, generator: VideoAR, asked: LatentRequest, record: Record | None = None) -> None:
        if generator.config.order not in self.orders:
            orders = ", ".join(self.orders)
            raise ValueError(f"{type(self).__name__} samples order {orders}, not {generator.config.order}")
        pyramid, frames = asked.pyramid, asked.frames
        self.generator, self.pyramid, self.total, self.options = generator, pyramid, frames, asked.options
        self.calls = generator.steps(pyramid)
        encoded = generator.condition(asked.condition)
        self.batch, self.condition = encoded.batch, self._rows(encoded)
        with torch.no_grad():
            self.cache = generator.new_cache(self.condition, pyramid, frames)
        D, self.device = generator.config.latent_dim, generator.start.device
        # What a frame's work reads and writes: the same memory for every frame.
        self.previous = torch.zeros(self.condition.batch, D, 1, *pyramid.full, device=self.device)
        self.seen = torch.zeros_like(self.previous)
        self.uniform = torch.zeros(2, self.batch, pyramid.length, D, device=self.device)  # for bits, for corruption
        self.record = record
        self.recorded: dict[int, tuple[Callable[[], Any], tuple[Tensor, ...]]] = {}
        self._begin(asked)

    def restart(self, asked: LatentRequest) -> None:
        """Sample another clip of the same shapes and options with the same memory."""
        self.condition.overwrite(self._rows(self.generator.condition(asked.condition)))
        self.cache.restart()
        self.cache.linear = self.generator.fast_linear()  # weights may have changed
        self.previous.zero_()
        self._begin(asked)

    def _begin(self, asked: LatentRequest) -> None:
        seeds, prefix = asked.seeds, asked.prefix
        if len(seeds) != self.batch:
            raise ValueError(f"{len(seeds)} seeds for {self.batch} samples")
        tokens, D = self.pyramid.length, self.generator.config.latent_dim
        self.noise = Noise(list(seeds), tokens, D, self.device)
        self.corruption = Noise([seed + 1_000_003 for seed in seeds], tokens, D, self.device)
        self.prefix, self.progress, self.steps = prefix, asked.progress, 0
        self.given = 0 if prefix is None else prefix.shape[2]
        self.expected_steps = self.given + (self.total - self.given) * len(self.calls)

    @torch.no_grad()
    def _rows(self, encoded: Condition) -> Condition:
        """All rows of a call: conditional | null | corrupted prefix, as guidance asks."""
        guidance, rows = self.options.guidance, [encoded]
        if guidance.guided:
            rows.append(self.generator.null(encoded.batch))
        if guidance.prefix_strength > 0:
            rows.append(encoded)
        return self.generator.prepared(stack(rows))

    @torch.no_grad()
    def frames(self) -> Iterator[LatentFrame]:
        """Yield every latent frame of the clip, the given ones first."""
        if self.prefix is not None:
            yield from self._given_frames(self.prefix)
        for t in range(self.given, self.total):
            self.cache.begin_frame(t)
            self.uniform[0].copy_(self.noise.frame())
            if self.options.guidance.prefix_strength > 0:
                self.uniform[1].copy_(self.corruption.frame())
            bits = self._frame(t)
            self.previous.copy_(self.seen)
            yield LatentFrame(t, bits, self.seen[: self.batch].clone(), self.steps)

    def _frame(self, t: int) -> tuple[Tensor, ...]:
        """Bits of frame t, recorded or replayed where that is wanted."""
        if self.record is None:
            return self._sample_frame(t, self._count)
        if t in self.recorded:
            self.recorded[t][0]()
        else:
            self.recorded[t] = self.record(lambda: self._sample_frame(t))
        for _ in self.calls:
            self._count()
        return tuple(bits.clone() for bits in self.recorded[t][1])

    def _given_frames(self, prefix: Tensor) -> Iterator[LatentFrame]:
        """Feed known frames, one call each; what they become are the tokenizer's own bits."""
        forced, known = self.generator.lesson(prefix, self.pyramid), quantize(prefix, self.pyramid)
        groups, length = self.condition.batch // self.batch, self.pyramid.length
        for t in range(prefix.shape[2]):
            inside = slice(t * length, (t + 1) * length)
            self._call(forced.tokens[:, inside].repeat(groups, 1, 1), t, slice(0, length))
            bits, latent = tuple(scale[:, t : t + 1] for scale in known.bits), known.latent[:, :, t : t + 1]
            self.previous.copy_(latent.repeat(groups, 1, 1, 1, 1))
            self._count()
            yield LatentFrame(t, bits, latent, self.steps)

    def _sample_frame(self, t: int, count: Callable[[], None] | None = None) -> tuple[Tensor, ...]:
        """All scales of frame t: reads `previous`, `uniform` and the cache, writes `seen` and the cache."""
        pyramid, options, config, sampled = self.pyramid, self.options, self.generator.config, []
        seen, calls = torch.zeros_like(self.seen), iter(self.calls)
        for k, grid in enumerate(pyramid.grids):
            scale, before = guidance_scale(options.guidance, t, k, self.total, len(pyramid)), seen
            code = seen.new_zeros(*seen.shape[:3], *grid)
            drawn = torch.zeros(self.batch, 1, *grid, seen.shape[1], dtype=torch.bool, device=self.device)
            for (rows, columns), inside in zip(pyramid.parts(k, config.order), calls):
                shown = context(seen, self.previous, pyramid, k, config.temporal_context, config.order)
                features = self._call(shown[..., rows, columns].flatten(2).transpose(1, 2), t, inside)
                bits, codes = self._draw(features, inside, scale, options.temperature_of(k))
                part = drawn[:, :, rows, columns]
                part.copy_(bits.reshape(part.shape))
                code[..., rows, columns] = codes.mT.reshape(code[..., rows, columns].shape)
                seen = advance(before, code, pyramid)
                if count is not None:
                    count()
            sampled.append(drawn)
        self.seen.copy_(seen)
        return tuple(sampled)

    def _draw(self, features: Tensor, inside: slice, scale: float, temperature: float) -> tuple[Tensor, Tensor]:
        """Bits [B, n, D] of a call's tokens from their features [R, n, C], group by group; their codes [R, n, D]."""
        head, options, drawn = self.generator.head, self.options, []
        state, noise, flips = head.begin(features), *self.uniform[:, :, inside]
        told = features.new_empty(*features.shape[:2], 0, dtype=torch.bool)
        for g, part in enumerate(head.parts):
            logits = guide(head.group(state, told, g).float(), self.batch, options.guidance, scale)
            drawn.append(draw_bits(logits, noise[..., part], temperature, options.greedy))
            told = torch.cat([told, self._told(drawn[-1], flips[..., part])], dim=-1)
        return torch.cat(drawn, dim=-1), code_of(told)

    def _told(self, bits: Tensor, flips: Tensor) -> Tensor:
        """Bits as all rows [R, …] go on with them; the rows of a corrupted prefix get some flipped."""
        guidance, rows = self.options.guidance, [bits] * (self.condition.batch // self.batch)
        if guidance.prefix_strength > 0:
            rows[-1] = bits ^ (flips < guidance.prefix_flip)
        return torch.cat(rows)

    def _call(self, tokens: Tensor, frame: int, inside: slice) -> Tensor:
        return self.generator.step(tokens, self.condition, self.cache, self.pyramid, frame, inside)

    def _count(self) -> None:
        """One transformer call was launched."""
        self.steps += 1
        if self.progress is not None:
            self.progress(self.steps, self.expected_steps)
