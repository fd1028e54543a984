"""Pass a video of any length and size through a tokenizer, chunk by chunk, in constant memory.

videoar reconstruct in.mp4 out.mp4 --model outputs/atari-tokenizer
videoar reconstruct in.mp4 out.mp4 --model run.ckpt --side-by-side --metrics out.json
videoar reconstruct in.mp4 out.mp4 --model run.ckpt --scales 3      # only the three coarsest scales
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from videoar.tokenizer.model import VideoTokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("input", metavar="IN", help="video to read; frames need not be multiples of 16, nor their number 1 + 4n")
    add("output", metavar="OUT.mp4", help="video to write")
    add("--model", required=True, metavar="PATH", help="a tokenizer or generator checkpoint, or an exported folder")
    add("--side-by-side", action="store_true", help="write the original to the left of the reconstruction")
    add("--metrics", metavar="FILE.json", help="write PSNR and SSIM of every frame")
    add("--scales", type=int, metavar="K", help="decode only the K coarsest scales (default: all)")
    add("--frames", type=int, metavar="N", help="stop after N frames")
    add("--chunk", type=int, default=8, metavar="N", help="frames read at once (default 8)")
    add("--backend", default="pyav", choices=["pyav", "decord", "torchcodec"], help="video reader (default pyav)")
    add("--device", help="cpu, cuda, … (default: cuda if there is one)")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="precision (default float32)")


def run(args: argparse.Namespace) -> None:
    """Reconstruct and write the video, then the metrics."""
    import torch
    from rich.progress import Progress

    from videoar.data.files import atomic_path
    from videoar.data.probe import Probe
    from videoar.data.readers import iterate
    from videoar.data.writers import open_mp4_writer

    started = time.perf_counter()
    _give_freed_memory_back()
    for name, value in (("--chunk", args.chunk), ("--frames", args.frames), ("--scales", args.scales)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    source = Probe(args.input)
    if Path(args.output).exists() and Path(args.output).samefile(args.input):
        raise UserError(f"{args.input} would be replaced by its reconstruction; choose another output")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = _load(args.model).to(device, getattr(torch, args.dtype))
    total = min(source.length, args.frames or source.length)
    rows: list[dict[str, float]] = []
    with Progress(transient=True) as bar, open_mp4_writer(args.output, source.fps or 8.0) as writer:
        task = bar.add_task("reconstructing", total=total)
        pairs = reconstruct(tokenizer, iterate(args.input, args.backend), args.chunk, args.scales, args.frames)
        for original, rebuilt in pairs:
            if args.metrics:
                rows += _measure(original, rebuilt, len(rows))
            writer.write(torch.cat([original, rebuilt], dim=-1) if args.side_by_side else rebuilt)
            bar.update(task, completed=writer.frames)
    frames, seconds = writer.frames, time.perf_counter() - started
    summary: dict[str, Any] = {name: value for name, value in vars(args).items() if name != "debug"}
    summary |= {"frames": frames, "height": source.height, "width": source.width, "seconds": round(seconds, 3)}
    summary |= {"tokenizer": tokenizer.fingerprint(), "device": device}
    if args.metrics:
        means = {name: sum(row[name] for row in rows) / len(rows) for name in ("psnr", "ssim")}
        with atomic_path(args.metrics) as path:
            path.write_text(json.dumps(summary | means | {"per_frame": rows}, indent=2) + "\n")
        print(f"PSNR {means['psnr']:.2f} dB, SSIM {means['ssim']:.4f}: {args.metrics}")
    print(f"{args.output}: {frames} frames of {source.width}x{source.height} in {seconds:.1f} s")


def _give_freed_memory_back() -> None:
    """Let glibc return every freed tensor to the system: kept for reuse, they fragment and take 300 MB more."""
    import ctypes
    import sys

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 2**20)  # M_MMAP_THRESHOLD


def _load(path: str) -> VideoTokenizer:
    """The tokenizer at `path`; a folder of weights loads without Lightning, which alone takes 300 MB of memory."""
    if Path(path).is_file():
        from videoar.training.checkpoint import load_tokenizer

        return load_tokenizer(path)
    from videoar.tokenizer.model import VideoTokenizer

    return VideoTokenizer.from_pretrained(path).requires_grad_(False)


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
        frames: uint8 [H, W, 3] each. chunk: frames encoded at once. scales: decode only the first ones.
    """
    from videoar.bits.residual import decode_bits

    waiting: deque[Tensor] = deque()
    weight = next(tokenizer.parameters())

    def codes() -> Iterator[Tensor]:
        for latent in tokenizer.encode_stream(_chunks(tokenizer, frames, chunk, limit, waiting)):
            quantized = tokenizer.quantize(latent)
            if scales is not None and scales > len(quantized.bits):
                raise UserError(f"--scales {scales}: these frames have {len(quantized.bits)} scales")
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
    from itertools import islice

    import torch.nn.functional as F

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
    import torch

    return torch.stack(frames).permute(3, 0, 1, 2).float() / 127.5 - 1


def _measure(original: Tensor, rebuilt: Tensor, first: int) -> list[dict[str, float]]:
    """PSNR and SSIM of every frame."""
    from videoar.metrics.pixels import frame_psnr, frame_ssim

    psnr, ssim = frame_psnr(rebuilt[None], original[None])[0], frame_ssim(rebuilt[None], original[None])[0]
    values = zip(psnr.tolist(), ssim.tolist())
    return [{"frame": first + n, "psnr": round(p, 4), "ssim": round(s, 6)} for n, (p, s) in enumerate(values)]
