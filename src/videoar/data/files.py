"""The kinds of files that data sets are made of, finding them, and reading text as people store it."""

import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from videoar.errors import UserError
from videoar.files import atomic_folder as atomic_folder
from videoar.files import atomic_path as atomic_path

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".flv", ".gif", ".ogv"}
    | {".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".wmv", ".asf"}
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"})
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")
"""Pillow's names of what image files may hold."""
LATENT_SUFFIXES = frozenset({".safetensors", ".npy"})


def walk(root: Path, suffixes: Container[str]) -> list[Path]:
    """All files below `root` with one of the (lower-case) suffixes, sorted, as training, checks and metrics see them.

    Links to folders are followed, but not in circles; what begins with a dot is left out.
    """

    def visit(folder: Path, above: frozenset[str]) -> Iterator[Path]:
        if (real := os.path.realpath(folder)) in above:
            return
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield from visit(path, above | {real})
            elif path.suffix.lower() in suffixes and path.is_file():
                yield path

    return sorted(visit(root, frozenset()))


def same_bytes(files: Iterable[Path]) -> dict[Path, Path]:
    """Files that hold what an earlier one holds, with that one; only files of equal size are read."""
    sizes: dict[int, list[Path]] = {}
    for file in files:
        sizes.setdefault(file.stat().st_size, []).append(file)
    found = {}
    for group in (group for group in sizes.values() if len(group) > 1):
        first: dict[bytes, Path] = {}
        for file in group:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").digest()
            if (original := first.setdefault(digest, file)) is not file:
                found[file] = original
    return found


def is_text(name: str | Path) -> bool:
    """Whether a file name can be written into a list: names that are not UTF-8 reach Python as lone surrogates."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(data: bytes) -> str | None:
    """UTF-8 with or without a byte order mark, or UTF-16 with one; None for anything else."""
    try:
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        return None


def read_text(path: Path) -> str:
    """The text of a list or index file. Raises `UserError`, which names the file, if it is not UTF-8 or UTF-16."""
    text = as_text(path.read_bytes())
    if text is None:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8")
    return text
