"""`videoar data check`: decode every file of a folder in children that can be killed, and write down the truth.

    manifest.csv    path,class,frames,fps,size    files that decode, with the number of frames that really do
    bad_files.csv   path,reason                   the others; training leaves them out

Both are picked up by `Source(path=folder)`.
"""

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

from videoar.data.decoding import KillableDecoder
from videoar.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, atomic_path
from videoar.data.layout import BAD_FILES, ManifestRow, write_manifest
from videoar.data.probe import UnreadableClip
from videoar.errors import UserError

Report = Callable[[str, str | None], None]


def find_media(root: Path) -> list[Path]:
    """All video and image files below `root`, sorted, without hidden ones. Raises `UserError` if there are none."""
    if not root.is_dir():
        raise UserError(f"no such folder: {root}")
    files = [
        file
        for file in sorted(root.rglob("*"))
        if file.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]
    if not files:
        raise UserError(f"{root}: no video or image files in it")
    return files


def check_folder(
    root: str | Path, backend: str = "decord", patience: float = 60.0, workers: int = 2, report: Report | None = None
) -> tuple[list[ManifestRow], dict[str, str]]:
    """Check a folder and write both lists into it; returns (good files, {bad file: reason}).

    A file that takes longer than `patience` seconds counts as bad; its decoder is killed, never waited for.
    `report(path, reason)` is called after every file, reason None if it is good.
    """
    root = Path(root)
    files = find_media(root)
    mine = local()
    decoders: list[KillableDecoder] = []

    def check(file: Path) -> ManifestRow | str:
        if not hasattr(mine, "decoder"):
            mine.decoder = KillableDecoder(patience)
            decoders.append(mine.decoder)
        path = file.relative_to(root)
        try:
            frames, fps, height, width = mine.decoder.count(str(file), backend)
        except UnreadableClip as fault:
            return fault.reason
        folder = path.parent.name
        return ManifestRow(path.as_posix(), folder, frames, fps, width, height)

    good: list[ManifestRow] = []
    bad: dict[str, str] = {}
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for file, result in zip(files, _in_order(pool, check, files)):
                name = file.relative_to(root).as_posix()
                if isinstance(result, str):
                    bad[name] = result
                else:
                    good.append(result)
                if report:
                    report(name, bad.get(name))
    finally:
        for decoder in decoders:
            decoder.close()
    write_manifest(root, good)
    _write_bad_files(root, bad)
    return good, bad


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


def _write_bad_files(root: Path, bad: dict[str, str]) -> None:
    """Write `bad_files.csv`, or remove an old one when nothing is bad any more."""
    if not bad:
        (root / BAD_FILES).unlink(missing_ok=True)
        return
    with atomic_path(root / BAD_FILES) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        writer.writerows(sorted(bad.items()))
