"""A video of any length and size through the tokenizer, chunk by chunk, in constant memory."""

# T pixel frames · H W pixels

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.bits.residual import decode_bits
from videoar.errors import UserError
from videoar.ranges import COUNT, DEPTH, FRAMES
from videoar.tokenizer.model import VideoTokenizer


def reconstruct(
    tokenizer: VideoTokenizer,
    frames: Iterable[Tensor],
    chunk: int = 8,
    scales: int | None = None,
    limit: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (original, reconstruction) pieces, float32 [3, T, H, W] in [-1, 1] on the CPU, frame for frame.

    Sides are padded to multiples of the spatial ratio by repeating the edge, the end to 1 + ratio·n frames by
    repeating the last frame; both are cropped away again.

    Args:
        frames: uint8 [H, W, 3] each.
        chunk: frames encoded at once.
        scales: decode only the coarsest ones; None: all.
        limit: stop after so many frames; None: at the end.

    Raises:
        UserError: a number below 1, or more scales than these frames have.
    """
    for name, allowed, value in (("chunk", FRAMES, chunk), ("scales", DEPTH, scales), ("limit", COUNT, limit)):
        if value is not None:
            allowed.check(name, value)
    waiting: deque[Tensor] = deque()
    weight = next(tokenizer.parameters())

    def codes() -> Iterator[Tensor]:
        for latent in tokenizer.encode_stream(_chunks(tokenizer, frames, chunk, limit, waiting)):
            quantized = tokenizer.quantize(latent)
            if scales is not None and scales > len(quantized.bits):
                raise UserError(f"scales {scales}: these frames have {len(quantized.bits)} scales")
            yield decode_bits(quantized.bits[:scales], quantized.pyramid).to(weight.dtype)

    for piece in tokenizer.decode_stream(codes()):
        originals = [waiting.popleft() for _ in range(min(piece.shape[2], len(waiting)))]
        if originals:
            original = _to_float(originals)
            _, count, height, width = original.shape
            yield original, piece[0, :, :count, :height, :width].float().cpu()


def _chunks(
    tokenizer: VideoTokenizer, frames: Iterable[Tensor], chunk: int, limit: int | None, waiting: deque[Tensor]
) -> Iterator[Tensor]:
    """Padded chunks [1, 3, T, H, W] for the encoder; the frames they hold also join `waiting`."""
    weight, config, seen = next(tokenizer.parameters()), tokenizer.config, 0
    frames = islice(frames, limit)
    batch: list[Tensor] = []
    while new := list(islice(frames, chunk)):
        waiting.extend(new)
        seen, batch = seen + len(new), new
        height, width, _ = new[0].shape
        pad = (0, -width % config.spatial_ratio, 0, -height % config.spatial_ratio, 0, 0)
        video = F.pad(_to_float(new)[None], pad, mode="replicate").to(weight.device, weight.dtype)
        yield video
    if batch and (missing := (1 - seen) % config.temporal_ratio):
        yield video[:, :, -1:].expand(-1, -1, missing, -1, -1)


def _to_float(frames: list[Tensor]) -> Tensor:
    """uint8 [H, W, 3] each → float32 [3, T, H, W] in [-1, 1]."""
    return torch.stack(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
