"""A whole Atari data set: many games in parallel, each in a child process of its own, in UCF-101's layout.

A few ROMs end the process that loads them, and some show no motion under random play; both kinds are dropped
with the reason. A game's folder appears when it is complete, so an interrupted run goes on where it stopped.
"""

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from videoar.data.atari import FAVOURITES, AtariClips, StaticGame, manifest_rows, render_game
from videoar.data.files import atomic_path
from videoar.data.layout import write_lines, write_manifest, write_splits
from videoar.errors import UserError

SETTINGS = "atari.json"
SECONDS_PER_GAME = 600.0
Report = Callable[[str, str | None], None]


def all_games() -> list[str]:
    """Every game with a ROM in the ale-py wheel, favourites first. Raises `UserError` without ale-py."""
    if find_spec("ale_py") is None:
        raise UserError("rendering Atari clips needs the ale-py package: pip install 'videoar[atari]'")
    from ale_py import roms

    known = sorted(roms.get_all_rom_ids())
    first = [game for game in FAVOURITES.split() if game in known]
    return first + [game for game in known if game not in first]


def choose_games(games: str) -> tuple[list[str], int]:
    """`"all"`, a number, or names joined by commas -> (candidates in order, how many are wanted)."""
    known = all_games()
    if games == "all":
        return known, len(known)
    if games.isdigit():
        if not 1 <= int(games) <= len(known):
            raise UserError(f"asked for {games} games; there are 1 to {len(known)}")
        return known, int(games)
    names = list(dict.fromkeys(name.strip() for name in games.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(f"no such game: {', '.join(unknown) or repr(games)}; known are {', '.join(sorted(known))}")
    return names, len(names)


def render_set(
    out: str | Path, games: str, clips: AtariClips, workers: int = 0, report: Report | None = None
) -> tuple[list[str], dict[str, str]]:
    """Render a data set into `out`; returns (games kept, sorted) and {game dropped: reason}.

    A number of games means that many that move: a dropped one is replaced by the next candidate. `workers` 0 is
    one a core. `report(game, reason)` is called after every game, reason None if it was kept.
    """
    candidates, wanted = choose_games(games)
    out = Path(out)
    _check_settings(out, clips)
    workers = workers or os.cpu_count() or 1
    kept: list[str] = []
    dropped: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        while candidates and len(kept) < wanted:
            wave, candidates = candidates[: wanted - len(kept)], candidates[wanted - len(kept) :]

            def render(game: str) -> str | None:
                reason = _render_in_child(game, out, clips)
                if report:
                    report(game, reason)
                return reason

            for game, reason in zip(wave, pool.map(render, wave), strict=True):
                if reason is None:
                    kept.append(game)
                else:
                    dropped[game] = reason
    if not kept:
        reasons = "; ".join(f"{game}: {reason}" for game, reason in dropped.items())
        raise UserError(f"{out}: no game could be rendered ({reasons[:500]})")
    _write_lists(out, sorted(kept), dropped, clips)
    return sorted(kept), dropped


def _check_settings(out: Path, clips: AtariClips) -> None:
    """Remember the settings in the folder; refuse to mix clips of different ones."""
    settings, path = asdict(clips), out / SETTINGS
    if path.is_file():
        earlier = json.loads(path.read_text())
        changed = [
            f"{key} {earlier.get(key)} -> {value}" for key, value in settings.items() if earlier.get(key) != value
        ]
        if changed:
            raise UserError(f"{out} holds clips of other settings ({', '.join(changed)}); choose another folder")
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists and was not made by this command; choose another folder")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n")


def _render_in_child(game: str, out: Path, clips: AtariClips) -> str | None:
    """Render one game in a process that may die; None on success, else the reason why it is dropped."""
    if (out / game).is_dir():
        return None
    folder = out / f".{game}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":  # children are forked from one clean process that has imported these
        context.set_forkserver_preload(["videoar.data.atari", "videoar.data.writers", "ale_py", "av"])
    child = context.Process(target=_child, args=(game, folder, clips), daemon=True)
    try:
        child.start()
        child.join(SECONDS_PER_GAME)
        if child.is_alive():
            child.kill()
            child.join()
            return f"not done after {SECONDS_PER_GAME:g} s"
        reason = folder / "static"
        if reason.is_file():
            return reason.read_text()
        if child.exitcode:
            return f"the emulator ended the process (exit code {child.exitcode})"
        os.replace(folder, out / game)
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _child(game: str, folder: Path, clips: AtariClips) -> None:
    """Entry point of the child process. The emulator's own messages are silenced."""
    with open(os.devnull, "w") as silent:
        os.dup2(silent.fileno(), 2)
        os.dup2(silent.fileno(), 1)
    try:
        render_game(game, folder, clips)
    except StaticGame as static:
        (folder / "static").write_text(str(static))


def _write_lists(out: Path, kept: Sequence[str], dropped: dict[str, str], clips: AtariClips) -> None:
    rows = [(split, row) for game in kept for split, row in manifest_rows(game, clips)]
    write_manifest(out, (row for _, row in rows))
    lists = {name: [row.path for split, row in rows if split == name] for name in ("train", "test")}
    write_splits(out, kept, lists["train"], lists["test"])
    write_lines(out / "dropped.txt", (f"{game}: {reason}" for game, reason in sorted(dropped.items())))
