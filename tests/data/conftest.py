"""Real video files, made once a session: a moving square over a gradient, so that every frame is its own."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from videoar.data.writers import write_mp4


def make_frames(count: int = 24, height: int = 48, width: int = 64, phase: int = 0) -> np.ndarray:
    """uint8 [T, H, W, 3]: frame t is recognisable by its brightness and the square's place."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for t in range(count):
        frames[t] = np.stack([x * 2, y * 3, np.full_like(x, 8 * (t + phase) % 256)], -1) % 256
        left = (3 * t + phase) % (width - 16)
        top = (t + phase) % (height - 16)
        frames[t, top : top + 16, left : left + 16] = 255
    return frames


def encode(path: Path, frames: np.ndarray, codec: str = "libx264", fps: int = 12, **options: str) -> Path:
    """Write a file with any codec, pixel format (`pix_fmt`) and container (by suffix)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pix_fmt, gop = options.pop("pix_fmt", "yuv420p"), int(options.pop("gop", 8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *frames.shape[1:3], pix_fmt, gop
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = t
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """24 frames of 48 x 64."""
    return make_frames()


@pytest.fixture(scope="session")
def encoder() -> Callable[..., Path]:
    """`encoder(path, frames, codec, fps, **options)`."""
    return encode


def make_lying(path: Path, degrees: int) -> Path:
    """Note in an MP4 that its pictures are to be turned clockwise, as phones do: the matrix of its track header."""
    data, one = bytearray(path.read_bytes()), 1 << 16
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    at = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[at : at + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def make_uneven(path: Path) -> Path:
    """Variable frame rate: 24 frames, 16 of them in the first two thirds of a second, the last at 86/24 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = 48, 64, "yuv420p", 8
        for t, frame in enumerate(make_frames()):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = t if t < 16 else 16 + 10 * (t - 16)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def make_huge(path: Path) -> Path:
    """One frame of 67 million pixels and a few more."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt = 8192, 8208, "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((8192, 8208), np.uint8), format="gray")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def lying() -> Callable[[Path, int], Path]:
    """`lying(path, degrees)`."""
    return make_lying


@pytest.fixture(scope="session")
def uneven() -> Callable[[Path], Path]:
    """`uneven(path)`."""
    return make_uneven


@pytest.fixture(scope="session")
def huge() -> Callable[[Path], Path]:
    """`huge(path)`."""
    return make_huge


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory) -> Path:
    """Three classes of four mp4 clips of 24 frames; do not change it."""
    root = tmp_path_factory.mktemp("classes")
    for number, name in enumerate(("apple", "pear", "plum")):
        for clip in range(4):
            write_mp4(root / name / f"clip{clip}.mp4", make_frames(phase=40 * number + 9 * clip), 12)
    return root


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Six PNG images; do not change it."""
    from videoar.data.writers import write_png

    root = tmp_path_factory.mktemp("images")
    for number, frame in enumerate(make_frames(6)):
        write_png(root / f"image{number}.png", frame)
    return root
