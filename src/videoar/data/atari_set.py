"""A whole Atari data set: many games in parallel, each in a child process of its own, in UCF-101's layout.

A few ROMs end the process that loads them, and some show no motion under random play; both kinds are dropped
with the reason. A game's folder appears when it is complete, so an interrupted run goes on where it stopped.
How much each game moves is measured, kept (manifest.csv, motion.csv) and can be what games are chosen by.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from difflib import get_close_matches
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from videoar.data.atari import AtariClips, GameMotion, StaticGame, manifest_rows, probe_game, render_game
from videoar.data.files import atomic_path
from videoar.data.layout import write_lines, write_manifest, write_splits
from videoar.data.lifeline import die_with_parent
from videoar.errors import UserError
from videoar.files import LOCK, only_writer, writing

SETTINGS, MOTION, PROBES = "atari.json", "motion.json", ".probes"
PATIENCE = 300.0
"""Seconds in which a child must finish a clip, or it is given up; never a limit for the whole of a game."""
MOVING = 0.015
"""`--games moving`: games of which at least this share of the pixels changes from frame to frame."""
Job = Callable[[str, Path, AtariClips], GameMotion]
Report = Callable[[str, str, str | None], None]
"""Called after every game with the job ("probe_game", "render_game"), the game, and the reason if it is dropped."""


def all_games() -> list[str]:
    """Every game with a ROM in the ale-py wheel, by name. Raises `UserError` without ale-py."""
    if find_spec("ale_py") is None:
        raise UserError("rendering Atari clips needs the ale-py package: pip install 'videoar[atari]'")
    from ale_py import roms

    return sorted(roms.get_all_rom_ids())


def parse_games(games: str) -> tuple[list[str], int | None]:
    """`"all"`, `"moving"`, a number, or names joined by commas -> (candidates, how many of the most moving).

    The number is None where every candidate is wanted, and 0 for all that move.
    """
    known = all_games()
    if games == "all":
        return known, None
    if games == "moving":
        return known, 0
    if games.isdigit():
        if not 1 <= int(games) <= len(known):
            raise UserError(f"asked for {games} games; there are 1 to {len(known)}")
        return known, int(games)
    names = list(dict.fromkeys(name.strip() for name in games.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        near = {name: None for each in unknown for name in get_close_matches(each, known, 3, 0.5)}
        meant = f"did you mean {', '.join([*near][:3])}?" if near else f"there are {len(known)}, such as {known[0]}"
        raise UserError(f"no such game: {', '.join(unknown)[:80] or repr(games)}; {meant}")
    return names, None


def render_set(
    out: str | Path, games: str, clips: AtariClips, workers: int = 0, report: Report | None = None
) -> tuple[list[str], dict[str, str]]:
    """Render a data set into `out`; returns (games kept, sorted) and {game dropped: reason}.

    `games` as in `parse_games`. To choose by motion every game is measured first; a number means that many games
    that can be rendered, the most moving first. `workers` 0 is one a core.
    """
    candidates, most = parse_games(games)
    out = Path(out)
    with only_writer(out):
        _check_settings(out, clips)
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            kept, dropped = _render(out, candidates, most, clips, pool, report)
        if not kept:
            reasons = "; ".join(f"{game}: {reason}" for game, reason in dropped.items())
            raise UserError(f"{out}: no game could be rendered ({reasons[:500]})")
        _write_lists(out, sorted(kept), dropped, clips)
    return sorted(kept), dropped


def _render(
    out: Path, candidates: list[str], most: int | None, clips: AtariClips, pool: Executor, report: Report | None
) -> tuple[list[str], dict[str, str]]:
    def each(job: Job, wave: Sequence[str], home: Path) -> dict[str, str]:
        """Do `job` for all games at once; reasons of those that fail."""

        def one(game: str) -> str | None:
            reason = _in_child(job, game, home, clips)
            if report:
                report(job.__name__, game, reason)
            return reason

        return {game: reason for game, reason in zip(wave, pool.map(one, wave), strict=True) if reason}

    kept: list[str] = []
    dropped: dict[str, str] = {}
    if most is not None:
        dropped = each(probe_game, candidates, out / PROBES)
        motion = {game: read_motion(out / PROBES / game).motion for game in candidates if game not in dropped}
        least = 0.0 if most else MOVING
        candidates = sorted((game for game in motion if motion[game] >= least), key=lambda game: -motion[game])
    wanted = most or len(candidates)
    while candidates and len(kept) < wanted:
        wave, candidates = candidates[: wanted - len(kept)], candidates[wanted - len(kept) :]
        failed = each(render_game, wave, out)
        dropped |= failed
        kept += [game for game in wave if game not in failed]
    return kept, dropped


def read_motion(folder: Path) -> GameMotion:
    """What was measured of the game in `folder`."""
    return GameMotion(**json.loads((folder / MOTION).read_text()))


def _check_settings(out: Path, clips: AtariClips) -> None:
    """Remember the settings in the folder; refuse to mix clips of different ones."""
    settings, path = asdict(clips), out / SETTINGS
    if path.is_file():
        try:
            earlier = json.loads(path.read_bytes())
        except ValueError:
            earlier = None
        if not isinstance(earlier, dict):
            raise UserError(f"{path} was not written by this command; choose another folder")
        changed = [
            f"{key} {earlier.get(key)} -> {value}" for key, value in settings.items() if earlier.get(key) != value
        ]
        if changed:
            raise UserError(f"{out} holds clips of other settings ({', '.join(changed)}); choose another folder")
    else:
        if out.exists() and (not out.is_dir() or {*os.listdir(out)} - {LOCK}):
            raise UserError(f"{out} exists and was not made by this command; choose another folder")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n")


def _in_child(job: Job, game: str, home: Path, clips: AtariClips) -> str | None:
    """Make `home`/`game` by `job`, in a process that may die; None on success, else the reason why it is dropped.

    Raises `UserError` for what is no fault of the game: a disk that is full, a process that was killed, a bug.
    """
    if (home / game).is_dir():
        return None
    folder = home / f".{game}.part"
    shutil.rmtree(folder, ignore_errors=True)
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":  # children are forked from one clean process that has imported these
        context.set_forkserver_preload(["videoar.data.atari", "videoar.data.writers", "ale_py", "av"])
    answers, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(job, game, folder, clips, theirs), daemon=True)
    try:
        with writing(home / game):
            folder.mkdir(parents=True)
        child.start()
        theirs.close()
        outcome, text = _follow(child, answers, folder)
        child.join()
        if outcome == "failed":
            raise UserError(f"{game}: {text}")
        if outcome == "dropped":
            return text
        with writing(home / game):
            os.replace(folder, home / game)
        return None
    finally:
        answers.close()
        shutil.rmtree(folder, ignore_errors=True)


def _follow(child: Any, answers: Connection, folder: Path) -> tuple[str, str]:
    """Wait until a child has done its job: ("done" | "dropped" | "failed", why). Only an emulator ends it without."""
    begun, clips_before = False, 0
    while True:
        if answers.poll(PATIENCE):
            try:
                answer = answers.recv()
            except EOFError:
                break
            if answer[0] != "begun":
                return answer
            begun = True
        elif (clips_done := len(os.listdir(folder))) > clips_before:
            clips_before = clips_done
        else:
            child.kill()
            return "dropped", f"no clip in {PATIENCE:g} s"
    child.join()
    if begun and child.exitcode != -signal.SIGKILL:
        return "dropped", f"the emulator ended the process (exit code {child.exitcode})"
    how = "was killed (out of memory?)" if begun else "did not start"
    return "failed", f"the process that renders it {how} (exit code {child.exitcode})"


def _child(job: Job, game: str, folder: Path, clips: AtariClips, answers: Connection) -> None:
    """Entry point of the child process, which ends with its maker. The emulator's own messages are silenced."""
    import torch

    die_with_parent()
    torch.set_num_threads(1)  # one process a core
    with open(os.devnull, "w") as silent:
        os.dup2(silent.fileno(), 2)
        os.dup2(silent.fileno(), 1)
    answers.send(("begun", ""))
    try:
        found = job(game, folder, clips)
        with atomic_path(folder / MOTION) as temporary:
            temporary.write_text(json.dumps(asdict(found), indent=1) + "\n")
        answers.send(("done", ""))
    except StaticGame as static:
        answers.send(("dropped", str(static)))
    except Exception as error:  # no fault of the game
        answers.send(("failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"))


def _write_lists(out: Path, kept: Sequence[str], dropped: dict[str, str], clips: AtariClips) -> None:
    found = {game: read_motion(out / game) for game in kept}
    rows = [(split, row) for game in kept for split, row in manifest_rows(game, clips, found[game].shares)]
    write_manifest(out, (row for _, row in rows))
    lists = {name: [row.path for split, row in rows if split == name] for name in ("train", "test")}
    write_splits(out, kept, lists["train"], lists["test"])
    table = [f"{game},{m.motion:.4f},{m.cut / m.drawn:.3f},{m.still / m.drawn:.3f}" for game, m in found.items()]
    write_lines(out / "motion.csv", ["game,motion,cut,still", *table])
    write_lines(out / "dropped.txt", (f"{game}: {reason}" for game, reason in sorted(dropped.items())))
