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
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from videoar.data.files import atomic_path
from videoar.errors import UserError
from videoar.sweeps.collect import collect
from videoar.sweeps.spec import Child

VIDEOAR = (sys.executable, "-m", "videoar")


def write_child(child: Child, folder: Path) -> None:
    """Write what to do; a folder of the same child is kept, so that it resumes.

    A step that reads otherwise now is done again, and so are those after it; training before it stands.

    Raises:
        UserError: the folder holds a child whose training had other settings.
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
    if before and (changed := _changed(before["steps"], child.steps)):
        _forget(folder, changed)
    _write(folder / "override.yaml", child.override_yaml())
    _write(folder / "commands.sh", "\n".join(child.commands()) + "\n")
    _write(folder / "child.json", json.dumps(spec, indent=2, default=str) + "\n")


def _changed(before: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    """The steps from the first one on that is not what it was."""
    pairs = zip(before.items(), now.items())
    same = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(before), len(now)))
    return list(dict.fromkeys([*list(before)[same:], *list(now)[same:]]))


def _forget(folder: Path, steps: list[str]) -> None:
    """These steps are not done any more, and neither is the child."""
    with _locked(folder):
        state = read_json(folder / "state.json")
        if state:
            state["done"] = [step for step in state["done"] if step not in steps]
            state["seconds"] = {name: s for name, s in state["seconds"].items() if name not in steps}
            _save(folder, state)
        (folder / "result.json").unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; {} if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def result_of(folder: Path) -> dict[str, Any] | None:
    """The result of a finished child, or None: not finished, or other numbers are wanted now."""
    result, spec = read_json(folder / "result.json"), read_json(folder / "child.json")
    return result if result and result["collect"] == spec.get("collect") else None


def partial_result(folder: Path) -> dict[str, float]:
    """The numbers of the steps that are done, of a child that failed in a later one."""
    spec, state = read_json(folder / "child.json"), read_json(folder / "state.json")
    done, found = state.get("done", []), dict[str, float]()
    for name, source in spec.get("collect", {}).items():
        makers = _makers(folder, source, spec["steps"])
        if makers and all(step in done for step in makers):
            with suppress(UserError, OSError, KeyError):
                found |= collect(folder, {name: source}, state.get("seconds", {}))
    return found


def _makers(folder: Path, source: dict[str, Any], steps: dict[str, list[str]]) -> list[str]:
    """The steps that a number comes from; none where only the whole child tells."""
    if "scalar" in source:
        return [name for name, argv in steps.items() if argv[0] == "fit"]
    if "seconds" in source:
        return [source["seconds"]]
    place = folder / Path(source["json"]).parts[0]
    return [name for name, argv in steps.items() if place in _written(folder, name, argv)]


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
        kept = {"done": state.get("done", []), "begun": state.get("begun", []), "seconds": state.get("seconds", {})}
        state = kept | {"error": None, "pid": os.getpid()}
        try:
            for step, argv in spec["steps"].items():
                if step not in state["done"]:
                    _make_room(folder, step, spec["steps"], state)
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


def _make_room(folder: Path, step: str, steps: dict[str, list[str]], state: dict[str, Any]) -> None:
    """What an earlier attempt at a step has written is moved aside, lest two be mixed; only a fit goes on with its own.

    That is a folder of the step's name and what `--out` names, where no other step writes there too.
    """
    if step in state["begun"] and steps[step][0] != "fit":
        others = {path for name, argv in steps.items() if name != step for path in _written(folder, name, argv)}
        for path in _written(folder, step, steps[step]) - others:
            if path.is_dir():
                aside = 1 + sum(1 for _ in path.parent.glob(f"{path.name}.before_*"))
                path.rename(path.with_name(f"{path.name}.before_{aside}"))
    state["begun"] = list(dict.fromkeys([*state["begun"], step]))


def _written(folder: Path, step: str, argv: list[str]) -> set[Path]:
    """The folders below the child's that a step writes, as far as its words tell."""
    named = [Path(value) for option, value in itertools.pairwise(argv) if option == "--out"]
    return {folder / step, *(folder / path.name for path in named if path.parent.resolve() == folder.resolve())}


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
