"""Sample a video with the exported folder that this file lies in, without PyTorch: an animated PNG for any browser.

python sample.py --label riverraid --seed 0 --file riverraid.png
"""

from __future__ import annotations

import argparse
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    from runner import Model  # beside this file, in an exported folder
except ImportError:
    from videoar.serving.runner import Model


def write_png(path: str | Path, video: Any, fps: float = 8.0, zoom: int = 4) -> None:
    """A video [3, T, H, W] in [-1, 1] as an animated PNG, every pixel `zoom` wide: lossless, shown by all browsers."""
    pixels = ((video + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 3, 0)
    pixels = pixels.repeat(zoom, 1).repeat(zoom, 2)
    T, H, W, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 0)), chunk(b"acTL", struct.pack(">II", T, 0))]
    order = 0  # of all chunks that belong to the animation
    for t, frame in enumerate(pixels):
        control = struct.pack(">IIIIIHHBB", order, W, H, 0, 0, round(1000 / fps), 1000, 0, 0)
        data = zlib.compress(np.pad(frame.reshape(H, W * 3), ((0, 0), (1, 0))).tobytes(), 9)
        picture = chunk(b"fdAT", struct.pack(">I", order + 1) + data) if t else chunk(b"IDAT", data)
        parts += [chunk(b"fcTL", control), picture]
        order += 2 if t else 1
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))


def main(arguments: Sequence[str] | None = None) -> int:
    """One video; returns the exit code."""
    parser = argparse.ArgumentParser(description="Sample a video without PyTorch.")
    parser.add_argument("--label", help="class name or number (default: the first)")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", help="a schedule's name or a number (default: the model's)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--file", default="sample.png", help="animated PNG to write (default sample.png)")
    args = parser.parse_args(arguments)
    try:
        model = Model(Path(__file__).parent, args.threads)
        label = args.label if args.label or not model.about["classes"] else 0
        options = {"frames": args.frames, "seed": args.seed, "guidance": args.guidance}
        sample = model.generate([label], temperature=args.temperature, **options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_png(args.file, sample.video[0])
    print(f"wrote {args.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
