"""Real video files, made once a session: a moving square over a gradient, so that every frame is its own."""

from __future__ import annotations

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
