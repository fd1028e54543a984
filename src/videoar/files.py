"""Files that are never half-written, of known kinds, in known places."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from videoar.errors import UserError, chain

LOCK = ".writing"
_PARTIAL = re.compile(r"\..+\.\d+\.part(\.\w+)?")
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
        UserError: the disk is full or not writable, or `path` is a folder, a device or a pipe.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file that could be replaced")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _share(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _share(path: Path) -> None:
    """Give a new file the mode that others have: safetensors makes its files for their owner alone."""
    if path.is_file() and path.stat().st_mode & 0o777 == 0o600:
        os.umask(mask := os.umask(0o077))
        path.chmod(0o666 & ~mask)


def remove_partial(folder: str | Path) -> None:
    """Remove what killed writers left directly in a folder; only for who alone writes there (`only_writer`)."""
    for left in Path(folder).glob(".*.part*"):
        if _PARTIAL.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Hold a folder (made if missing) for this process, so that two runs never mix in it.

    The system itself drops the lock when the process ends, however it ends. Where there are no locks (Windows, some
    network file systems) the folder is not held. A folder that was made for this and stays empty is removed again.

    Raises:
        UserError: another process holds it, or it cannot be written to.
    """
    folder = Path(folder)
    place, made = folder / LOCK, not folder.exists()
    with writing(place):
        folder.mkdir(parents=True, exist_ok=True)
        lock = place.open("a+")
    with lock:
        if not _lock(lock) or not place.exists() or not os.path.samestat(os.fstat(lock.fileno()), place.stat()):
            lock.seek(0)
            who = lock.read(100).strip() or "another process"
            raise UserError(f"{folder} is being written by {who}; wait for its end, or choose another folder")
        try:
            with writing(place):
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {platform.node()}")
                lock.flush()
            yield
        finally:
            place.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()


def _lock(file: IO[str]) -> bool:
    """Take a file's lock without waiting; False if another has it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # no locks on this system, or on this file system
        pass
    return True


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
            for file in temporary.rglob("*"):
                _share(file)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
