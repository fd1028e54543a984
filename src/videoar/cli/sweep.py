"""`videoar sweep`: many runs from one YAML: base configs, variants, a grid, seeds; one table at the end.

Every child run has a folder with an override YAML (the last --config, so it wins), its exact commands, its log and its
result. Started again, a sweep skips what is finished and resumes what was killed. A failed child is reported, the
others go on, and the exit code is 1. Ctrl-C and SIGTERM let children write their checkpoints; exit code 130 and 143.

examples:
  videoar sweep configs/sweeps/debug.yaml                        # minutes on a CPU
  videoar sweep configs/sweeps/table4.yaml --set data=data/ucf101 tokenizer=outputs/tokenizer_model
  videoar sweep configs/sweeps/table4.yaml --dry-run             # only show the children and their commands
  videoar sweep configs/sweeps/table4.yaml --launcher slurm --jobs 12
  videoar sweep configs/sweeps/table4.yaml --jobs 4 --devices 0,1,2,3
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from videoar.cli import options
from videoar.ranges import WORKERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("sweep", metavar="FILE", help="the sweep's YAML, such as configs/sweeps/table4.yaml")
    add("--out", metavar="DIR", help="folder of the sweep (default outputs/sweeps/NAME)")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change the YAML's `vars`, e.g. data=data/ucf101")
    add("--launcher", choices=["process", "local", "slurm"], help="plain processes, or submitit's (default: YAML's)")
    add("--jobs", type=WORKERS, metavar="N", help="children at the same time (default: the YAML's, or 1)")
    add("--devices", metavar="0,1,…", help="GPUs to share out, one for each of the --jobs (plain processes)")
    add("--dry-run", action="store_true", help="show the children and their commands; write and start nothing")


def run(args: argparse.Namespace) -> int:
    """Run what is not finished yet; write results.csv, results.md and results.png."""
    from videoar.sweeps.report import failures, markdown
    from videoar.sweeps.run import run_sweep
    from videoar.sweeps.show import plan_text
    from videoar.sweeps.spec import load_sweep
    from videoar.yaml_files import read_value

    given = {key: read_value(value, "--set") for key, value in options.pairs(args.set, "--set").items()}
    sweep = load_sweep(args.sweep, args.out, given)
    if args.dry_run:
        print(plan_text(sweep), end="")
        return 0
    devices = args.devices.split(",") if args.devices else []
    with _ended_by_signals():
        result = run_sweep(sweep, launcher=args.launcher, jobs=args.jobs, devices=devices)
    if result.files:
        print(markdown(sweep, result.outcomes), end="")
    print(failures(result.outcomes), end="")
    if result.files:
        print(f"\nwrote {', '.join(str(path) for path in result.files)}")
    return int(bool(result.failed))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the sweep with SystemExit(128 + signal), after its children; a second one ends those."""
    seen: list[int] = []

    def end(number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        if not seen:
            print(f"\n{name}: waiting for checkpoints of what runs; once more to end it at once", file=sys.stderr)
            print("the same command goes on with the sweep", file=sys.stderr)
        seen.append(number)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
