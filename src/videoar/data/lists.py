"""CSV, TSV and JSONL lists of clips, and the plain lists of UCF-101 (`testlist01.txt`)."""

import csv
import json
from pathlib import Path
from typing import Any

from videoar.data.files import read_text
from videoar.data.items import SPLITS, Item
from videoar.errors import UserError


def read_list(path: Path) -> list[Item]:
    """A CSV (with header) or JSONL list: path, and any of label|class, caption, split, frames, fps."""
    with open(path, newline="", encoding="utf-8") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            rows: list[dict[str, Any]] = []
            for number, line in enumerate(file, start=1):
                try:
                    rows += [json.loads(line)] if line.strip() else []
                except json.JSONDecodeError as error:
                    raise UserError(f"{path} line {number}: {error}") from error
        elif path.suffix.lower() in (".csv", ".tsv"):
            rows = list(csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
        else:
            raise UserError(f"{path}: a source is a folder, a .csv, .tsv or .jsonl list, or .tar shards")
    return [_listed_item(path, number, row) for number, row in enumerate(rows, start=1)]


def _listed_item(source: Path, number: int, row: dict[str, Any]) -> Item:
    where = f"{source} entry {number}"
    if not isinstance(row, dict) or not row.get("path"):
        raise UserError(f'{where}: needs a "path", got {row}')
    label = row.get("label", row.get("class"))
    label = None if label in (None, "") else str(label)
    if label is not None and label.startswith("-") and label[1:].isdigit():
        raise UserError(f"{where}: label {label} is out of range; labels are names or numbers from 0")
    split = str(row.get("split") or "train") if "split" in row else None
    split = "val" if split in ("valid", "validation") else split
    if split not in (None, *SPLITS):
        raise UserError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    path = source.parent / str(row["path"])
    if not path.is_file():
        raise UserError(f"{where}: no such file {path}")
    try:
        frames = int(row["frames"]) if row.get("frames") else None
        fps = float(row.get("fps") or 0)
        width, height = (int(side) for side in str(row["size"]).split("x")) if row.get("size") else (0, 0)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    caption = str(row.get("caption") or label or "")
    return Item(str(path), label, caption, split, frames, fps, (height, width) if height else None)


def listed_videos(path: Path) -> tuple[str, ...]:
    """The paths in a plain list, sorted: one a line, relative to its own folder, perhaps followed by a class number.

    Raises:
        UserError: no file, no path in it, or a listed file that is not there.
    """
    if not path.is_file():
        raise UserError(f"no list of videos at {path}")
    names = set()
    for line in read_text(path).splitlines():
        name, _, number = line.strip().rpartition(" ")
        if line.strip():
            names.add(name if name and number.isdigit() else line.strip())
    missing = sorted(name for name in names if not (path.parent / name).is_file())
    if missing or not names:
        raise UserError(f"{path} lists {len(names)} videos, {len(missing)} are missing, e.g. {''.join(missing[:1])!r}")
    return tuple(sorted(names))
