"""The sampler: frame by frame, scale by scale (paper §4.2), one transformer call for each (t, k).

for t in frames:
    for k in scales:
        logits = generator.step(context of (t, k))        # everything before is in the KV cache
        bits   = draw(guide(logits))
        seen   = advance(seen, code(bits))                # the same line that training walks
"""

# B samples · R rows of a call (samples x guidance groups) · D bits · T latent frames · h w grid of one scale

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from videoar.bits.bsq import code_of
from videoar.bits.corruption import teacher_forcing
from videoar.bits.pyramid import ScalePyramid
from videoar.bits.residual import advance, context, decode_bits, unflatten_bits
from videoar.errors import UserError
from videoar.generator.conditioning import Condition, stack
from videoar.generator.model import Labels, VideoAR
from videoar.sampling.draw import Noise, draw_bits
from videoar.sampling.guidance import Guidance, guidance_scale, guide


class Progress(Protocol):
    """Called after every transformer call."""

    def __call__(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class SamplingOptions:
    """How bits are drawn.

    Attributes:
        guidance: γ(t, k).
        temperature: one value, or one a scale (coarse to fine; the last holds for all finer ones).
        greedy: take the more likely value of every bit.

    Raises:
        UserError: a temperature that is not positive.
    """

    guidance: Guidance = field(default_factory=Guidance)
    temperature: float | tuple[float, ...] = 1.0
    greedy: bool = False

    def __post_init__(self) -> None:
        values = self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)
        if not values or not all(0 < value < float("inf") for value in values):
            raise UserError(f"temperatures must be positive, got {list(values)}; greedy sampling needs none")

    def temperature_of(self, k: int) -> float:
        """The temperature of scale k."""
        if isinstance(self.temperature, tuple):
            return self.temperature[min(k, len(self.temperature) - 1)]
        return self.temperature


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

    Args:
        condition: one entry a sample. pyramid: grids of every frame. frames: latent frames to produce in all.
        seeds: one a sample. prefix: continuous latent [B, D, n, H, W] of given frames that the clip starts with.
    """

    def __init__(
        self,
        generator: VideoAR,
        condition: Labels,
        pyramid: ScalePyramid,
        frames: int,
        seeds: Sequence[int],
        options: SamplingOptions,
        prefix: Tensor | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.generator, self.pyramid, self.total, self.options = generator, pyramid, frames, options
        encoded = generator.condition(condition)
        self.batch, self.condition = encoded.batch, self._rows(encoded)
        if len(seeds) != self.batch:
            raise ValueError(f"{len(seeds)} seeds for {self.batch} samples")
        self.cache = generator.new_cache(self.condition, pyramid, frames)
        D, device = generator.config.latent_dim, generator.start.device
        self.noise = Noise(list(seeds), pyramid.length, D, device)
        self.corruption = Noise([seed + 1_000_003 for seed in seeds], pyramid.length, D, device)
        self.seen = torch.zeros(self.condition.batch, D, 1, *pyramid.full, device=device)
        self.prefix, self.progress, self.steps = prefix, progress, 0
        given = 0 if prefix is None else prefix.shape[2]
        self.expected_steps = given + (frames - given) * len(pyramid)

    def _rows(self, encoded: Condition) -> Condition:
        """All rows of a call: conditional | null | corrupted prefix, as guidance asks."""
        guidance, rows = self.options.guidance, [encoded]
        if guidance.guided:
            rows.append(self.generator.null(encoded.batch))
        if guidance.prefix_strength > 0:
            rows.append(encoded)
        return stack(rows) if len(rows) > 1 else encoded

    @torch.no_grad()
    def frames(self) -> Iterator[LatentFrame]:
        """Yield every latent frame of the clip, the given ones first."""
        if self.prefix is not None:
            yield from self._given_frames(self.prefix)
        given = 0 if self.prefix is None else self.prefix.shape[2]
        for t in range(given, self.total):
            bits = self._sample_frame(t)
            yield LatentFrame(t, bits, decode_bits(bits, self.pyramid), self.steps)

    def _given_frames(self, prefix: Tensor) -> Iterator[LatentFrame]:
        """Feed known frames, one call each; what they become are the tokenizer's own bits."""
        forced = teacher_forcing(prefix, self.pyramid)
        groups, length = self.condition.batch // self.batch, self.pyramid.length
        for t in range(prefix.shape[2]):
            inside = slice(t * length, (t + 1) * length)
            tokens = forced.tokens[:, inside].repeat(groups, 1, 1)
            self._call(tokens, t, slice(0, length))
            bits = unflatten_bits(forced.targets[:, inside], self.pyramid, 1)
            latent = decode_bits(bits, self.pyramid)
            self.seen = latent.repeat(groups, 1, 1, 1, 1)
            yield LatentFrame(t, bits, latent, self.steps)

    def _sample_frame(self, t: int) -> tuple[Tensor, ...]:
        pyramid, options = self.pyramid, self.options
        noise = self.noise.frame()
        previous, self.seen = self.seen, torch.zeros_like(self.seen)
        sampled = []
        for k, grid in enumerate(pyramid.grids):
            shown = context(previous if k == 0 else self.seen, pyramid, k)
            logits = self._call(shown.flatten(2).transpose(1, 2), t, pyramid.slices[k]).float()
            scale = guidance_scale(options.guidance, t, k, self.total, len(pyramid))
            logits = guide(logits, self.batch, options.guidance, scale)
            drawn = draw_bits(logits, noise[:, pyramid.slices[k]], options.temperature_of(k), options.greedy)
            bits = drawn.unflatten(1, grid)[:, None]
            self.seen = advance(self.seen, self._codes(bits, k).movedim(-1, 1), pyramid)
            sampled.append(bits)
        return tuple(sampled)

    def _codes(self, bits: Tensor, k: int) -> Tensor:
        """Codes of all rows [R, 1, h, w, D]; the rows of a corrupted prefix get some bits flipped."""
        guidance, groups = self.options.guidance, self.condition.batch // self.batch
        rows = [bits] * groups
        if guidance.prefix_strength > 0:
            noise = self.corruption.frame()[:, self.pyramid.slices[k]].unflatten(1, self.pyramid.grids[k])[:, None]
            rows[-1] = bits ^ (noise < guidance.prefix_flip)
        return code_of(torch.cat(rows))

    def _call(self, tokens: Tensor, frame: int, part: slice) -> Tensor:
        logits = self.generator.step(tokens, self.condition, self.cache, self.pyramid, frame, part)
        self.steps += 1
        if self.progress is not None:
            self.progress(self.steps, self.expected_steps)
        return logits
