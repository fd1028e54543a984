"""The one place where a video file is opened: as a file, as one of a few containers, at one stream of it.

FFmpeg takes names for addresses (`http:x.mp4`, `pipe:0.mp4`) and text for scripts that open other files (ffconcat,
playlists, sdp). A data set may come from strangers, so every name is a file's here, whatever it looks like, and a file
that is none of `FORMATS` is refused by its content, whatever its suffix.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from videoar.errors import UserError

FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "gif", "ogg", "ivf", "wav")
"""FFmpeg's names of the containers that are opened (wav: to say that there is no video in it)."""

MAX_PIXELS = 2**26
"""Largest frame that is decoded (67 million pixels, 8192 x 8192); a larger one is refused before decoding."""


class UnreadableClip(UserError):
    """A file that cannot be decoded: the message is `path: reason`."""

    def __init__(self, path: str | Path, reason: object) -> None:
        text = " ".join(str(reason).split("Stack trace")[0].split())
        self.path, self.reason = str(path), re.sub(r"\[\d\d:\d\d:\d\d\] \S+: ", "", text)[:300]
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


def file_address(path: str | PathLike[str]) -> str:
    """`path` such that FFmpeg can only take it for a file's name."""
    return f"file:{fspath(path)}"


@contextmanager
def open_container(path: str | PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """(PyAV container, its video stream set to one thread); the stream is None if there is none.

    The stream is the first that is no cover picture and whose codec is known. Raises what PyAV raises for a file it
    cannot open, among it ValueError for a container that is not in `FORMATS`.
    """
    import av

    only = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    with av.open(file_address(path), container_options=only) as container:
        known = (stream for stream in container.streams.video if stream.codec_context is not None)
        stream = next((stream for stream in known if not _is_cover(stream)), None)
        if stream is not None:
            stream.codec_context.thread_count = 1  # parallelism belongs to the loader's workers
        yield container, stream


def count_videos(container: Any) -> int:
    """Video streams of a container, covers not counted."""
    return sum(not _is_cover(stream) for stream in container.streams.video)


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(Disposition(stream.disposition) & (Disposition.attached_pic | Disposition.timed_thumbnails))
