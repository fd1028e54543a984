"""Finding files, reading text as people store it, and writing files that are never half-written."""

import os
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from videoar.errors import UserError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".gif"}
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"})
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


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file name beside `path` (same suffix), renamed to `path` on success and removed on failure.

    Missing parent folders are made. Readers therefore see the whole new file, the old one, or none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to `path` on success and removed on failure.

    Raises `UserError` if `path` exists: a folder is never merged into or overwritten.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} exists already; remove it or choose another output folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
