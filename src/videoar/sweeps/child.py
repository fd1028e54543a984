"""One child run: its steps one after the other, resumable at every moment.

Files of a child's folder, each whole or absent:

    child.json      what to do (written before the first start)
    override.yaml   what differs from the base configs; the last --config of every training command
    commands.sh     the exact commands, to run by hand
    state.json      steps that are done and their seconds, the step that runs and our process, the last error
    log.txt         output of all steps and attempts
    result.json     the collected numbers; its presence marks a finished child
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from videoar.data.files import atomic_path
from videoar.errors import UserError
from videoar.sweeps.collect import collect
from videoar.sweeps.spec import Child

VIDEOAR = (sys.executable, "-m", "videoar")


def write_child(child: Child, folder: Path) -> None:
    """Write what to do; a folder of the same child is kept, so that it resumes.

    Raises:
        UserError: the folder holds a child with other settings.
    """
    spec = {
        "name": child.name,
        "digest": child.digest(),
        "choice": child.choice,
        "seed": child.seed,
        "steps": child.steps,
        "collect": child.collect,
    }
    before = read_json(folder / "child.json")
    if before and before["digest"] != spec["digest"]:
        raise UserError(f"{folder} was started with other settings; remove it or choose another --out")
    _write(folder / "override.yaml", child.override_yaml())
    _write(folder / "commands.sh", "\n".join(child.commands()) + "\n")
    _write(folder / "child.json", json.dumps(spec, indent=2, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; {} if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def result_of(folder: Path) -> dict[str, Any] | None:
    """The result of a finished child, or None: not finished, or other numbers are wanted now."""
    result, spec = read_json(folder / "result.json"), read_json(folder / "child.json")
    return result if result and result["collect"] == spec.get("collect") else None


def tail(folder: Path, lines: int = 12) -> list[str]:
    """The last lines of the log, of the last step that ran."""
    path = folder / "log.txt"
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        text = file.read().decode("utf-8", "replace")
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    begin = max((i for i, line in enumerate(kept) if line.startswith("$ ")), default=0)
    return kept[begin:][-lines:]


def run_child(folder: str | Path) -> int:
    """Run the steps that are not done yet, collect the numbers, mark the child as finished.

    Only one process works on a folder: another waits until it is over. A step holds the lock too, so that one whose
    parent was killed is waited for.

    Returns:
        0, or 1 after a failure, which state.json names.
    """
    folder = Path(folder)
    with _locked(folder) as lock:
        if result_of(folder) is not None:
            return 0
        spec, state = read_json(folder / "child.json"), read_json(folder / "state.json")
        state = {"done": state.get("done", []), "seconds": state.get("seconds", {}), "error": None, "pid": os.getpid()}
        try:
            for step, argv in spec["steps"].items():
                if step not in state["done"]:
                    _run_step(folder, step, argv, state, lock)
            _save(folder, state, running="collect")
            metrics = collect(folder, spec["collect"], state["seconds"])
        except (UserError, OSError) as error:
            _save(folder, state, running=None, error=" ".join(str(error).split()))
            return 1
        result = {"metrics": metrics, "collect": spec["collect"], "seconds": state["seconds"]}
        _save(folder, state, running=None)
        _write(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return 0


def _run_step(folder: Path, step: str, argv: list[str], state: dict[str, Any], lock: IO[str]) -> None:
    """Run one step and mark it as done."""
    words = _command(folder, step, argv)
    before = state["seconds"].get(step, 0.0)
    started = time.monotonic()
    _save(folder, state, running=step)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(words)}\n")
        log.flush()
        # Lightning must not take a step for one task of the SLURM job that this process is.
        outer = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        environment = outer | {"PYTHONUNBUFFERED": "1"}
        code = subprocess.call(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=[lock.fileno()], env=environment
        )
    state["seconds"][step] = round(before + time.monotonic() - started, 3)
    if code:
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = tail(folder, 1)[0]
        raise UserError(f"step {step} ended with {why}" + ("" if said.startswith("$ ") else f": {said[:300]}"))
    state["done"].append(step)
    _save(folder, state, running=None)


def _command(folder: Path, step: str, argv: list[str]) -> list[str]:
    """The words to run: {ckpt} filled in, and a fit that was interrupted told where it stopped."""
    if any("{ckpt}" in word for word in argv):
        newest = _newest(folder)
        if newest is None:
            raise UserError(f"step {step} needs {{ckpt}}, but there is no last.ckpt below {folder}")
        argv = [word.replace("{ckpt}", str(newest)) for word in argv]
    if argv[0] == "$":
        return argv[1:]
    # A child may hold several fits; the checkpoint to go on from must be this step's own.
    own = folder / step if (folder / step).is_dir() else folder
    last = _newest(own) if argv[0] == "fit" and "--ckpt_path" not in argv else None
    return [*VIDEOAR, *argv, *(["--ckpt_path", str(last)] if last else [])]


def _newest(folder: Path) -> Path | None:
    """The newest last.ckpt below a folder (ModelCheckpoint's `save_last`)."""
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """Hold the folder's lock, waiting for whoever has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _save(folder: Path, state: dict[str, Any], **changes: Any) -> None:
    state.update(changes, updated=time.time())
    _write(folder / "state.json", json.dumps(state, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_child(sys.argv[1]))
