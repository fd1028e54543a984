"""Where clips come from: finds the items of a data set, their labels, captions and splits, without decoding.

Layouts, recognised by themselves: a flat folder; a folder of class folders (also inside train/, val/, test/);
UCF-101 as distributed; a CSV or JSONL list; WebDataset tar shards. A `clip.txt` beside `clip.mp4` is its caption.
"""

import csv
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from math import ceil
from pathlib import Path

from videoar.data.files import IMAGE_SUFFIXES, LATENT_SUFFIXES, VIDEO_SUFFIXES
from videoar.data.items import SPLITS, SUFFIXES, Item, Source, SourceIndex, SourceKind
from videoar.data.layout import BAD_FILES, MANIFEST, read_class_index, read_manifest, read_split
from videoar.data.lists import read_list
from videoar.data.shards import find_shards, index_shards
from videoar.errors import UserError

log = logging.getLogger(__name__)


def index_source(source: Source) -> SourceIndex:
    """Find everything in a source. Raises `UserError` for a missing folder, an empty class, a bad list, no items."""
    path, shards = Path(source.path), find_shards(source.path)
    classes: tuple[str, ...] | None = None
    if shards:
        items = index_shards(shards)
    elif not path.exists():
        raise UserError(f"no such file or folder: {path}")
    elif path.is_file():
        items = read_list(path)
    elif _ucf_lists(path):
        items, classes = _read_ucf101(path, source.split)
    else:
        items = _read_folder(path, source.kind)
    kind = _kind(source, items)
    items = [item for item in items if Path(item.path).suffix.lower() in SUFFIXES[kind]]
    names = _class_names(items) if classes is None else classes
    splits = _split(items, source.holdout)
    counts = ", ".join(f"{len(members)} {split}" for split, members in splits.items())
    log.info("%s: %s clips (%s), %d classes", source.path, kind, counts, len(names))
    return SourceIndex(source.path, kind, splits, names)


def _kind(source: Source, items: list[Item]) -> SourceKind:
    found = Counter(kind for item in items for kind in SUFFIXES if Path(item.path).suffix.lower() in SUFFIXES[kind])
    if source.kind != "auto":
        if not found[source.kind]:
            raise UserError(f"{source.path}: no {source.kind} in it, only {dict(found) or 'nothing'}")
        return source.kind
    if not found:
        endings = " ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES | LATENT_SUFFIXES))
        raise UserError(f"{source.path}: no clips in it (looked for {endings})")
    if len(found) > 1:
        raise UserError(f"{source.path} holds {dict(found)}: list it once a kind, with `kind: video`, `kind: image`")
    return next(iter(found))


def _class_names(items: Iterable[Item]) -> tuple[str, ...]:
    """Sorted names; labels that are all whole numbers keep their values (0 .. largest)."""
    names = {item.label for item in items if item.label is not None}
    if names and all(name.isdigit() for name in names):
        return tuple(str(label) for label in range(max(int(name) for name in names) + 1))
    return tuple(sorted(names))


def _split(items: list[Item], holdout: float) -> dict[str, list[Item]]:
    """By the items' own splits; otherwise a share of the clips, chosen by the hash of their names, is held out."""
    splits: dict[str, list[Item]] = {split: [item for item in items if item.split == split] for split in SPLITS}
    splits["train"] += [item for item in items if item.split is None]
    if not splits["train"]:
        raise UserError(f"{items[0].path}: no training items ({len(items)} in other splits)")
    if not splits["val"] and not splits["test"]:
        train = sorted(splits["train"], key=lambda item: sha256(Path(item.path).stem.encode()).digest())
        held = min(ceil(len(train) * holdout), len(train) - 1)
        splits["val"] = sorted(train[:held], key=lambda item: item.path)
        splits["train"] = sorted(train[held:], key=lambda item: item.path)
    splits["val"] = splits["val"] or splits["test"] or splits["train"]
    splits["test"] = splits["test"] or splits["val"]
    return splits


def _with_facts(root: Path, items: Iterable[Item]) -> list[Item]:
    """Add what `manifest.csv` knows of each file, and leave out files that `videoar data check` found bad."""
    rows, bad = read_manifest(root), _bad_files(root)
    kept = []
    for item in items:
        relative = Path(item.path).relative_to(root).as_posix()
        if relative in bad:
            continue
        if row := rows.get(relative):
            item = replace(item, frames=row.frames, fps=row.fps, size=(row.height, row.width))
        kept.append(item)
    if bad:
        log.info("%s: files listed in %s are left out", root, BAD_FILES)
    return kept


def _bad_files(root: Path) -> set[str]:
    path = root / BAD_FILES
    if not path.is_file():
        return set()
    with open(path, newline="", encoding="utf-8") as file:
        return {row["path"] for row in csv.DictReader(file)}


def _read_folder(root: Path, kind: str) -> list[Item]:
    """Flat files, class folders, or either inside train/, val/ and test/."""
    wanted = SUFFIXES[kind] if kind in SUFFIXES else frozenset().union(*SUFFIXES.values())
    has_splits = (root / "train").is_dir() and any((root / split).is_dir() for split in ("val", "test"))
    items = []
    for split in SPLITS if has_splits else (None,):
        base = root / split if split else root
        folders = [folder for folder in sorted(base.glob("*")) if folder.is_dir() and not folder.name.startswith(".")]
        for label, folder in [(None, base), *((folder.name, folder) for folder in folders)]:
            files = [
                file
                for file in sorted(folder.rglob("*") if label else folder.glob("*"))
                if file.suffix.lower() in wanted and file.is_file() and not _hidden(file, root)
            ]
            if label and not files:
                raise UserError(f"{folder}: this class folder holds no clips; remove it or fill it")
            items += [Item(str(file), label, _sidecar(file) or label or "", split) for file in files]
    return _with_facts(root, items)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _sidecar(file: Path) -> str:
    text = file.with_suffix(".txt")
    return " ".join(text.read_text(encoding="utf-8").split()) if text.is_file() else ""


def _ucf_lists(root: Path) -> Path | None:
    """The folder that holds classInd.txt: the data set itself, or the official `ucfTrainTestlist` inside it."""
    places = (root, root / "ucfTrainTestlist", root.parent / "ucfTrainTestlist")
    return next((place for place in places if (place / "classInd.txt").is_file()), None)


def _read_ucf101(root: Path, split: int) -> tuple[list[Item], tuple[str, ...]]:
    """UCF-101's layout; a listed file may have another video suffix (after transcoding)."""
    lists = _ucf_lists(root)
    assert lists is not None
    classes = read_class_index(lists / "classInd.txt")
    videos = root / "UCF-101" if (root / "UCF-101").is_dir() else root
    by_stem: dict[str, Path] = {}
    for name in classes:
        files = [file for file in sorted((videos / name).glob("*")) if file.suffix.lower() in VIDEO_SUFFIXES]
        if not files:
            raise UserError(f"{videos / name}: this class folder is missing or holds no clips")
        by_stem |= {f"{name}/{file.stem}": file for file in files}
    items = []
    for list_name, use in (("trainlist", "train"), ("testlist", "test")):
        for line in read_split(lists / f"{list_name}{split:02d}.txt"):
            stem = line.rpartition(".")[0]
            if stem not in by_stem:
                raise UserError(f"{lists / list_name}{split:02d}.txt names {line}, which is not in {videos}")
            label = line.split("/")[0]
            items.append(Item(str(by_stem[stem]), label, label, use))
    return _with_facts(root if (root / MANIFEST).is_file() else videos, items), tuple(classes)
