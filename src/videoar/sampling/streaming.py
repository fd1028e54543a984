"""Decoding behind the sampler: the pixels of one frame are made while the next frame is sampled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from videoar.tokenizer.model import VideoTokenizer


def decode_behind(tokenizer: VideoTokenizer, latents: Iterable[Tensor]) -> Iterator[Tensor]:
    """Latents [B, D, 1, h, w] as they are sampled → pixels [B, 3, n, H, W] of each, clamped, as `decode_stream`.

    On a GPU the decoder works on a stream of its own, beside the sampling of the next frame, which is launched before
    pixels are handed over. On a CPU, whose cores are busy in both, they take turns.
    """
    weight = next(tokenizer.parameters())
    if weight.device.type != "cuda":
        yield from tokenizer.decode_stream(latent.to(weight.dtype) for latent in latents)
        return
    main, side = torch.cuda.current_stream(weight.device), torch.cuda.Stream(weight.device)
    waiting: list[Tensor] = []

    def feed() -> Iterator[Tensor]:
        while waiting:
            yield waiting.pop()

    pieces, pixels = tokenizer.decode_stream(feed()), None
    for latent in latents:  # the sampling of this frame has been launched
        if pixels is not None:
            yield _handed_over(pixels, side, main)
        waiting.append(_handed_over(latent.to(weight.dtype), main, side))
        with torch.cuda.stream(side):
            pixels = next(pieces)
    if pixels is not None:
        yield _handed_over(pixels, side, main)


def _handed_over(x: Tensor, source: torch.cuda.Stream, target: torch.cuda.Stream) -> Tensor:
    """x, made on one stream, for use on another, which waits for it; no memory of x is reused before."""
    target.wait_stream(source)
    x.record_stream(target)
    return x
