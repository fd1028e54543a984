"""What is meant by a file's frames: which stream, how many, in which order, which way up, how wide; or why it is bad.

The rule, for every reader: frame n is the n-th picture that comes out when the first video stream that is no cover is
decoded from its start. It is shown upright and mirrored as the display matrix says, with square pixels, in the size
of the first picture.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from videoar.data.container import MAX_PIXELS, UnreadableClip, open_container
from videoar.data.files import IMAGE_FORMATS, IMAGE_SUFFIXES
from videoar.data.walk import Walk, first_facts, walk_packets

_HIDDEN = ("vp8", "theora", "vc1", "wmv3")
"""Codecs whose packets may hold no picture to show, or repeat one: their frames are counted by decoding."""
_GUESSED = ("avi", "ogg")
"""Containers that store no time of presentation: with reordered frames FFmpeg's stamps are guesses there."""
PADDED_WIDTHS = (16, 24, 48, 72, 96, 144)
"""Widths at which decord 0.6 pads the rows of its frames and then refuses to copy them."""


def _no_numbers() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Probe:
    """What is known of a file before its frames are wanted; by `probe`, or kept from an earlier look."""

    container: str
    codec: str
    length: int
    """Number of frames: decoded ones if `exact`, else of the packets that hold one."""
    fps: float
    """Mean rate; 0 if nothing tells it."""
    stored: tuple[int, int]
    """Height and width of the first picture as it is stored."""
    height: int
    width: int
    """Of the picture as it is shown: upright, square pixels."""
    orientation: int = 0
    """Sum of `TRANSPOSED`, `MIRRORED` and `UPSIDE_DOWN`."""
    exact: bool = False
    """Whether all of the file was decoded to learn this."""
    unusual: str = ""
    """Why only PyAV is known to be right on it; empty: so are the other readers."""
    stamps: np.ndarray = field(default_factory=_no_numbers)
    """Time stamps of the frames in order of presentation; empty: they cannot be told apart, decode from the start."""
    tick: float = 0.0
    """Seconds a unit of the time stamps."""
    keys: np.ndarray = field(default_factory=_no_numbers)
    """Frames at which decoding may start, rising."""
    targets: np.ndarray = field(default_factory=_no_numbers)
    """The time to seek to for each key."""


def probe(
    path: str | Path, max_pixels: int = MAX_PIXELS, exact: bool = False, watch: Callable[[int, Any], None] | None = None
) -> Probe:
    """Look at a file: walk its packets and decode the first frame, or all frames if that is what it takes (`exact`).

    `watch(number, frame)` is shown each frame that is decoded.

    Raises `UnreadableClip` for a file that does not open, has no video, damaged packets, too large or no frames.
    """
    if not Path(path).is_file():
        raise UnreadableClip(path, "no such file")
    if Path(path).stat().st_size == 0:
        raise UnreadableClip(path, "the file is empty")
    walk = walk_packets(path, max_pixels, exact, watch)
    if not walk.packets:
        raise UnreadableClip(path, "the video stream holds no frames")
    # Refused here, because whether decord fails on it depends on the timing of its threads.
    if walk.corrupt:
        total = len(walk.packets)
        raise UnreadableClip(path, f"cut short or damaged: {walk.corrupt} of {total} packets are incomplete")
    if not walk.stamps:
        if exact:
            raise UnreadableClip(path, "no frame decodes")
        return probe(path, max_pixels, exact=True)
    if walk.first["height"] * walk.first["width"] > max_pixels:
        size = f"{walk.first['width']}x{walk.first['height']}"
        raise UnreadableClip(path, f"frames of {size} exceed the limit of {max_pixels} pixels")
    if not exact and not _packets_are_frames(walk):
        return probe(path, max_pixels, exact=True)
    return _conclude(walk, exact)


def _packets_are_frames(walk: Walk) -> bool:
    """Whether the packets' stamps can stand for the frames': each its own, and those of the first frames decoded."""
    stamps = sorted({pts for pts, *_ in walk.packets if pts is not None})
    if walk.first["codec"] in _HIDDEN or len(stamps) < len(walk.packets) or _guessed(walk):
        return False
    return stamps[: len(walk.stamps)] == walk.stamps


def _guessed(walk: Walk) -> bool:
    reordered = walk.first["delayed"] or any(pts != dts for pts, dts, _ in walk.packets)
    return walk.first["container"] in _GUESSED and reordered


def _conclude(walk: Walk, exact: bool) -> Probe:
    """The stamps of decoded frames if `exact`, else of the packets, and where decoding may start."""
    first = walk.first
    stamps = walk.stamps if exact else [pts for pts, *_ in walk.packets]
    length, known = len(stamps), [pts for pts in stamps if pts is not None]
    if not exact:
        known.sort()
    if len(known) < length or any(b <= a for a, b in pairwise(known)) or _guessed(walk):
        known = []
    place = {stamp: index for index, stamp in enumerate(known)}
    by_dts = first["container"] in ("mpegts", "mpeg")  # which search for the time of decoding
    keys = {
        place[pts]: dts if by_dts and dts is not None else pts
        for pts, dts, key in walk.packets
        if key and pts in place and pts not in walk.inner and not first["palette"]  # which comes with the first frame
    }
    keys = dict(sorted({**keys, 0: 0}.items()))
    rate = first["rate"]
    if len(known) > 1:  # of a variable rate the header's number is far off
        measured = float((len(known) - 1) / ((known[-1] - known[0]) * first["tick"]))
        rate = rate if abs(rate / measured - 1) < 0.05 else measured
    facts = {name: first[name] for name in ("container", "codec", "stored", "height", "width", "orientation")}
    times, frames, targets = (np.array(list(row), np.int64) for row in (known, keys, keys.values()))
    return Probe(
        **facts,
        length=length,
        fps=rate,
        exact=exact,
        unusual=_unusual(walk, known),
        stamps=times,
        tick=float(first["tick"]),
        keys=frames,
        targets=targets,
    )


def _unusual(walk: Walk, known: list[int]) -> str:
    """Why decord 0.6 may return other frames than those asked for, or none; empty if it is known to be right.

    Known by tests: H.264 in mp4, mov and mkv whose groups of pictures are closed and start with an IDR picture.
    """
    first, packets = walk.first, walk.packets
    low = np.minimum.accumulate([pts if pts is not None else 0 for pts, *_ in packets][::-1])[::-1]
    leading = any(key and pts is not None and pts > least for (pts, _, key), least in zip(packets, low))
    reasons = {
        f"{first['codec']} in {first['container']}": first["codec"] != "h264"
        or first["container"] not in ("mov", "matroska"),
        "packets that hold no frame": len(known) != len(packets),
        "several video streams": first["streams"] > 1,
        "a display matrix": first["orientation"] != 0,
        "pixels that are not square": not first["square"],
        "key frames that do not stand alone (an open group of pictures, or a refresh piece by piece)": leading
        or not walk.idr,
        "a start amid a group of pictures": not packets[0][2],
        "a size at which it fails": first["stored"][1] in PADDED_WIDTHS or first["stored"][1] < 16,
    }
    return next((reason for reason, found in reasons.items() if found), "")


def open_image(path: str | Path) -> Any:
    """An image as Pillow opens it, its pixels not yet read: of `IMAGE_FORMATS` only, whatever the file is called.

    Pillow knows others, some of which start other programs (EPS: Ghostscript). Raises what Pillow raises, and
    `UnreadableClip` for what is no file (Pillow would wait for a fifo).
    """
    from PIL import Image

    if not Path(path).is_file():
        raise UnreadableClip(path, "no such file")
    return Image.open(path, formats=IMAGE_FORMATS)


def frame_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a video's or image's picture as it is shown, from its start. Raises `UnreadableClip`."""
    try:
        if Path(path).suffix.lower() in IMAGE_SUFFIXES:
            with open_image(path) as image:
                lying = image.getexif().get(274, 1) >= 5  # 274: orientation
                return (image.width, image.height) if lying else (image.height, image.width)
        with open_container(path) as (container, stream):
            if stream is None:
                raise UnreadableClip(path, "no video stream")
            codec = stream.codec_context
            if codec.height * codec.width <= MAX_PIXELS:
                first = first_facts(next(container.decode(stream)), container, stream)
                return first["height"], first["width"]
            return codec.height, codec.width
    except UnreadableClip:
        raise
    except Exception as error:  # PyAV and Pillow raise many kinds on damaged files
        raise UnreadableClip(path, f"no picture size in it: {error}") from error
