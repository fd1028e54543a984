"""Files that are never half-written, of known kinds, in known places."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videoar.errors import UserError, chain

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_LOCKED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def cache_folder(kind: str) -> Path:
    """Where this machine keeps what can be made again: `$XDG_CACHE_HOME/videoar/<kind>`, usually in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videoar" / kind


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns what a full or read-only disk makes a writer raise (each library its own) into one error.

    Raises:
        UserError: the disk is full or not writable, with the path.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if reason := next(filter(None, (_disk_problem(each, Path(path)) for each in chain(error))), None):
            raise UserError(f"cannot write {path}: {reason}; what was there before is untouched") from error
        raise


def _disk_problem(error: BaseException, path: Path) -> str | None:
    """What is wrong with the disk that `path` is on, if that is what the error says."""
    if isinstance(error, RuntimeError) and "inline_container" in str(error):  # torch.save names no reason
        return "the disk may be full"
    said = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    number = int(said[1]) if said else getattr(error, "errno", None)
    if number in _LOCKED and isinstance(error, OSError) and error.filename is not None:
        ours = path.parent.resolve()
        place = Path(os.fsdecode(error.filename)).resolve()
        if ours != place.parent and place not in (ours, *ours.parents):
            return None  # another file's, which is read
    return os.strerror(number) if number in _FULL | _LOCKED else None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file name beside `path` (same suffix), renamed to `path` on success and removed on failure.

    Missing parent folders are made. Readers therefore see the whole new file, the old one, or none.

    Raises:
        UserError: the disk is full or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to `path` on success and removed on failure.

    Raises:
        UserError: `path` exists (a folder is never merged into or overwritten), or the disk is full or not writable.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} exists already; remove it or choose another output folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
