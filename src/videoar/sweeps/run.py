"""Running a sweep: children that are not finished yet are started, watched and collected; then come the tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videoar.errors import UserError
from videoar.files import only_writer
from videoar.sweeps.child import partial_result, result_of, tail, write_child
from videoar.sweeps.launch import Job, Launcher, failure, make_launcher, stop
from videoar.sweeps.report import Outcome, write_results
from videoar.sweeps.show import View
from videoar.sweeps.spec import Child, Sweep, load_sweep

POLL_S = 0.1


@dataclass(frozen=True)
class Result:
    """How a sweep ended.

    Attributes:
        outcomes: one a child, in the order of `sweep.children`; only that of `prepare` where it failed.
        files: the tables and the plot that were written; none where `prepare` failed.
    """

    sweep: Sweep
    outcomes: list[Outcome]
    files: list[Path]

    @property
    def failed(self) -> list[Outcome]:
        """The children that failed."""
        return [outcome for outcome in self.outcomes if outcome.state == "failed"]


def run_sweep(
    spec: Sweep | str | Path,
    out: str | Path | None = None,
    given: dict[str, Any] | None = None,
    *,
    launcher: str | None = None,
    jobs: int | None = None,
    devices: Sequence[str] = (),
) -> Result:
    """Run what is not finished yet; write results.csv, results.md and results.png into the sweep's folder.

    Args:
        spec: a sweep's YAML, with `out` and `given` as in `load_sweep`; or a `Sweep`.
        launcher: process, local or slurm. jobs: children at the same time. None: what the YAML says.
        devices: CUDA devices to share out, one for each job (plain processes); empty: every child sees all.

    Raises:
        UserError: a bad YAML, options that do not fit together, or a folder that holds a sweep with other settings or
            is being written by another.
    """
    sweep = spec if isinstance(spec, Sweep) else load_sweep(spec, out, given)
    jobs, launcher = sweep.jobs if jobs is None else jobs, launcher or sweep.launcher
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    if devices and (launcher != "process" or len(devices) < jobs):
        names = ",".join(devices)
        raise UserError(f"--devices {names} must name a GPU for each of {jobs} jobs of the launcher `process`")
    starter = make_launcher(launcher, sweep.out, sweep.slurm)
    with only_writer(sweep.out):
        return _run(sweep, starter, jobs, devices)


def _run(sweep: Sweep, starter: Launcher, jobs: int, devices: Sequence[str]) -> Result:
    for child in sweep.everything:
        write_child(child, sweep.out / child.name)
    if sweep.prepare is not None:
        with View([sweep.prepare], []) as view:
            first = _run_all([sweep.prepare], sweep, starter, 1, [], view)
        if first[0].state != "finished":
            return Result(sweep, first, [])
    with View(sweep.children, sweep.metrics) as view:
        outcomes = _run_all(sweep.children, sweep, starter, jobs, devices, view)
    return Result(sweep, outcomes, write_results(sweep, outcomes))


def _run_all(
    children: list[Child], sweep: Sweep, launcher: Launcher, jobs: int, devices: Sequence[str], view: View
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
        stop([job for _, job in running.values()])
    return [outcomes[child.name] for child in children]


def _finished(child: Child, folder: Path) -> Outcome | None:
    result = result_of(folder)
    if result is None:
        return None
    return Outcome(child, "finished", result["metrics"], sum(result["seconds"].values()))


def _failed(child: Child, folder: Path) -> Outcome:
    return Outcome(child, "failed", partial_result(folder), error=failure(folder), log=tuple(tail(folder)))
