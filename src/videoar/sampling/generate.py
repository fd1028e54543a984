"""The public sampling functions: one clip, a stream of frames, or shots that extend each other."""

# B samples · T pixel frames · n latent frames

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.generator.conditioning import batch_condition
from videoar.generator.model import Labels, VideoAR
from videoar.sampling.given import Pixels, encode_prefix, latent_frames
from videoar.sampling.graphs import FrameGraphs
from videoar.sampling.guidance import Guidance
from videoar.sampling.pairing import check_pair
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, Progress, Request
from videoar.sampling.sampler import LatentFrame, LatentSampler
from videoar.sampling.streaming import decode_behind
from videoar.tokenizer.model import VideoTokenizer

Stream: TypeAlias = Callable[[Request], Iterator[Tensor]]
"""What samples: pixels [B, 3, n, H, W], part after part."""


@dataclass(frozen=True)
class Sample:
    """What `generate` returns.

    Attributes:
        video: float [B, 3, T, H, W] in [-1, 1].
        bits: one bool [B, T', h, w, D] a scale.
        steps: transformer calls made.
    """

    video: Tensor
    bits: tuple[Tensor, ...]
    steps: int


@torch.no_grad()
def sample_latents(generator: VideoAR, tokenizer: VideoTokenizer, asked: Request) -> LatentSampler:
    """Check everything that can be wrong, then make the sampler of one clip a condition entry."""
    check_pair(generator, tokenizer)
    if not asked.batch:
        raise UserError("there is nothing to sample: no label and no prompt is given")
    options = asked.options(generator)
    if generator.config.condition == "none" and options.guidance.guided:
        raise UserError("guidance follows a condition, and this model is unconditional: use guidance none")
    ratio, size = tokenizer.config.spatial_ratio, asked.size or generator.config.size
    if size[0] % ratio or size[1] % ratio or min(size) < ratio:
        raise UserError(f"{size[0]}x{size[1]} pixels are not multiples of {ratio}")
    total = latent_frames(tokenizer, asked.frames)
    given = None if asked.prefix is None else encode_prefix(tokenizer, asked.prefix, asked.batch, size, asked.frames)
    clip = LatentRequest(asked.condition, tokenizer.pyramid(*size), total, asked.seeds, options, given, asked.progress)
    return asked.graphs.sampler(generator, clip) if asked.graphs else sampler_of(generator)(generator, clip)


def generate(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    condition: Labels,
    frames: int = 17,
    size: tuple[int, int] | None = None,
    seed: int | Sequence[int] = 0,
    guidance: Guidance | float | str | None = None,
    temperature: float | Sequence[float] = 1.0,
    greedy: bool = False,
    prefix: Pixels | None = None,
    progress: Progress | None = None,
    graphs: FrameGraphs | None = None,
) -> Sample:
    """Sample one video for each entry of `condition`; the arguments are the fields of `Request`, explained there.

    Raises:
        UserError: an unknown label, a size or frame count the tokenizer does not take, a prefix that does not fit, or a
            tokenizer that does not belong to the generator.
    """
    asked = Request(condition, frames, size, seed, guidance, temperature, greedy, prefix, progress, graphs)
    return generate_asked(generator, tokenizer, asked)


@torch.no_grad()
def generate_asked(generator: VideoAR, tokenizer: VideoTokenizer, asked: Request) -> Sample:
    """`generate` of a `Request`."""
    sampler = sample_latents(generator, tokenizer, asked)
    sampled: list[LatentFrame] = []

    def latents() -> Iterator[Tensor]:
        for frame in sampler.frames():
            sampled.append(frame)
            yield frame.latent

    video = torch.cat(list(decode_behind(tokenizer, latents())), dim=2)
    bits = tuple(torch.cat(scale, dim=1) for scale in zip(*(frame.bits for frame in sampled)))
    return Sample(video, bits, sampler.steps)


@torch.no_grad()
def generate_stream(generator: VideoAR, tokenizer: VideoTokenizer, asked: Request) -> Iterator[Tensor]:
    """Like `generate`, but yields pixels [B, 3, n, H, W] while later frames are still being sampled.

    Memory for pixels and decoder state does not grow with the length; with a window in the generator's config neither
    does the KV cache.
    """
    sampler = sample_latents(generator, tokenizer, asked)
    yield from decode_behind(tokenizer, (frame.latent for frame in sampler.frames()))


def generate_like(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    batch: dict[str, Any],
    like: Tensor,
    seed: int | Sequence[int] = 0,
    guidance: Guidance | float | str | None = None,
) -> Tensor:
    """One sample for each clip of a batch of data: of its class or caption, as long and as large.

    Where a clip has none it is sampled without a condition.

    Args:
        batch: `label` [B] or `caption`, as the data module makes them.
        like: videos [B, 3, T, H, W] whose shape the samples get.

    Returns:
        float32 [B, 3, T, H, W] in [-1, 1].
    """
    frames, size, training = like.shape[2], (like.shape[3], like.shape[4]), generator.training
    generator.eval()
    condition = batch_condition(generator, batch)
    sample = generate_asked(generator, tokenizer, Request(condition, frames, size, seed, guidance))
    generator.train(training)
    return sample.video.float()


def extend(
    generator: VideoAR, tokenizer: VideoTokenizer, asked: Request, *, seconds: float, fps: float, overlap: int
) -> Iterator[Tensor]:
    """Multi-shot extension by frame re-encoding (paper §1, Fig. 5): yields pixels [B, 3, n, H, W] until `seconds`.

    Each shot samples `asked.frames` pixel frames; the last `overlap` frames of one are encoded afresh as the given
    start of the next, so positions, cache and memory stay those of one shot.

    Args:
        overlap: pixel frames, 1 + 4n, fewer than a shot's.

    Raises:
        UserError: as `generate`, a length or rate that is not positive, or an overlap that leaves nothing of a shot.
    """
    latent_frames(tokenizer, overlap)
    stream = partial(generate_stream, generator, tokenizer)
    yield from shots(stream, asked, seconds=seconds, fps=fps, overlap=overlap)


def shots(stream: Stream, asked: Request, *, seconds: float, fps: float, overlap: int) -> Iterator[Tensor]:
    """`extend` for whatever samples a shot."""
    if not (seconds > 0 and fps > 0):
        raise UserError(f"a video needs a positive length and rate, got {seconds} seconds at {fps} frames a second")
    if overlap >= asked.frames:
        raise UserError(f"an overlap of {overlap} frames leaves nothing of a shot of {asked.frames}")
    missing, index, prefix = max(1, round(seconds * fps)), 0, asked.prefix
    while missing > 0:
        shown = overlap if index else 0  # frames that the shot before has already yielded
        tail: Tensor | None = None
        shot = replace(asked, seed=[s + 10_007 * index for s in asked.seeds], prefix=prefix)
        for part in stream(shot):
            tail = part if tail is None else torch.cat([tail, part], dim=2)[:, :, -overlap:]
            fresh = part[:, :, shown:][:, :, :missing]
            shown = max(0, shown - part.shape[2])
            missing -= fresh.shape[2]
            if fresh.shape[2]:
                yield fresh
        prefix, index = tail, index + 1
