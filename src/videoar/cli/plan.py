"""`videoar plan memory|cluster`: what a run will need, counted on tensors without data; nothing is downloaded.

examples:
  videoar plan memory --preset videoar-l                        # training and sampling of 17x128x128 clips
  videoar plan memory --preset videoar-4b --frames 65 --size 384 672
  videoar plan memory --preset atari --measure --batch 2        # also really train for two steps and compare
  videoar plan memory --out benchmarks/results/memory           # all presets (half an hour on one core)
  videoar plan cluster --preset videoar-4b --devices 64 --memory 80 --tflops 989 --mfu 0.4
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from videoar.cli.options import device
from videoar.errors import UserError
from videoar.ranges import AMOUNT, BATCH, COUNT, FRAMES, SHARE, SIDE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command a question."""
    jobs = parser.add_subparsers(dest="job", required=True, metavar="memory|cluster")
    add = _sub(jobs, "memory", "what fits a GPU: presets against 8, 24, 80 and 141 GB")
    add("--preset", help="of the generator, with its tokenizer: atari, videoar-l, … (default: the whole shipped table)")
    add("--frames", type=FRAMES, default=17, help="pixel frames of a clip, 1 + 4n (default 17)")
    add("--size", type=SIDE, nargs="+", default=[128], metavar="PX", help="side, or height and width (default 128)")
    add("--what", nargs="+", choices=["tokenizer", "generator", "sampling"], help="default: all three")
    add("--measure", action="store_true", help="also train for two steps and put the measured peak beside the computed")
    add("--batch", type=BATCH, default=1, help="clips a batch, with --measure (default 1)")
    add("--device", type=device, default="cpu", help="with --measure (default cpu)")
    add("--out", metavar="DIR", help="write memory.json and memory.md here")
    add = _sub(jobs, "cluster", "a sharded generator's training on paper: memory, tokens, time, data, checkpoints")
    add("--preset", default="videoar-4b", help="of the generator (default videoar-4b)")
    add("--frames", type=FRAMES, default=65, help="pixel frames of a clip, 1 + 4n (default 65)")
    add("--size", type=SIDE, nargs="+", default=[384, 672], metavar="PX", help="height and width (default 384 672)")
    add("--devices", type=COUNT, default=64, help="GPUs (default 64)")
    add("--batch", type=BATCH, default=1, help="clips a device and micro-batch (default 1)")
    add("--accumulate", type=BATCH, default=1, help="micro-batches a step (default 1)")
    add("--steps", type=COUNT, default=50_000, help="of the run (default 50000)")
    add("--memory", type=AMOUNT, default=80.0, help="GB of a device (default 80)")
    add("--tflops", type=AMOUNT, default=989.0, help="peak of a device in bfloat16 (default 989)")
    add(
        "--mfu",
        type=SHARE,
        default=0.4,
        help="share of the peak that is reached, recomputation not counted: an assumption (default 0.4)",
    )
    add("--clips", type=COUNT, default=1_000_000, help="clips in the data set (default 1000000)")
    add("--clip-mb", type=AMOUNT, default=1.0, help="megabytes of a stored clip: an assumption (default 1)")
    add("--out", metavar="DIR", help="write cluster.json and cluster.md here")


def _sub(jobs: Any, name: str, text: str) -> Any:
    return jobs.add_parser(name, help=text, description=text).add_argument


def run(args: argparse.Namespace) -> int:
    """Count, print Markdown, write the files."""
    if len(args.size) > 2:
        raise UserError(f"--size takes one or two numbers, got {args.size}")
    size = (args.size[0], args.size[-1])
    content, text = _memory(args, size) if args.job == "memory" else _cluster(args, size)
    print(text, end="")
    if args.out is not None:
        from videoar.data.files import atomic_path

        for suffix, written in (("json", json.dumps(content, indent=2) + "\n"), ("md", text)):
            place = Path(args.out) / f"{args.job}.{suffix}"
            with atomic_path(place) as path:
                path.write_text(written, encoding="utf-8")
            print(f"wrote {place}")
    return 0


def _memory(args: argparse.Namespace, size: tuple[int, int]) -> tuple[dict[str, Any], str]:
    from functools import partial

    from rich.progress import track

    from videoar.planning.memory import KINDS, markdown, plan_memory

    shown = partial(track, description="counting", transient=True)
    given = {"measure": args.measure, "batch": args.batch, "device": args.device, "track": shown}
    content = plan_memory(args.preset, args.frames, size, args.what or KINDS, **given)
    return content, markdown(content)


def _cluster(args: argparse.Namespace, size: tuple[int, int]) -> tuple[dict[str, Any], str]:
    from videoar.planning.cluster import Cluster, markdown, plan_cluster

    names = {field.name for field in fields(Cluster)} - {"size"}
    content = plan_cluster(Cluster(size=size, **{name: getattr(args, name) for name in names}))
    return content, markdown(content)
