"""One pass over a video file: its packets, and its first frames or all of them."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from videoar.data.container import UnreadableClip, count_videos, open_container

TRANSPOSED, MIRRORED, UPSIDE_DOWN = 1, 2, 4
"""How a stored picture is shown, applied in this order: rows and columns swapped, left and right, top and bottom."""
DEPENDENT = (2, 3, 4)
"""FFmpeg's kinds of pictures that are made from others: P, B and S."""
_FIRST = 8
"""Frames decoded to see whether the packets' stamps are the frames', where one packet need not be one frame."""


@dataclass
class Walk:
    """What one pass over a file gathers."""

    packets: list[tuple[int | None, int | None, bool]] = field(default_factory=list)
    """(presentation time, decoding time, key) each."""
    stamps: list[int | None] = field(default_factory=list)
    """Of the decoded frames."""
    inner: set[int | None] = field(default_factory=set)
    """Stamps of decoded frames that are made from others."""
    first: dict[str, Any] = field(default_factory=dict)
    """What the first decoded frame and the headers tell."""
    idr: bool = True
    """Whether all key packets of an H.264 stream make the decoder forget everything before them."""
    corrupt: int = 0


def walk_packets(
    path: str | Path, max_pixels: int, whole: bool, watch: Callable[[int, Any], None] | None = None
) -> Walk:
    """One pass over the packets; decodes the first frames, or all if `whole`."""
    from av.error import FFmpegError

    walk = Walk()
    try:
        with open_container(path) as (container, stream):
            if stream is None:
                raise UnreadableClip(path, "no video stream")
            codec = stream.codec_context
            if codec.height * codec.width > max_pixels:
                size = f"{codec.width}x{codec.height}"
                raise UnreadableClip(path, f"frames of {size} exceed the limit of {max_pixels} pixels")
            stored = container.format.name.split(",")[0] in ("mov", "matroska")
            enough = float("inf") if whole else 1 if stored else _FIRST
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    key = packet.is_keyframe
                    if key and stored and codec.name == "h264" and (kind := _kind_h264(packet)) != _IDR:
                        walk.idr, key = False, kind == _INTRA
                    walk.packets.append((packet.pts, packet.dts, key))
                    walk.corrupt += packet.is_corrupt
                if len(walk.stamps) < enough and not walk.corrupt:
                    for frame in packet.decode():
                        if watch:
                            watch(len(walk.stamps), frame)
                        _note(walk, frame, container, stream)
    except UnreadableClip:
        raise
    except (
        FFmpegError,
        OSError,
        ValueError,
        OverflowError,
        LookupError,
    ) as error:  # damaged metadata, new streams
        reason = getattr(error, "strerror", None) or error
        good = f"{len(walk.stamps)} frames decode, then" if walk.stamps else "not a video, or damaged"
        raise UnreadableClip(path, f"{good}: {reason}") from error
    return walk


def _note(walk: Walk, frame: Any, container: Any, stream: Any) -> None:
    if not walk.stamps:
        walk.first = first_facts(frame, container, stream)
    walk.stamps.append(frame.pts)
    if frame.pict_type in DEPENDENT:  # whatever the container says of its packet
        walk.inner.add(frame.pts)


def first_facts(frame: Any, container: Any, stream: Any) -> dict[str, Any]:
    orientation = _orientation(frame)
    width = _square_width(frame.width, stream.sample_aspect_ratio)
    return {
        "container": container.format.name.split(",")[0],
        "codec": stream.codec_context.codec.canonical_name,
        "stored": (frame.height, frame.width),
        "height": width if orientation & TRANSPOSED else frame.height,
        "width": frame.height if orientation & TRANSPOSED else width,
        "orientation": orientation,
        "square": width == frame.width,
        "palette": frame.format.name == "pal8",
        "delayed": bool(stream.codec_context.has_b_frames),
        "tick": stream.time_base or Fraction(1),
        "rate": float(stream.average_rate or stream.guessed_rate or 0),
        "streams": count_videos(container),
    }


_IDR, _INTRA, _OTHER = range(3)


def _kind_h264(packet: Any) -> int:
    """What the first slice of an H.264 access unit with four-byte lengths (mp4, mov, mkv) is: IDR, I, or another.

    A container also calls those pictures keys at which a piecewise refresh begins, and they are no place to start.
    """
    data, at = memoryview(packet), 0
    while at + 6 <= len(data):
        kind = data[at + 4] & 31
        if kind == 5:
            return _IDR
        if kind == 1:  # first_mb_in_slice = 0 is one bit, then slice_type = 2 or 7 as Exp-Golomb codes
            return _INTRA if data[at + 5] >> 4 == 0b1011 or data[at + 5] == 0b10001000 else _OTHER
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return _OTHER


def _orientation(frame: Any) -> int:
    """From the display matrix (a, b; c, d): x = a·column + c·row, y = b·column + d·row."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 0
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return MIRRORED * (a < 0) + UPSIDE_DOWN * (d < 0)
    return TRANSPOSED + MIRRORED * (c < 0) + UPSIDE_DOWN * (b < 0)


def _square_width(width: int, aspect: Fraction | None) -> int:
    """The width at which pixels are square, to the nearest even number; an aspect past 4 is taken for an error."""
    if not aspect or aspect == 1 or not Fraction(1, 4) <= aspect <= 4:
        return width
    return max(2, 2 * round(width * aspect / 2))
