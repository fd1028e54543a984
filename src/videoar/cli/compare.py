"""Put checkpoints side by side: the same held-out clips and seeds, as contact sheets and moving pictures.

videoar compare runs/a runs/b --data my_videos --out outputs/compare
videoar compare small=runs/a large=runs/b --data my_videos --frames 9 --guidance none
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videoar.cli import options
from videoar.cli.progress import Jobs
from videoar.ranges import COUNT, FPS, FRAMES, SEED, SIDE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="[NAME=]MODEL",
        help="checkpoints, folders of runs, exported folders or names; of tokenizers or generators",
    )
    add("--data", required=True, metavar="DIR", help="data set whose held-out clips are used")
    add("--out", default="outputs/compare", metavar="DIR", help="(default outputs/compare)")
    add("--clips", type=COUNT, default=16, metavar="N", help="clips that are reconstructed and measured (default 16)")
    add("--shown", type=COUNT, default=4, metavar="N", help="of them are sampled and shown (default 4)")
    add("--seeds", type=COUNT, default=4, metavar="N", help="columns of the grid of seeds (default 4)")
    add("--seed", type=SEED, default=0, help="of the first sample (default 0)")
    add("--frames", type=FRAMES, default=17, help="pixel frames of a clip, 1 + 4n (default 17)")
    add("--size", type=SIDE, default=None, metavar="PX", help="side of the clips (default: as the first model trained)")
    add("--guidance", type=options.guidance, default=None, help="as in `videoar sample`")
    add("--fps", type=FPS, default=8.0, help="frames a second of the GIFs (default 8)")
    add("--device", type=options.device, default=None, help="cpu, cuda, … (default: cuda if there is one)")


def run(args: argparse.Namespace) -> None:
    """Compare, and print the table of PSNR."""
    from videoar.data.items import short_names
    from videoar.evaluation.compare import compare

    paths = [model.rpartition("=")[2] for model in args.models]
    short = zip(args.models, short_names(paths), paths)
    models = {model.rpartition("=")[0] or name: path for model, name, path in short}
    with Jobs() as jobs:
        facts = compare(
            models,
            args.data,
            args.out,
            clips=args.clips,
            shown=args.shown,
            seeds=args.seeds,
            frames=args.frames,
            size=(args.size, args.size) if args.size else None,
            seed=args.seed,
            guidance=args.guidance,
            device=args.device or options.default_device(),
            fps=args.fps,
            progress=jobs.show,
        )
    width = max(map(len, facts["psnr"]))
    for name, decibels in facts["psnr"].items():
        print(f"{name:<{width}}  PSNR {decibels:.2f} dB over {len(facts['clips'])} clips")
    print(f"{args.out}: {', '.join(sorted(path.name for path in Path(args.out).iterdir()))}")
