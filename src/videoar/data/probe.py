"""What a file says of itself before its frames are decoded: length, rate, size, which way is up; or why it is bad."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from videoar.data.files import IMAGE_SUFFIXES
from videoar.errors import UserError

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


class Probe:
    """What a walk over a file's packets tells, undecoded: length, rate, size, time stamps, key frames.

    `seekable` is false where time stamps are missing, and for AVI with B-frames (much XviD material), whose
    stamps are guessed: decord and torchcodec return the wrong frames there after a seek.
    `turns` is how many quarter turns (anticlockwise) show the picture upright: phones store it lying, with a note.
    `height` and `width` are those of the upright picture.
    Raises `UnreadableClip` for a file that does not open, has no video, damaged packets, or too large frames.
    """

    def __init__(self, path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        import av

        if not Path(path).is_file():
            raise UnreadableClip(path, "no such file")
        if Path(path).stat().st_size == 0:
            raise UnreadableClip(path, "the file is empty")
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    raise UnreadableClip(path, "no video stream")
                stream = container.streams.video[0]
                codec = stream.codec_context
                if codec.height * codec.width > max_pixels:
                    size = f"{codec.width}x{codec.height}"
                    raise UnreadableClip(path, f"frames of {size} exceed the limit of {max_pixels} pixels")
                tick = stream.time_base or Fraction(1)
                self.fps = float(stream.average_rate or stream.guessed_rate or 0)
                ordered = not (container.format.name == "avi" and stream.codec_context.has_b_frames)
                found = (p for p in container.demux(stream) if p.size and not p.is_discard)
                packets = [(p.pts, p.is_keyframe, p.is_corrupt) for p in found]
                self.turns = _quarter_turns(container)
                self.height, self.width = _upright(codec.height, codec.width, self.turns)
        except UnreadableClip:
            raise
        except (OSError, ValueError, OverflowError) as error:  # FFmpeg's own, and metadata that is no text
            reason = getattr(error, "strerror", None) or error
            raise UnreadableClip(path, f"not a video, or damaged: {reason}") from error
        if not packets:
            raise UnreadableClip(path, "the video stream holds no frames")
        # Refused here, because whether decord fails on it depends on the timing of its threads.
        if damaged := sum(corrupt for *_, corrupt in packets):
            raise UnreadableClip(path, f"cut short or damaged: {damaged} of {len(packets)} packets are incomplete")
        self.length = len(packets)
        stamps = sorted(pts for pts, *_ in packets if pts is not None)
        if len(stamps) > 1 and stamps[-1] > stamps[0]:  # of a variable rate the header's number is far off
            measured = float((len(stamps) - 1) / ((stamps[-1] - stamps[0]) * tick))
            self.fps = self.fps if abs(self.fps / measured - 1) < 0.05 else measured
        self.seekable = ordered and len(set(stamps)) == self.length
        self.stamps = stamps if self.seekable else []
        self.keys = [i for i, (_, key, _) in enumerate(sorted(packets)) if key] if self.seekable else []


def frame_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a video's or image's upright picture, from its header. Raises `UnreadableClip`."""
    import av
    from PIL import Image

    try:
        if Path(path).suffix.lower() in IMAGE_SUFFIXES:
            with Image.open(path) as image:
                return _upright(image.height, image.width, int(image.getexif().get(274, 1) >= 5))  # 274: orientation
        with av.open(str(path)) as container:
            codec = container.streams.video[0].codec_context
            turns = _quarter_turns(container) if codec.height * codec.width <= MAX_PIXELS else 0
            return _upright(codec.height, codec.width, turns)
    except (OSError, IndexError, ValueError, SyntaxError) as error:
        raise UnreadableClip(path, f"no picture size in it: {error}") from error


def _quarter_turns(container: Any) -> int:
    """Quarter turns (anticlockwise) that a video's display matrix asks for; it comes with the first decoded frame."""
    import av

    if not {"mov", "mp4", "matroska"} & set(container.format.name.split(",")):
        return 0  # others have no display matrix
    try:
        container.seek(0)
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return round(next(container.decode(stream)).rotation / 90) % 4
    except (av.error.FFmpegError, StopIteration):
        return 0  # whoever reads the frames will say what is wrong


def _upright(height: int, width: int, turns: int) -> tuple[int, int]:
    return (width, height) if turns % 2 else (height, width)
