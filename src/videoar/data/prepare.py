"""`videoar data check`: decode every file of a folder in children that can be killed, and write down the truth.

    manifest.csv              path,class,frames,fps,size,reader,seeks: files that decode, how many frames really
                              do, who reads them, and at how many places that was compared with decoding in order
    bad_files.csv             path,reason: the others, copies of good ones too; training leaves them out
    videoar_frames.sqlite     time stamps and key frames, so that hour-long files open at once

The lists are picked up by `Source(path=folder)`, or written to another folder by `Source(path=folder, manifest=other)`.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from threading import local
from typing import Any

from videoar.data.decoding import KillableDecoder
from videoar.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_text, same_bytes, walk
from videoar.data.folders import places, printable
from videoar.data.index import write_index
from videoar.data.layout import ManifestRow, foreign_lists, write_bad_files, write_manifest
from videoar.data.probe import UnreadableClip
from videoar.data.readers import DEFAULT_BACKEND
from videoar.errors import UserError
from videoar.ranges import SECONDS, WORKERS

Report = Callable[[str, str | None], None]


def find_media(root: Path) -> list[Path]:
    """All video and image files below `root`, sorted, without hidden ones. Raises `UserError` if there are none."""
    if not root.is_dir():
        raise UserError(f"no such folder: {root}")
    if not (files := walk(root, VIDEO_SUFFIXES | IMAGE_SUFFIXES)):
        raise UserError(f"{root}: no video or image files in it")
    return files


def claim_lists(folder: Path) -> None:
    """Make sure, before anything is decoded, that both lists can be written into a folder; it is made if it is missing.

    Raises `UserError` if it holds files of these names that this command did not write, `OSError` if it is read-only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if foreign := foreign_lists(folder):
        raise UserError(f"{foreign[0]} is not of this command and would be replaced; give --out another folder")
    with TemporaryFile(dir=folder):
        pass


def write_lists(folder: Path, good: list[ManifestRow], bad: dict[str, str], root: Path) -> None:
    """Write both lists of the files below `root`, and the index of their frames.

    Raises `UserError` where no file is good: it is the check that failed, and old lists stay.
    """
    if not good:
        path, reason = next(iter(bad.items()))
        raise UserError(f"none of {len(bad)} files can be used, the lists are left as they were; {path}: {reason}")
    write_manifest(folder, good)
    write_bad_files(folder, bad)
    write_index(root, {row.path: row.found for row in good if row.found}, beside=folder == root)


def check_folder(root: str | Path, **how: Any) -> tuple[list[ManifestRow], dict[str, str]]:
    """`check_files` of a folder, with its arguments, then `write_lists` into it."""
    root = Path(root)
    if root.is_dir():
        claim_lists(root)
    good, bad = check_files(root, **how)
    write_lists(root, good, bad, root)
    return good, bad


def check_files(
    root: str | Path,
    backend: str = DEFAULT_BACKEND,
    patience: float = 60.0,
    workers: int = 2,
    report: Report | None = None,
) -> tuple[list[ManifestRow], dict[str, str]]:
    """Decode every file of a folder; returns (good files, {bad file: reason}).

    A file that takes longer than `patience` seconds counts as bad; its decoder is killed, never waited for.
    `report(path, reason)` is called after every file, reason None if it is good.
    """
    SECONDS.check("patience", patience)
    WORKERS.check("workers", workers)
    root = Path(root)
    files = find_media(root)
    folders = places([file.relative_to(root) for file in files])
    classes = {file: place[1] for file, place in zip(files, folders, strict=True) if place}
    mine = local()
    decoders: list[KillableDecoder] = []

    def check(file: Path) -> ManifestRow | str:
        if not is_text(file):
            return "its name is not UTF-8; rename it"
        if not hasattr(mine, "decoder"):
            mine.decoder = KillableDecoder(patience)
            decoders.append(mine.decoder)
        path = file.relative_to(root)
        try:
            frames, fps, height, width, reader, seeks, found = mine.decoder.check(str(file), backend)
        except UnreadableClip as fault:
            return fault.reason
        name, label = path.as_posix(), classes.get(file) or ""
        return ManifestRow(name, label, frames, fps, width, height, None, reader, seeks, found)

    good, bad = list[ManifestRow](), dict[str, str]()
    try:
        with ThreadPoolExecutor(workers) as pool:
            for file, result in zip(files, _in_order(pool, check, files)):
                name = printable(file.relative_to(root).as_posix())
                if isinstance(result, str):
                    bad[name] = result
                else:
                    good.append(result)
                if report:
                    report(name, bad.get(name))
    finally:
        for decoder in decoders:
            decoder.close()
    return good, bad


def copies_in(root: Path, good: Sequence[ManifestRow]) -> dict[str, str]:
    """{file: reason} of good files that hold, byte for byte, what an earlier one holds: they would count twice."""
    found = same_bytes(root / row.path for row in good)
    inside = {file: file.relative_to(root).as_posix() for file in (*found, *found.values())}
    return {inside[copy]: f"a copy of {inside[first]}" for copy, first in found.items()}


def _in_order(
    pool: ThreadPoolExecutor, check: Callable[[Path], ManifestRow | str], files: list[Path]
) -> Iterator[ManifestRow | str]:
    """`pool.map`, but what is not yet started is dropped when the consumer stops (Ctrl-C, an error)."""
    futures = [pool.submit(check, file) for file in files]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
