"""What was learned of files is kept: in memory for those seen last, and on disk for those `videoar data check` saw.

Opening an hour-long file then costs milliseconds instead of a walk over all its packets. The file on disk lies beside
the manifest, or in the user's cache folder where the data set cannot be written to. It is an aid, not a truth: what it
says of a file is used only while the file's size, beginning and end are the same, and readers compare every time stamp.
"""

import json
import logging
import os
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from videoar.data.files import atomic_path
from videoar.data.probe import Probe, probe
from videoar.errors import UserError

log = logging.getLogger(__name__)
INDEX = "videoar_frames.sqlite"
_VERSION = 2
_ARRAYS = ("stamps", "keys", "targets")
_LEVELS = 6
"""How many folders above a file may hold its index."""


class _Memory:
    """The files seen last, up to a number of time stamps."""

    def __init__(self, stamps: int) -> None:
        self._limit, self._size = stamps, 0
        self._seen: OrderedDict[tuple[str, int, int], Probe] = OrderedDict()

    def get(self, key: tuple[str, int, int]) -> Probe | None:
        if found := self._seen.get(key):
            self._seen.move_to_end(key)
        return found

    def put(self, key: tuple[str, int, int], found: Probe) -> None:
        if old := self._seen.pop(key, None):
            self._size -= len(old.stamps) + 64
        self._seen[key] = found
        self._size += len(found.stamps) + 64
        while self._size > self._limit and len(self._seen) > 1:
            self._size -= len(self._seen.popitem(last=False)[1].stamps) + 64


_memory = _Memory(stamps=4_000_000)  # 32 MB a process, 37 hours at 30 frames a second


def known(path: str | Path) -> Probe:
    """What is known of a video file: from memory, from disk, else by `probe`, and then kept in memory."""
    if not os.path.isfile(path):
        return probe(path)  # which says what is wrong
    key = _key(path)
    if not (found := _memory.get(key)):
        found = _stored(Path(key[0])) or probe(path)
        _memory.put(key, found)
    return found


def keep(path: str | Path, found: Probe) -> None:
    """Keep what is known of a file in this process."""
    _memory.put(_key(path), found)


def _key(path: str | Path) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def learn_key(path: str | Path, found: Probe, bad: int) -> Probe:
    """Keep that decoding cannot start at frame `bad` after all."""
    stay = found.keys != bad
    better = replace(found, keys=found.keys[stay], targets=found.targets[stay])
    keep(path, better)
    return better


def write_index(root: Path, probes: Mapping[str, Probe], beside: bool = True) -> None:
    """Write what is known of the files below `root`, by relative path: beside them, or into the user's cache folder.

    Where neither can be written the log says so: files are only opened more slowly then.
    """
    for target in (root / INDEX, _in_cache(root)) if beside else (_in_cache(root),):
        try:
            _write(target, root, probes)
            log.info("the index of the frames is %s", target)
            break
        except (UserError, OSError, sqlite3.Error) as error:
            log.info("%s cannot be written: %s", target, error)
    for memory in (_find, _connect):
        memory.cache_clear()
    _refused.clear()


def _write(target: Path, root: Path, probes: Mapping[str, Probe]) -> Path:
    with atomic_path(target) as temporary:
        temporary.touch()  # an OSError that says why, where sqlite would only say that it cannot
        with closing(sqlite3.connect(temporary)) as base, base:
            base.execute(f"PRAGMA user_version = {_VERSION}")
            base.execute("CREATE TABLE clips (path TEXT PRIMARY KEY, mark TEXT, facts TEXT, arrays BLOB)")
            rows = ((name, _mark(root / name), *_pack(found)) for name, found in sorted(probes.items()))
            base.executemany("INSERT INTO clips VALUES (?, ?, ?, ?)", rows)
    return target


def _pack(found: Probe) -> tuple[str, bytes]:
    facts = {name: value for name, value in asdict(found).items() if name not in _ARRAYS}
    arrays = [getattr(found, name) for name in _ARRAYS]
    facts["sizes"] = [len(array) for array in arrays]
    steps = np.concatenate([np.diff(array, prepend=0) for array in arrays]).astype("<i8")
    return json.dumps(facts), zlib.compress(steps.tobytes(), 1)


def _unpack(text: str, data: bytes) -> Probe:
    """Raises `ValueError`, `TypeError` or `KeyError` for what `_pack` did not write."""
    facts = json.loads(text)
    sizes = facts.pop("sizes")
    steps = np.frombuffer(zlib.decompressobj().decompress(data, 8 * sum(sizes)), "<i8")
    arrays: dict[str, Any] = {
        name: np.cumsum(part) for name, part in zip(_ARRAYS, np.split(steps, np.cumsum(sizes)[:-1]))
    }
    found = Probe(**facts | {"stored": tuple(facts["stored"])}, **arrays)
    counts = [len(getattr(found, name)) for name in _ARRAYS]
    if counts != sizes or counts[0] not in (0, found.length) or counts[1] < 1 or counts[1] != counts[2]:
        raise ValueError(f"{counts} numbers for {found.length} frames")
    return found


def _stored(path: Path) -> Probe | None:
    for folder in list(path.parents)[:_LEVELS]:
        if (index := _find(folder)) and (base := _connect(index, os.getpid())):
            try:
                row = base.execute(
                    "SELECT mark, facts, arrays FROM clips WHERE path = ?", (path.relative_to(folder).as_posix(),)
                ).fetchone()
                if row and row[0] == _mark(path):
                    return _unpack(*row[1:])
            except (sqlite3.Error, OSError, ValueError, TypeError, KeyError, zlib.error) as error:
                log.warning("%s is not used: %s", index, error)
                _forget(index)
    return None


@cache
def _find(folder: Path) -> Path | None:
    return next((place for place in (folder / INDEX, _in_cache(folder)) if place.is_file()), None)


@cache
def _connect(index: Path, process: int) -> sqlite3.Connection | None:
    """A connection of this process (they must not cross a fork) that only reads, and runs nothing a file may hold."""
    if index in _refused:
        return None
    base = sqlite3.connect(f"file:{quote(str(index))}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    base.execute("PRAGMA trusted_schema = OFF")
    try:
        (version,) = base.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        version = None
    return base if version == _VERSION else None


_refused: set[Path] = set()


def _forget(index: Path) -> None:
    _refused.add(index)
    _connect.cache_clear()


def _in_cache(root: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "videoar" / "frames" / f"{sha256(str(root.resolve()).encode()).hexdigest()[:24]}.sqlite"


def _mark(path: Path) -> str:
    """Size and check sum of both ends: the same after a copy, another after every usual change."""
    with open(path, "rb") as file:
        head, size = file.read(4096), os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 4096))
        return f"{size}-{zlib.crc32(file.read(4096), zlib.crc32(head)):08x}"
