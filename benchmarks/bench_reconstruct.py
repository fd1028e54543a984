"""Peak memory of `videoar reconstruct` on a long, wide clip: 640x272, random weights (memory does not depend on them).

    python benchmarks/bench_reconstruct.py --preset atari --seconds 10 --fps 24

The clip is synthetic, moving all over. The command runs as a process of its own, and what is reported is that process's
largest resident set, everything included: Python, torch, the video reader and writer.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from videoar import TokenizerConfig, VideoTokenizer, __version__
from videoar.data.writers import open_mp4_writer

HEIGHT, WIDTH = 272, 640


def write_clip(path: Path, seconds: float, fps: float) -> int:
    """Drifting colours and a ball that crosses them; returns the number of frames."""
    y, x = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    with open_mp4_writer(path, fps) as writer:
        for i in range(round(seconds * fps)):
            t = torch.tensor(i / fps)
            colours = torch.stack([(x / 40 + 2 * t).sin(), (y / 30 - 1.5 * t).sin(), ((x + y) / 50 + t).sin()], -1)
            centre = 320 + 250 * (1.3 * t).sin(), 136 + 90 * (1.9 * t).cos()
            ball = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 40**2)[..., None]
            picture = torch.where(ball, torch.tensor([230.0, 40.0, 30.0]), colours * 60 + 128)
            writer.write(picture.clamp(0, 255).to(torch.uint8))
        return writer.frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="atari", help="tokenizer preset (default atari)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clip (default 10)")
    parser.add_argument("--fps", type=float, default=24.0, help="its frames a second (default 24)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tokenizer/reconstruct.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = write_clip(folder / "in.mp4", args.seconds, args.fps)
        tokenizer = VideoTokenizer(TokenizerConfig.preset(args.preset))
        tokenizer.save_pretrained(folder / "model")
        options = [
            "in.mp4",
            "out.mp4",
            "--model",
            "model",
            "--side-by-side",
            "--metrics",
            "out.json",
            "--device",
            "cpu",
        ]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "videoar", "reconstruct", *options], cwd=folder, check=True)
        seconds = time.perf_counter() - started
        measured = len(json.loads((folder / "out.json").read_text())["per_frame"])
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert measured == frames
    report = {
        "command": f"python benchmarks/bench_reconstruct.py --preset {args.preset} --seconds {args.seconds:g}"
        f" --fps {args.fps:g}",
        "reconstruct": " ".join(options),
        "frames": frames,
        "size": [HEIGHT, WIDTH],
        "parameters_m": round(sum(p.numel() for p in tokenizer.parameters()) / 1e6, 1),
        "peak_resident_gb": round(usage.ru_maxrss * 1024 / 1e9, 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_seconds": round(seconds, 1),
        "threads": int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "videoar": __version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
