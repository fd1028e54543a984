"""Where child runs run: plain processes, or submitit's local processes and SLURM jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from videoar.data.files import atomic_path
from videoar.errors import UserError
from videoar.sweeps.child import read_json, run_child

LAUNCHERS = ("process", "local", "slurm")
GRACE_S = 120.0
"""How long children that are to end may take: a fit finishes its batch and writes a checkpoint."""


class Job(Protocol):
    """A child that was started."""

    def done(self) -> bool:
        """Has it ended, well or not?"""

    def ask(self) -> None:
        """Ask it and its steps to end."""

    def gone(self) -> bool:
        """Has it ended, and all that it had started?"""

    def kill(self) -> None:
        """End it and its steps at once."""


def stop(jobs: Sequence[Job]) -> None:
    """Ask all jobs to end, wait for `GRACE_S` and kill what is left; an exception while waiting kills it at once."""
    for job in jobs:
        job.ask()
    until = time.monotonic() + GRACE_S
    try:
        while not all(job.gone() for job in jobs) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        for job in jobs:
            job.kill()


class Launcher(Protocol):
    """Starts children."""

    def start(self, folder: Path, device: str | None) -> Job:
        """Start the child of a folder; `device`: the CUDA device a plain process may see, None: all."""


def make_launcher(name: str, out: Path, slurm: dict[str, Any]) -> Launcher:
    """The launcher called `name`.

    Raises:
        UserError: an unknown name, or submitit is missing.
    """
    if name == "process":
        return ProcessLauncher()
    if name in LAUNCHERS:
        return SubmititLauncher(name, out, slurm)
    raise UserError(f"unknown launcher {name!r}; there are {', '.join(LAUNCHERS)}")


class ProcessLauncher:
    """Children as plain processes of this machine."""

    def start(self, folder: Path, device: str | None) -> Job:
        environment = dict(os.environ) | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device})
        with (folder / "launch.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "videoar.sweeps.child", str(folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        return _Process(process)


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def done(self) -> bool:
        return self.process.poll() is not None

    def ask(self) -> None:
        self._signal(signal.SIGTERM)

    def gone(self) -> bool:
        return not self._signal(0)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, sign: int) -> bool:
        """Signal the whole group (0: only look); is anybody left?"""
        self.process.poll()
        try:
            os.killpg(self.process.pid, sign)
        except ProcessLookupError:
            return False
        return True


class SubmititLauncher:
    """Children through submitit: `local` processes, or `slurm` jobs that go on when the sweep's own process ends.

    Args:
        out: the sweep's folder; logs of the jobs go below it.
        parameters: submitit's, such as {slurm_partition: gpu, gpus_per_node: 1, timeout_min: 720}.
    """

    def __init__(self, cluster: str, out: Path, parameters: dict[str, Any]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError(f"launcher {cluster} needs submitit: pip install 'videoar[sweep]'") from error
        self.logs = out / "jobs"
        try:
            self.executor = submitit.AutoExecutor(folder=self.logs, cluster=cluster)
            self.executor.update_parameters(**({"timeout_min": 60 * 24 * 7} | parameters))
        except (RuntimeError, TypeError, NameError, ValueError) as error:
            raise UserError(f"launcher {cluster}: {' '.join(str(error).split())}") from error
        self.job_class = type(self.executor._executor).job_class

    def start(self, folder: Path, device: str | None) -> Job:
        note = folder / "job.txt"
        if note.is_file():  # submitted by a sweep that was killed, and perhaps still going
            earlier = self.job_class(folder=self.logs, job_id=note.read_text().strip())
            if earlier.state in ("RUNNING", "PENDING", "CONFIGURING", "REQUEUED", "COMPLETING"):
                return _Submitted(earlier)
        job = self.executor.submit(ChildJob(), str(folder.resolve()))
        with atomic_path(note) as path:
            path.write_text(f"{job.job_id}\n")
        return _Submitted(job)


class ChildJob:
    """What submitit pickles: `run_child`, submitted again when the cluster takes the machine away."""

    def __call__(self, folder: str) -> int:
        return run_child(folder)

    def checkpoint(self, folder: str) -> Any:
        """submitit's hook before preemption or a timeout; the child goes on from its last.ckpt."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder)


class _Submitted:
    def __init__(self, job: Any) -> None:
        self.job = job

    def done(self) -> bool:
        return self.job.done()

    def ask(self) -> None:
        self.job.cancel()

    def gone(self) -> bool:
        return self.job.done()

    def kill(self) -> None:
        """Nothing: the cluster does, after a time of its own."""


def failure(folder: Path) -> str:
    """Why a child that has ended left no result."""
    state = read_json(folder / "state.json")
    if state.get("error"):
        return str(state["error"])
    running = state.get("running")
    return f"killed during step {running}" if running else "ended before its first step (see launch.txt)"
