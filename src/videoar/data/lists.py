"""CSV, TSV and JSONL lists of clips, and the plain lists of UCF-101 (`testlist01.txt`)."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

from videoar.data.files import read_text
from videoar.data.items import SPLITS, Item, captioned, split_of
from videoar.errors import UserError


def read_list(path: Path) -> list[Item]:
    """A CSV (with header) or JSONL list: path, and any of label|class, caption, split, frames, fps, size.

    Raises `UserError`, with the entry, for a list that is no text or an entry that is wrong.
    """
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except (json.JSONDecodeError, RecursionError) as error:
                raise UserError(f"{path} line {number}: {error}") from error
    elif kind in (".csv", ".tsv"):
        text = StringIO(read_text(path), newline="")
        try:
            rows = list(csv.DictReader(text, delimiter="\t" if kind == ".tsv" else ","))
        except csv.Error as error:
            raise UserError(f"{path}: {error}") from error
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
    split = split_of(str(row.get("split") or "train")) if "split" in row else None
    if "split" in row and split is None:
        raise UserError(f"{where}: split must be one of {', '.join(SPLITS)}, got {row['split']!r}")
    path = source.parent / str(row["path"])
    if not path.is_file():
        raise UserError(f"{where}: no such file {path}")
    try:
        frames = int(row["frames"]) if row.get("frames") else None
        fps = float(row.get("fps") or 0)
        width, height = (int(side) for side in str(row["size"]).split("x")) if row.get("size") else (0, 0)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{where}: {error}") from error
    item = Item(str(path), label, "", split, frames, fps, (height, width) if height else None)
    return captioned(item, row.get("caption") or "")


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
