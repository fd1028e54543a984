"""The folder that samples are written into: never a mixture of two runs, because `evaluate` counts all it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from videoar.data.files import VIDEO_SUFFIXES, atomic_path, walk
from videoar.errors import UserError

SETTINGS = "samples.json"
GRIDS = ("grid.gif", "grid.png")


def claim_folder(folder: Path, overwrite: bool = False) -> int:
    """Make sure that no videos lie in `folder` or below; with `overwrite`, remove those that an earlier run lists.

    Only files that `samples.json` names are removed.

    Returns:
        Videos that were removed.

    Raises:
        UserError: other videos are there, or any without `overwrite`.
    """
    if not folder.is_dir():
        return 0
    removed = _remove(folder) if overwrite else 0
    if videos := walk(folder, VIDEO_SUFFIXES):
        found = f"{folder} holds {len(videos)} videos already, e.g. {videos[0].relative_to(folder)}"
        other = "which no earlier run lists" if overwrite else "perhaps of an earlier run, which --overwrite removes"
        raise UserError(f"{found}, {other}; choose another --out")
    return removed


def _remove(folder: Path) -> int:
    """Delete what the folder's `samples.json` lists, and that file; returns how many videos that were."""
    settings = folder / SETTINGS
    if not settings.is_file():
        return 0
    try:
        names = [Path(video["file"]).name for video in json.loads(settings.read_text(encoding="utf-8"))["videos"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{settings}: not written by `videoar sample` ({error}); choose another --out") from error
    for name in names:
        for file in (folder / name, (folder / name).with_suffix(".gif")):
            file.unlink(missing_ok=True)
    for name in (*GRIDS, SETTINGS):
        (folder / name).unlink(missing_ok=True)
    return len(names)


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write `samples.json`, whole or not at all."""
    with atomic_path(folder / SETTINGS) as path:
        path.write_text(json.dumps(settings, indent=2, default=str) + "\n")
