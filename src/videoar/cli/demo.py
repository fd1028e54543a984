"""`videoar demo`: samples of the shipped VideoAR-Atari in seconds; then the whole path in minutes: render games, train
both models, sample, and lay the results side by side.

Every step but the last is a `videoar` command that is printed, so that it can be repeated and changed by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videoar.cli.options import guidance
from videoar.ranges import COUNT, SEED

GAMES = "boxing,fishing_derby,frogger,riverraid"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--out", default="outputs/demo", metavar="DIR", help="folder for everything (default outputs/demo)")
    add("--configs", default="configs", metavar="DIR", help="the repository's configs (default configs)")
    add("--games", default=GAMES, help=f"games to render, joined by commas (default {GAMES})")
    add("--clips", type=COUNT, default=80, help="training clips a game (default 80)")
    add("--tokenizer-steps", type=COUNT, default=None, help="training batches of the tokenizer (default: the config's)")
    add("--generator-steps", type=COUNT, default=None, help="training batches of the generator (default: the config's)")
    add("--guidance", type=guidance, default="2", help="guidance of the samples (default 2)")
    add("--seed", type=SEED, default=0, help="seed of data, training and samples (default 0)")


def run(args: argparse.Namespace) -> int:
    """Run the demo from data to report."""
    from videoar.cli.main import main
    from videoar.demo.run import Demo, run_demo

    steps = (args.tokenizer_steps, args.generator_steps)
    demo = Demo(Path(args.out), Path(args.configs), args.games, args.clips, *steps, args.guidance, args.seed)
    run_demo(demo, main, lambda text: print(text, flush=True))
    print(f"\nDone in {sum(demo.seconds.values()) / 60:.1f} minutes. Look at:")
    for name in ("contact_sheet.png", "curves.png", "report.json", "samples", "model"):
        print(f"  {demo.out / name}")
    return 0
