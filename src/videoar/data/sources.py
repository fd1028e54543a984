"""Where clips come from: finds the items of a data set, their labels, captions and splits, without decoding.

Layouts, recognised by themselves: a flat folder; a folder of class folders (also inside train/, val/, test/);
UCF-101 as distributed; a CSV or JSONL list; WebDataset tar shards. A `clip.txt` beside `clip.mp4` is its caption.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from math import ceil
from pathlib import Path

from videoar.data.files import IMAGE_SUFFIXES, LATENT_SUFFIXES, VIDEO_SUFFIXES
from videoar.data.folders import read_folder, some
from videoar.data.items import SPLITS, SUFFIXES, Item, Source, SourceIndex, SourceKind
from videoar.data.layout import (
    BAD_FILES,
    MANIFEST,
    foreign_lists,
    read_bad_files,
    read_class_index,
    read_manifest,
    read_split,
)
from videoar.data.lists import read_list
from videoar.data.shards import find_shards, index_shards
from videoar.errors import UserError

log = logging.getLogger(__name__)


def index_source(source: Source) -> SourceIndex:
    """Find everything in a source. Raises `UserError` for a missing folder, a bad list, no items."""
    path, shards = Path(source.path), find_shards(source.path)
    classes: tuple[str, ...] | None = None
    if shards:
        items = index_shards(shards)
    elif not path.exists():
        raise UserError(f"no such file or folder: {path}")
    elif path.is_file():
        items = read_list(path)
    elif not path.is_dir():
        raise UserError(f"{path} is no file and no folder")
    elif _ucf_lists(path):
        items, classes = _read_ucf101(path, source)
    else:
        suffixes = SUFFIXES[source.kind] if source.kind != "auto" else frozenset().union(*SUFFIXES.values())
        items = _with_facts(path, read_folder(path, suffixes), source)
    kind = _kind(source, items)
    items = [item for item in items if Path(item.path).suffix.lower() in SUFFIXES[kind]]
    names = _class_names(items) if classes is None else classes
    splits = _split(items, source.holdout)
    counts = ", ".join(f"{len(members)} {split}" for split, members in splits.items())
    log.info("%s: %s clips (%s), %d classes", source.path, kind, counts, len(names))
    if empty := sorted(set(names) - {item.label for item in splits["train"]}):
        log.warning(
            "%s: %d of %d classes have no clip to train on: %s", source.path, len(empty), len(names), some(empty)
        )
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
    """The labels in order. Whole numbers go by their value, so that 0 … N−1 keep it; other numbers are just names."""
    names = {item.label for item in items if item.label is not None}
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _split(items: list[Item], holdout: float) -> dict[str, list[Item]]:
    """By the items' own splits; otherwise a share of the files, chosen by class and the hash of names, is held out."""
    splits: dict[str, list[Item]] = {split: [item for item in items if item.split == split] for split in SPLITS}
    splits["train"] += [item for item in items if item.split is None]
    if not splits["train"]:
        raise UserError(f"{items[0].path}: no training items ({len(items)} in other splits)")
    if not splits["val"] and not splits["test"]:
        held = _held_out(splits["train"], holdout)
        splits["val"] = sorted((item for item in splits["train"] if _file(item) in held), key=lambda item: item.path)
        splits["train"] = sorted((item for item in splits["train"] if _file(item) not in held), key=lambda i: i.path)
    splits["val"] = splits["val"] or splits["test"] or splits["train"]
    splits["test"] = splits["test"] or splits["val"]
    return splits


def _held_out(items: Iterable[Item], holdout: float) -> set[tuple[str | None, str]]:
    """Which files are held out: first one of each class, then of each class in proportion; never a class's last."""
    classes: dict[str | None, list[tuple[str | None, str]]] = {}
    for file in dict.fromkeys(map(_file, items)):
        classes.setdefault(file[0], []).append(file)
    order = []
    for files in classes.values():
        files.sort(key=lambda file: (sha256(Path(file[1]).stem.encode()).digest(), file[1]))
        order += [((place > 0, place / len(files)), file) for place, file in enumerate(files[:-1])]
    order.sort(key=lambda entry: (entry[0], sha256(Path(entry[1][1]).stem.encode()).digest()))
    count = ceil(sum(len(files) for files in classes.values()) * holdout)
    return {file for _, file in order[:count]}


def _file(item: Item) -> tuple[str | None, str]:
    """(class, file) that an item is of: the latents of one video (`name-hash-frame`) are never split up."""
    if Path(item.path).suffix.lower() in LATENT_SUFFIXES:
        return item.label, re.sub(r"-\d{6,}(?=\.\w+$)", "", item.path)
    return item.label, item.path


def _with_facts(root: Path, items: Iterable[Item], source: Source) -> list[Item]:
    """Add what `manifest.csv` knows of each file, and leave out files that `videoar data check` found bad."""
    lists = Path(source.manifest) if source.manifest else root
    if source.manifest and not lists.is_dir():
        raise UserError(f"{source.path}: manifest {lists} is no folder")
    rows, bad = read_manifest(lists), read_bad_files(lists)
    for path in foreign_lists(lists):
        log.info("%s: not written by `videoar data check`, not read", path)
    kept, dropped = [], []
    for item in items:
        relative = Path(item.path).relative_to(root).as_posix()
        if relative in bad:
            dropped.append(item)
            continue
        if row := rows.get(relative):
            item = replace(item, frames=row.frames, fps=row.fps, size=(row.height, row.width))
        kept.append(item)
    if dropped:
        log.info("%s: left out %d files that %s lists", root, len(dropped), BAD_FILES)
    if lost := sorted({item.label for item in dropped if item.label} - {item.label for item in kept}):
        log.warning("%s: left out %d classes whose files are all bad: %s", root, len(lost), some(lost))
    return kept


def _ucf_lists(root: Path) -> Path | None:
    """The folder that holds classInd.txt: the data set itself, or the official `ucfTrainTestlist` inside it."""
    places = (root, root / "ucfTrainTestlist", root.parent / "ucfTrainTestlist")
    return next((place for place in places if (place / "classInd.txt").is_file()), None)


def _read_ucf101(root: Path, source: Source) -> tuple[list[Item], tuple[str, ...]]:
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
        for line in read_split(lists / f"{list_name}{source.split:02d}.txt"):
            stem = line.rpartition(".")[0]
            if stem not in by_stem:
                raise UserError(f"{lists / list_name}{source.split:02d}.txt names {line}, which is not in {videos}")
            label = line.split("/")[0]
            items.append(Item(str(by_stem[stem]), label, label, use))
    base = root if source.manifest or (root / MANIFEST).is_file() else videos
    return _with_facts(base, items, source), tuple(classes)
