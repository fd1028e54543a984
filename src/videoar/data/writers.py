"""Pixels -> files: H.264 mp4, GIF and PNG (contact sheets: `sheets`). PyAV and Pillow only, never moviepy.

Every function takes a video as float `[3, T, H, W]` in [-1, 1] (the model's form) or uint8 `[T, H, W, 3]`
(the file's form), as a tensor or an array, and writes under a temporary name that is renamed at the end.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoar.data.files import atomic_path
from videoar.ranges import FPS

log = logging.getLogger(__name__)
Video = torch.Tensor | np.ndarray


def to_uint8(video: Video) -> np.ndarray:
    """Float `[3, T, H, W]` in [-1, 1], or uint8 `[T, H, W, 3]`, -> uint8 `[T, H, W, 3]`.

    Raises `ValueError` for another shape, for NaN, and for floats outside [-1, 1] (a 0..255 or 0..1 mix-up).
    """
    array = video.detach().cpu().numpy() if isinstance(video, torch.Tensor) and video.dtype == torch.uint8 else video
    if isinstance(array, np.ndarray) and array.dtype == np.uint8:
        if array.ndim != 4 or array.shape[-1] != 3:
            raise ValueError(f"a uint8 video must be [T, H, W, 3], got {list(array.shape)}")
        return array
    pixels = torch.as_tensor(video).detach().cpu()
    if not pixels.is_floating_point() or pixels.ndim != 4 or pixels.shape[0] != 3:
        raise ValueError(f"a float video must be [3, T, H, W], got {pixels.dtype} {list(pixels.shape)}")
    pixels = pixels.float()
    low, high = (pixels.min().item(), pixels.max().item()) if pixels.numel() else (0.0, 0.0)
    if not (low >= -1.01 and high <= 1.01):
        raise ValueError(f"a float video must lie in [-1, 1], got values from {low:.3g} to {high:.3g}")
    return pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()


class Mp4Writer:
    """Streams frames into one H.264 file; made by `open_mp4_writer`. `frames` counts what was written."""

    def __init__(self, container: Any, fps: Fraction, crf: int, name: str) -> None:
        self.frames = 0
        self._container, self._fps, self._crf, self._name = container, fps, crf, name
        self._stream: Any = None
        self._size: tuple[int, int] = (0, 0)

    def write(self, video: Video) -> None:
        """Append a video (either form) or one uint8 frame `[H, W, 3]`. All chunks must have one size."""
        if video.ndim == 3:
            video = video[None]
        for frame in to_uint8(video):
            self._write_frame(frame)

    def _write_frame(self, frame: np.ndarray) -> None:
        import av

        if self._stream is None:
            self._open_stream(frame.shape[:2])
        if frame.shape[:2] != self._size:
            raise ValueError(f"{self._name}: frame {self.frames} is {frame.shape[:2]}, earlier ones {self._size}")
        pad = [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)]
        frame = np.ascontiguousarray(np.pad(frame, pad, mode="edge") if any(sum(pad, ())) else frame)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = self.frames
        picture.time_base = 1 / self._fps
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def _open_stream(self, size: tuple[int, ...]) -> None:
        height, width = self._size = (size[0], size[1])
        if height % 2 or width % 2:
            log.warning("%s: H.264 needs even sizes; %dx%d padded by repeating the edge", self._name, height, width)
        # The same pixels must give the same bytes, so no macroblock tree, which reads memory that was never
        # written (small frames differ from run to run), and one thread.
        options = {"crf": str(self._crf), "preset": "medium", "mbtree": "0"}
        stream = self._container.add_stream("libx264", rate=self._fps, options=options)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / self._fps
        stream.codec_context.thread_count = 1
        self._stream = stream

    def finish(self) -> None:
        """Flush the encoder. Raises `ValueError` if nothing was written: no frames, no video."""
        if self._stream is None:
            raise ValueError(f"{self._name}: no frame was written")
        self._container.mux(self._stream.encode(None))


@contextmanager
def open_mp4_writer(path: str | Path, fps: float, crf: int = 18) -> Iterator[Mp4Writer]:
    """`with open_mp4_writer("out.mp4", fps=8) as writer: writer.write(chunk)`; the file appears when whole.

    H.264, yuv420p, constant quality `crf` (0 best, 51 worst; 18 is visually lossless). Odd sizes are padded
    by one row or column, with a warning. A failure inside the block leaves no file behind.
    """
    import av

    FPS.check("fps", float(fps))
    faststart = {"movflags": "faststart"}
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options=faststart) as container,
    ):
        writer = Mp4Writer(container, Fraction(fps).limit_denominator(1001), crf, str(path))
        yield writer
        writer.finish()


def write_mp4(path: str | Path, video: Video, fps: float, crf: int = 18) -> None:
    """Write a video as H.264 mp4; see `open_mp4_writer`."""
    with open_mp4_writer(path, fps, crf) as writer:
        writer.write(video)


def write_lossless(path: str | Path, video: Video, fps: float) -> None:
    """Write a video as FFV1 in a .mkv: every reader gives back exactly its 8-bit pixels."""
    import av

    frames = to_uint8(video)
    if not len(frames):
        raise ValueError(f"{path}: no frame to write")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def write_gif(path: str | Path, video: Video, fps: float) -> None:
    """Write a looping GIF, one palette a frame. GIF time is in 1/100 s: `fps` above 50 is shown at 50."""
    from PIL import Image

    FPS.check("fps", float(fps))
    frames = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in to_uint8(video)]
    if not frames:
        raise ValueError(f"{path}: no frame to write")
    duration = max(20, round(100 / fps) * 10)
    with atomic_path(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)


def write_png(path: str | Path, image: Video) -> None:
    """Write a uint8 `[H, W, 3]` image (e.g. a contact sheet) or a one-frame video as PNG."""
    from PIL import Image

    frames = to_uint8(image[None] if image.ndim == 3 else image)
    if len(frames) != 1:
        raise ValueError(f"{path}: a PNG holds one frame, got {len(frames)}")
    with atomic_path(path) as temporary:
        Image.fromarray(frames[0]).save(temporary, format="PNG")


def tile(rows: Sequence[Sequence[Video]], pad: int = 2, background: int = 255) -> np.ndarray:
    """Rows of videos -> one video, uint8 `[T, H, W, 3]`. Sizes and lengths may differ.

    Shorter videos hold their last frame; smaller ones sit at the top left of their cell, `pad` pixels apart.
    """
    cells = [[to_uint8(video) for video in row] for row in rows]
    flat = [video for row in cells for video in row]
    if not flat or not all(len(video) for video in flat):
        raise ValueError("nothing to tile: no rows, or a video without frames")
    length = max(len(video) for video in flat)
    height, width = (max(video.shape[axis] for video in flat) + pad for axis in (1, 2))
    columns = max(len(row) for row in cells)
    canvas = np.full((length, len(cells) * height + pad, columns * width + pad, 3), background, np.uint8)
    for i, row in enumerate(cells):
        for j, video in enumerate(row):
            top, left = pad + i * height, pad + j * width
            held = video[np.minimum(np.arange(length), len(video) - 1)]
            canvas[:, top : top + video.shape[1], left : left + video.shape[2]] = held
    return canvas
