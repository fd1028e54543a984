"""UCF-101's folder layout: class folders, `classInd.txt`, official split lists, and our `manifest.csv` beside them.

root/classInd.txt                 "1 ApplyEyeMakeup"
root/trainlist01.txt              "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
root/testlist01.txt               "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
root/manifest.csv                 path,class,frames,fps,size         (true frame counts; size is WIDTHxHEIGHT)
                                  …,motion,reader,seeks              (where they were measured)
root/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi                   (group = one recording, c = cut of it)
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from videoar.data.files import as_text, atomic_path, read_text
from videoar.data.probe import Probe
from videoar.errors import UserError

MANIFEST = "manifest.csv"
BAD_FILES = "bad_files.csv"
_COLUMNS = ("path", "class", "frames", "fps", "size")
_MEASURED = ("motion", "reader", "seeks")
"""Columns that lists of older versions do not have."""
_BAD_COLUMNS = ("path", "reason")


@dataclass(frozen=True, order=True)
class ManifestRow:
    """One clip that decodes: `path` relative to the manifest's folder, and its true frame count.

    `motion` is the share of its pixels that change from frame to frame, where it was measured;
    `reader` reads it, and its frames were compared at `seeks` places with those of decoding in order (`verify.check`).
    """

    path: str
    class_name: str
    frames: int
    fps: float
    width: int
    height: int
    motion: float | None = None
    reader: str = ""
    seeks: int = 0
    found: Probe | None = field(default=None, compare=False)


def write_manifest(folder: Path, rows: Iterable[ManifestRow]) -> Path:
    """Write `folder/manifest.csv`, sorted by path."""
    target = folder / MANIFEST
    with atomic_path(target) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*_COLUMNS, *_MEASURED))
        for row in sorted(rows):
            size = f"{row.width}x{row.height}"
            motion = "" if row.motion is None else f"{row.motion:g}"
            measured = [motion, row.reader, row.seeks or ""]
            writer.writerow([row.path, row.class_name, row.frames, f"{row.fps:g}", size, *measured])
    return target


def read_manifest(folder: Path) -> dict[str, ManifestRow]:
    """Rows of `folder/manifest.csv` by path; empty if it is not there or not ours.

    Raises `UserError` for a malformed line.
    """
    path = folder / MANIFEST
    rows: dict[str, ManifestRow] = {}
    for number, line in enumerate(_rows(path, _COLUMNS) or (), start=2):
        try:
            width, height = (int(number) for number in line["size"].split("x"))
            frames, fps = int(line["frames"]), float(line["fps"])
            motion = float(line["motion"]) if line.get("motion") else None
            reader, seeks = line.get("reader") or "", int(line.get("seeks") or 0)
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            raise UserError(f"{path} line {number}: {error}") from error
        name, label = line["path"], line["class"]
        rows[name] = ManifestRow(name, label, frames, fps, width, height, motion, reader, seeks)
    return rows


def write_bad_files(folder: Path, bad: dict[str, str]) -> None:
    """Write `folder/bad_files.csv`, or remove an old one when nothing is bad any more."""
    if not bad:
        (folder / BAD_FILES).unlink(missing_ok=True)
        return
    with atomic_path(folder / BAD_FILES) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_BAD_COLUMNS)
        writer.writerows(sorted(bad.items()))


def read_bad_files(folder: Path) -> set[str]:
    """Paths in `folder/bad_files.csv`; empty if there is none of ours."""
    return {line["path"] for line in _rows(folder / BAD_FILES, _BAD_COLUMNS) or ()}


def foreign_lists(folder: Path) -> list[Path]:
    """Files called `manifest.csv` or `bad_files.csv` that somebody else wrote, by their columns."""
    lists = ((folder / MANIFEST, _COLUMNS), (folder / BAD_FILES, _BAD_COLUMNS))
    return [path for path, columns in lists if path.exists() and _rows(path, columns) is None]


def _rows(path: Path, columns: Sequence[str]) -> "csv.DictReader[str] | None":
    """The lines of one of our lists; None if there is no file, or a file of other columns: not ours."""
    if not path.is_file():
        return None
    text = as_text(path.read_bytes())
    reader = csv.DictReader(StringIO(text or "", newline=""))
    names = [name for name in reader.fieldnames or () if name not in _MEASURED]
    return reader if names == list(columns) else None


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write text lines atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_splits(folder: Path, classes: Sequence[str], train: Sequence[str], test: Sequence[str]) -> None:
    """Write `classInd.txt`, `trainlist01.txt` and `testlist01.txt`; the lists hold `class/file` paths."""
    number = {name: index for index, name in enumerate(classes, start=1)}
    write_lines(folder / "classInd.txt", (f"{index} {name}" for name, index in number.items()))
    write_lines(folder / "trainlist01.txt", (f"{path} {number[path.split('/')[0]]}" for path in train))
    write_lines(folder / "testlist01.txt", test)


def read_class_index(path: Path) -> list[str]:
    """Class names in the order of `classInd.txt` (numbers 1..N, no gaps)."""
    numbered: dict[int, str] = {}
    for line in read_text(path).split("\n"):
        if line.strip():
            number, _, name = line.strip().partition(" ")
            if not number.isdigit() or not name:
                raise UserError(f'{path}: expected "NUMBER NAME", got {line!r}')
            numbered[int(number)] = name
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        raise UserError(f"{path}: class numbers must be 1..{len(numbered)} without gaps, got {sorted(numbered)}")
    return [numbered[index] for index in sorted(numbered)]


def read_split(path: Path) -> list[str]:
    """The `class/file` paths of a train or test list, in order; class numbers after the path are ignored."""
    if not path.is_file():
        raise UserError(f"{path}: no such split list")
    lines = (line.strip() for line in read_text(path).split("\n"))
    paths = [line.rpartition(" ")[0] if line.rpartition(" ")[2].isdigit() else line for line in lines if line]
    if not paths:
        raise UserError(f"{path}: the list is empty")
    return paths
