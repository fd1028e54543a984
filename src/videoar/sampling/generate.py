"""The public sampling functions: one clip, a stream of frames, or shots that extend each other."""

# B samples · T pixel frames · n latent frames

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.generator.conditioning import Condition
from videoar.generator.model import Labels, VideoAR
from videoar.sampling.given import encode_prefix, latent_frames
from videoar.sampling.graphs import FrameGraphs
from videoar.sampling.guidance import Guidance
from videoar.sampling.pairing import check_pair
from videoar.sampling.raster import sampler_of
from videoar.sampling.sampler import LatentFrame, LatentSampler, Progress, SamplingOptions
from videoar.sampling.streaming import decode_behind
from videoar.tokenizer.model import VideoTokenizer


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
def sample_latents(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    condition: Labels,
    *,
    frames: int,
    size: tuple[int, int],
    seed: int | Sequence[int],
    options: SamplingOptions,
    prefix: Tensor | None = None,
    progress: Progress | None = None,
    graphs: FrameGraphs | None = None,
) -> LatentSampler:
    """Check everything that can be wrong, then make the sampler of one clip a condition entry."""
    check_pair(generator, tokenizer)
    ratio = tokenizer.config.spatial_ratio
    if size[0] % ratio or size[1] % ratio or min(size) < ratio:
        raise UserError(f"{size[0]}x{size[1]} pixels are not multiples of {ratio}")
    batch = condition.batch if isinstance(condition, Condition) else len(condition)
    total = latent_frames(tokenizer, frames)
    given = None if prefix is None else encode_prefix(tokenizer, prefix, batch, size, frames)
    seeds = [seed + i for i in range(batch)] if isinstance(seed, int) else list(seed)
    pyramid = tokenizer.pyramid(*size)
    if graphs is not None:
        return graphs.sampler(generator, condition, pyramid, total, seeds, options, given, progress)
    return sampler_of(generator)(generator, condition, pyramid, total, seeds, options, given, progress)


@torch.no_grad()
def generate(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    condition: Labels,
    frames: int = 17,
    size: tuple[int, int] = (128, 128),
    seed: int | Sequence[int] = 0,
    guidance: Guidance | float | str | None = None,
    temperature: float | Sequence[float] = 1.0,
    greedy: bool = False,
    prefix: Tensor | None = None,
    progress: Progress | None = None,
    graphs: FrameGraphs | None = None,
) -> Sample:
    """Sample one video for each entry of `condition` (class-conditional, text, I2V and V2V).

    Args:
        condition: class names or labels, or prompts, as the generator's config says.
        frames: pixel frames, 1 + 4n. size: (height, width) in pixels, multiples of 16.
        seed: sample i uses seed + i (or seed[i]), whatever the batch.
        guidance: a `Guidance`, `"none" | "ucf101" | "text"`, a constant γ, or None: the paper's schedule for the
            generator's kind of condition.
        temperature: a float, or one a scale. greedy: no randomness at all.
        prefix: an image [3, H, W] or clip [3, T, H, W] or [B, 3, T, H, W] in [-1, 1] that the video starts with. It
            comes back as the tokenizer reconstructs it.
        graphs: record the work as CUDA graphs, which later calls with the same object and shapes replay.

    Raises:
        UserError: an unknown label, a size or frame count the tokenizer does not take, a prefix that does not fit, or a
            tokenizer that does not belong to the generator.
    """
    if guidance is None:
        guidance = "ucf101" if generator.config.condition == "class" else "text"
    heat = tuple(temperature) if isinstance(temperature, Sequence) else float(temperature)
    options = SamplingOptions(Guidance.of(guidance), heat, greedy)
    sampler = sample_latents(
        generator,
        tokenizer,
        condition,
        frames=frames,
        size=size,
        seed=seed,
        options=options,
        prefix=prefix,
        progress=progress,
        graphs=graphs,
    )
    sampled: list[LatentFrame] = []

    def latents() -> Iterator[Tensor]:
        for frame in sampler.frames():
            sampled.append(frame)
            yield frame.latent

    video = torch.cat(list(decode_behind(tokenizer, latents())), dim=2)
    bits = tuple(torch.cat(scale, dim=1) for scale in zip(*(frame.bits for frame in sampled)))
    return Sample(video, bits, sampler.steps)


@torch.no_grad()
def generate_stream(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    condition: Labels,
    *,
    frames: int,
    size: tuple[int, int],
    seed: int | Sequence[int] = 0,
    options: SamplingOptions,
    prefix: Tensor | None = None,
    progress: Progress | None = None,
    graphs: FrameGraphs | None = None,
) -> Iterator[Tensor]:
    """Like `generate`, but yields pixels [B, 3, n, H, W] while later frames are still being sampled.

    Memory for pixels and decoder state does not grow with the length; with a window in the generator's config neither
    does the KV cache.
    """
    sampler = sample_latents(
        generator,
        tokenizer,
        condition,
        frames=frames,
        size=size,
        seed=seed,
        options=options,
        prefix=prefix,
        progress=progress,
        graphs=graphs,
    )
    yield from decode_behind(tokenizer, (frame.latent for frame in sampler.frames()))


def extend(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    condition: Labels,
    *,
    seconds: float,
    fps: float,
    shot: int,
    overlap: int,
    size: tuple[int, int],
    seed: int | Sequence[int] = 0,
    options: SamplingOptions,
    prefix: Tensor | None = None,
    progress: Progress | None = None,
    graphs: FrameGraphs | None = None,
) -> Iterator[Tensor]:
    """Multi-shot extension by frame re-encoding (paper §1, Fig. 5): yields pixels [B, 3, n, H, W] until `seconds`.

    Each shot samples `shot` pixel frames; the last `overlap` frames of one are encoded afresh as the given start of the
    next, so positions, cache and memory stay those of one shot.

    Args:
        shot, overlap: pixel frames, both 1 + 4n, overlap < shot.

    Raises:
        UserError: as `generate`, a length or rate that is not positive, or an overlap that leaves nothing of a shot.
    """
    if not (seconds > 0 and fps > 0):
        raise UserError(f"a video needs a positive length and rate, got {seconds} seconds at {fps} frames a second")
    latent_frames(tokenizer, overlap)
    if overlap >= shot:
        raise UserError(f"an overlap of {overlap} frames leaves nothing of a shot of {shot}")
    batch = condition.batch if isinstance(condition, Condition) else len(condition)
    seeds = [seed + i for i in range(batch)] if isinstance(seed, int) else list(seed)
    missing, index = max(1, round(seconds * fps)), 0
    while missing > 0:
        shown = overlap if index else 0  # frames that the shot before has already yielded
        tail: Tensor | None = None
        for part in generate_stream(
            generator,
            tokenizer,
            condition,
            frames=shot,
            size=size,
            seed=[s + 10_007 * index for s in seeds],
            options=options,
            prefix=prefix,
            progress=progress,
            graphs=graphs,
        ):
            tail = part if tail is None else torch.cat([tail, part], dim=2)[:, :, -overlap:]
            fresh = part[:, :, shown:][:, :, :missing]
            shown = max(0, shown - part.shape[2])
            missing -= fresh.shape[2]
            if fresh.shape[2]:
                yield fresh
        prefix, index = tail, index + 1
