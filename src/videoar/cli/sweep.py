"""`videoar sweep`: many runs from one YAML: base configs, variants, a grid, seeds; one table at the end.

Every child run has a folder with an override YAML (the last --config, so it wins), its exact commands, its log and its
result. Started again, a sweep skips what is finished and resumes what was killed. A failed child is reported, the
others go on, and the exit code is 1.

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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.errors import UserError

if TYPE_CHECKING:
    from videoar.sweeps.launch import Job, Launcher
    from videoar.sweeps.report import Outcome
    from videoar.sweeps.show import View
    from videoar.sweeps.spec import Child, Sweep

POLL_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("sweep", metavar="FILE", help="the sweep's YAML, such as configs/sweeps/table4.yaml")
    add("--out", metavar="DIR", help="folder of the sweep (default outputs/sweeps/NAME)")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change the YAML's `vars`, e.g. data=data/ucf101")
    add("--launcher", choices=["process", "local", "slurm"], help="plain processes, or submitit's (default: YAML's)")
    add("--jobs", type=int, metavar="N", help="children at the same time (default: the YAML's, or 1)")
    add("--devices", metavar="0,1,…", help="GPUs to share out, one for each of the --jobs (plain processes)")
    add("--dry-run", action="store_true", help="show the children and their commands; write and start nothing")


def run(args: argparse.Namespace) -> int:
    """Run what is not finished yet; write results.csv, results.md and results.png."""
    from videoar.sweeps.launch import make_launcher
    from videoar.sweeps.overrides import load_value
    from videoar.sweeps.report import markdown, write_results
    from videoar.sweeps.show import View
    from videoar.sweeps.spec import load_sweep

    for pair in args.set:
        if "=" not in pair:
            raise UserError(f"--set takes KEY=VALUE, got {pair!r}")
    given = {key: load_value(value) for key, value in (pair.split("=", 1) for pair in args.set)}
    sweep = load_sweep(args.sweep, args.out, given)
    jobs = sweep.jobs if args.jobs is None else args.jobs
    launcher, devices = args.launcher or sweep.launcher, args.devices.split(",") if args.devices else []
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    if devices and (launcher != "process" or len(devices) < jobs):
        raise UserError(f"--devices {args.devices} must name a GPU for each of {jobs} jobs of the launcher `process`")
    if args.dry_run:
        _show_plan(sweep)
        return 0
    starter = make_launcher(launcher, sweep.out, sweep.slurm)
    _write_folders(sweep)
    with _ended_by_sigterm():
        if sweep.prepare is not None:
            with View([sweep.prepare], []) as view:
                first = _run_all([sweep.prepare], sweep, starter, 1, [], view)
            if first[0].state != "finished":
                _report_failures(first)
                return 1
        with View(sweep.children, sweep.metrics) as view:
            outcomes = _run_all(sweep.children, sweep, starter, jobs, devices, view)
    written = write_results(sweep, outcomes)
    print(markdown(sweep, outcomes), end="")
    _report_failures(outcomes)
    print(f"\nwrote {', '.join(str(path) for path in written)}")
    return int(any(outcome.state == "failed" for outcome in outcomes))


def _show_plan(sweep: Sweep) -> None:
    import shlex

    import yaml

    for child in [*([sweep.prepare] if sweep.prepare else []), *sweep.children]:
        print(f"# {child.name}")
        for argv in child.steps.values():
            print(shlex.join(argv[1:] if argv[0] == "$" else ["videoar", *argv]))
        if child.override:
            text = yaml.safe_dump(child.override, sort_keys=False, allow_unicode=True)
            print("".join(f"    {line}\n" for line in text.splitlines()), end="")
    print(f"{len(sweep.children)} children in {sweep.out}")


def _write_folders(sweep: Sweep) -> None:
    from videoar.sweeps.child import write_child

    for child in [*([sweep.prepare] if sweep.prepare else []), *sweep.children]:
        write_child(child, sweep.out / child.name)


def _run_all(
    children: list[Child], sweep: Sweep, launcher: Launcher, jobs: int, devices: list[str], view: View
) -> list[Outcome]:
    """Run children, at most `jobs` at a time; the outcomes come in the order of `children`."""
    outcomes: dict[str, Outcome] = {}
    waiting: list[Child] = []
    for child in children:
        outcome = _finished(child, sweep.out / child.name)
        if outcome is None:
            waiting.append(child)
        else:
            outcomes[child.name] = view.ended(outcome, "finished before")
    running: dict[int, tuple[Child, Job]] = {}
    try:
        while waiting or running:
            for slot in range(jobs):
                if slot not in running and waiting:
                    child = waiting.pop(0)
                    device = devices[slot] if devices else None
                    running[slot] = child, launcher.start(sweep.out / child.name, device)
                    view.started(child)
            time.sleep(POLL_S)
            for slot, (child, job) in list(running.items()):
                folder = sweep.out / child.name
                if job.done():
                    del running[slot]
                    outcomes[child.name] = view.ended(_finished(child, folder) or _failed(child, folder))
                else:
                    view.running(child, folder)
    finally:
        for _, job in running.values():
            job.stop()
    return [outcomes[child.name] for child in children]


def _finished(child: Child, folder: Path) -> Outcome | None:
    from videoar.sweeps.child import result_of
    from videoar.sweeps.report import Outcome

    result = result_of(folder)
    if result is None:
        return None
    return Outcome(child, "finished", result["metrics"], sum(result["seconds"].values()))


def _failed(child: Child, folder: Path) -> Outcome:
    from videoar.sweeps.child import tail
    from videoar.sweeps.launch import failure
    from videoar.sweeps.report import Outcome

    return Outcome(child, "failed", error=failure(folder), log=tuple(tail(folder)))


def _report_failures(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.state == "failed":
            print(f"\n{outcome.child.name} failed: {outcome.error}")
            print("".join(f"    {line}\n" for line in outcome.log), end="")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end us like Ctrl-C, so that the children are ended too."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
