"""Pass a video of any length and size through a tokenizer, chunk by chunk, in constant memory.

videoar reconstruct in.mp4 out.mp4 --model outputs/atari-tokenizer
videoar reconstruct in.mp4 out.mp4 --model run.ckpt --side-by-side --metrics out.json
videoar reconstruct in.mp4 out.mp4 --model run.ckpt --scales 3      # only the three coarsest scales
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.cli import options
from videoar.cli.progress import Jobs
from videoar.errors import UserError
from videoar.ranges import DEPTH, FRAMES

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("input", metavar="IN", help="video to read; frames need not be multiples of 16, nor their number 1 + 4n")
    add("output", metavar="OUT.mp4", help="video to write")
    add(
        "--model",
        required=True,
        metavar="PATH",
        help="a run's folder, a checkpoint, an exported folder or a name; of a tokenizer or a generator",
    )
    add("--side-by-side", action="store_true", help="write the original to the left of the reconstruction")
    add("--metrics", metavar="FILE.json", help="write PSNR and SSIM of every frame")
    add("--scales", type=DEPTH, metavar="K", help="decode only the K coarsest scales (default: all)")
    add("--frames", type=FRAMES, metavar="N", help="stop after N frames")
    add("--chunk", type=FRAMES, default=8, metavar="N", help="frames read at once (default 8)")
    add("--backend", default="pyav", choices=["pyav", "decord", "torchcodec"], help="video reader (default pyav)")
    add("--device", type=options.device, help="cpu, cuda, … (default: cuda if there is one)")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="precision (default float32)")


def run(args: argparse.Namespace) -> None:
    """Reconstruct and write the video, then the metrics."""
    import torch

    from videoar.benchmarking.memory import free_at_once
    from videoar.data.files import atomic_path
    from videoar.data.index import known
    from videoar.data.readers import iterate
    from videoar.data.writers import open_mp4_writer
    from videoar.tokenizer.reconstruct import reconstruct
    from videoar.training.checkpoint import load_tokenizer

    started = time.perf_counter()
    free_at_once()
    source = known(args.input)
    if Path(args.output).exists() and Path(args.output).samefile(args.input):
        raise UserError(f"{args.input} would be replaced by its reconstruction; choose another output")
    device = args.device or options.default_device()
    tokenizer = load_tokenizer(args.model).to(device, getattr(torch, args.dtype))
    total = min(source.length, args.frames or source.length)
    rows: list[dict[str, float]] = []
    with Jobs() as jobs, open_mp4_writer(args.output, source.fps or 8.0) as writer:
        pairs = reconstruct(tokenizer, iterate(args.input, args.backend), args.chunk, args.scales, args.frames)
        for original, rebuilt in pairs:
            if args.metrics:
                rows += _measure(original, rebuilt, len(rows))
            writer.write(torch.cat([original, rebuilt], dim=-1) if args.side_by_side else rebuilt)
            jobs.show("reconstructing", writer.frames, total)
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


def _measure(original: Tensor, rebuilt: Tensor, first: int) -> list[dict[str, float]]:
    """PSNR and SSIM of every frame."""
    from videoar.metrics.pixels import frame_psnr, frame_ssim

    psnr, ssim = frame_psnr(rebuilt[None], original[None])[0], frame_ssim(rebuilt[None], original[None])[0]
    values = zip(psnr.tolist(), ssim.tolist())
    return [{"frame": first + n, "psnr": round(p, 4), "ssim": round(s, 6)} for n, (p, s) in enumerate(values)]
