"""Folders of clips as they lie on disks: what their names mean, and what is left out of them and why.

The class of a clip is the first folder on the way from the data set (or from its `train/`, `val/` or `test/`) to it,
however deep it lies, and the same for training, `videoar data check` and metrics.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from urllib.parse import unquote

from videoar.data.files import LATENT_SUFFIXES, VIDEO_SUFFIXES, as_text, is_text, walk
from videoar.data.items import Item, captioned, split_of
from videoar.errors import UserError

log = logging.getLogger(__name__)


class LeftOut:
    """Clips that cannot be used although they are there, said once a reason with their number and some names."""

    def __init__(self, source: str | Path) -> None:
        self.source = source
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, *names: object) -> None:
        """Remember what is left out; no names, nothing to remember."""
        if names:
            self._names.setdefault(reason, []).extend(printable(name) for name in names)

    def log(self) -> None:
        """One warning a reason."""
        for reason, names in self._names.items():
            log.warning("%s: left out %d %s: %s", self.source, len(names), reason, some(names))


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first few of many names."""
    every = list(names)
    return ", ".join(every[:shown]) + (", …" if len(every) > shown else "")


def printable(name: object) -> str:
    """A file name that any terminal and any list takes: bytes that are no UTF-8 as \\xNN or \\uNNNN."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def without_copies(files: Sequence[Path], left: LeftOut) -> list[Path]:
    """One file of each video: no second link to a file, no GIF beside a video of its name, no grid of samples."""
    videos = {file.with_suffix("") for file in files if file.suffix.lower() in VIDEO_SUFFIXES - {".gif"}}
    kept: dict[tuple[int, ...], Path] = {}
    for number, file in enumerate(files):
        if file.suffix.lower() == ".gif" and (file.with_suffix("") in videos or _is_grid(file)):
            continue
        found = file.stat()
        identity = (found.st_dev, found.st_ino, found.st_size) if found.st_ino else (number,)  # 0: has no such number
        if kept.setdefault(identity, file) is not file:
            left.add("links to files that are there", file.relative_to(left.source))
    return list(kept.values())


def _is_grid(file: Path) -> bool:
    """Whether `videoar sample --grid` wrote it."""
    return file.name == "grid.gif" and (file.parent / "samples.json").is_file()


def places(files: Sequence[PurePath]) -> list[tuple[str | None, str | None] | None]:
    """(split, class) of files, given by their paths inside the data set; None for what lies beside the splits.

    Folders are splits if `train` (or Train, training) is one of them and the others are called so too, or if another
    split is there: a folder of the classes bus, car and train has classes. Raises `UserError` for splits without
    `train`.
    """
    tops = {file.parts[0] for file in files if len(file.parts) > 1}
    known = {top: split for top in tops if (split := split_of(top))}
    found = set(known.values())
    if len(found) > 1 and known.keys() == tops and "train" not in found:
        raise UserError(f"the folders {', '.join(sorted(tops))} are splits, and none of them is called train")
    if not ("train" in found and (len(found) > 1 or known.keys() == tops)):
        return [(None, file.parts[0] if len(file.parts) > 1 else None) for file in files]
    return [
        (known[file.parts[0]], file.parts[1] if len(file.parts) > 2 else None) if file.parts[0] in known else None
        for file in files
    ]


def read_folder(root: Path, suffixes: frozenset[str]) -> list[Item]:
    """Flat files, class folders, or either inside train/, val/ and test/; `clip.txt` beside `clip.mp4` is its caption.

    What is left out is logged: names and captions that are no text, folders without clips, files beside the splits.
    """
    left, items = LeftOut(root), []
    files = walk(root, suffixes)
    left.add("files whose names are not UTF-8", *(file.relative_to(root) for file in files if not is_text(file)))
    files = without_copies([file for file in files if is_text(file)], left)
    found = places([file.relative_to(root) for file in files])
    for file, place in zip(files, found, strict=True):
        if place is None:
            left.add("files beside the split folders", file.relative_to(root))
            continue
        split, label = place
        if label is not None and file.suffix.lower() in LATENT_SUFFIXES:
            label = class_of_folder(label)
        text = _sidecar(file)
        if text is None:
            left.add("clips with a caption that is not UTF-8", file.relative_to(root))
            continue
        items.append(captioned(Item(str(file), label, split=split), " ".join(text.split())))
    _look_for_empty_folders(root, files, any(place and place[0] for place in found), left)
    left.log()
    for item in items:
        where = Path(item.path).relative_to(root)
        if item.label and len(where.parts) > 2 + bool(item.split):
            log.info("%s: class folders hold folders; %s is of class %s", root, where.as_posix(), item.label)
            break
    return items


def _sidecar(file: Path) -> str | None:
    """The text beside a clip; empty if there is none, None if it is no text."""
    text = file.with_suffix(".txt")
    return as_text(text.read_bytes()) if text.is_file() else ""


def _look_for_empty_folders(root: Path, files: Sequence[Path], splits: bool, left: LeftOut) -> None:
    """Folders where classes are expected that hold no clips."""
    bases = [path for path in root.iterdir() if path.is_dir() and split_of(path.name)] if splits else [root]
    depth = len(root.parts) + splits + 1
    filled = {file.parts[:depth] for file in files}
    for base in bases:
        inner = (path for path in sorted(base.iterdir()) if path.is_dir() and not path.name.startswith("."))
        left.add("folders without clips", *(path.relative_to(root) for path in inner if path.parts not in filled))


def class_in(path: PurePath, known: Sequence[str]) -> str | None:
    """Which of some known classes a file is of: the first folder of its path that is called so."""
    return next((part for part in path.parts[:-1] if part in known), None)


def folder_of_class(label: str) -> str:
    """A folder name for a class, which `class_of_folder` turns back: no path in it, not hidden, no split's name."""
    name = re.sub(r"[%/\\\0]", lambda found: f"%{ord(found[0]):02X}", label)
    if name.startswith(".") or split_of(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return name


def file_name_of(text: str) -> str:
    """A class or a prompt as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text)[:60]


def class_of_folder(name: str) -> str:
    """The class that `folder_of_class` made a folder for."""
    return unquote(name)
