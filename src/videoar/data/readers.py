"""Files -> uint8 frames, by one small interface over three decoders chosen by name.

`decord` (default) is fast; `pyav` always works; `torchcodec` needs FFmpeg's shared libraries. All three
number frames in presentation order and give the same pixels within codec tolerance.
A container's own frame count is never trusted: it can be larger than what decodes, and decord then waits holding the
interpreter lock. A reader's length is the number of packets, or a smaller count that `videoar data check` has verified.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoar.data.probe import MAX_PIXELS, Probe, UnreadableClip
from videoar.errors import UserError


class Reader(ABC):
    """One open video: `len`, `fps`, `height`, `width` and `get(indices)`."""

    def __init__(self, path: str | Path, probe: Probe) -> None:
        self.path, self._probe, self._length = str(path), probe, probe.length
        self.fps, self.height, self.width = probe.fps, probe.height, probe.width

    def __len__(self) -> int:
        return self._length

    def get(self, indices: Sequence[int]) -> torch.Tensor:
        """The frames at `indices` (any order, repeats allowed), uint8 `[len(indices), H, W, 3]`."""
        if not len(indices) or min(indices) < 0 or max(indices) >= len(self):
            raise IndexError(f"{self.path}: frames {list(indices)[:8]} of a clip of {len(self)} frames")
        try:
            return self._decode(list(indices))
        except UnreadableClip:
            raise
        except Exception as error:  # each library has its own exception types
            raise UnreadableClip(self.path, f"cannot decode frames: {error}") from error

    @abstractmethod
    def _decode(self, indices: list[int]) -> torch.Tensor: ...


class PyAVReader(Reader):
    """Seeks to the key frame before the first wanted frame and decodes forward, matching time stamps."""

    def _decode(self, indices: list[int]) -> torch.Tensor:
        wanted, found = set(indices), {}
        for index, frame in self._frames(min(wanted)):
            if index in wanted:
                found[index] = self._pixels(frame)
            if len(found) == len(wanted):
                return torch.stack([found[index] for index in indices])
        missing = min(wanted - found.keys())
        raise UnreadableClip(self.path, f"frame {missing} of {len(self)} does not decode")

    def _pixels(self, frame: Any) -> torch.Tensor:
        """A decoded frame as uint8 `[H, W, 3]`, upright, without alpha."""
        pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
        return pixels.rot90(self._probe.turns, (0, 1)) if self._probe.turns else pixels

    def _frames(self, first: int) -> Iterator[tuple[int, Any]]:
        """(index, frame) pairs in presentation order from a key frame at or before `first`."""
        import av

        stamps, keys = self._probe.stamps, self._probe.keys
        with av.open(self.path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            if not self._probe.seekable:
                yield from enumerate(container.decode(stream))
                return
            start = keys[bisect_right(keys, first) - 1] if keys and keys[0] <= first else 0
            if start > 0:
                container.seek(stamps[start], stream=stream, backward=True)
            index_of = {stamp: index for index, stamp in enumerate(stamps)}
            for frame in container.decode(stream):
                if frame.pts in index_of:
                    yield index_of[frame.pts], frame


class DecordReader(Reader):
    """decord with one thread: parallelism belongs to the loader's workers."""

    def __init__(self, path: str | Path, probe: Probe) -> None:
        super().__init__(path, probe)
        decord = _library("decord", path)
        self._video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        self._length = min(probe.length, len(self._video))

    def _decode(self, indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(self._video.get_batch(indices).asnumpy())


class TorchCodecReader(Reader):
    """torchcodec on the CPU, one thread."""

    def __init__(self, path: str | Path, probe: Probe) -> None:
        super().__init__(path, probe)
        decoders = _library("torchcodec.decoders", path)
        self._video = decoders.VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
        self._length = min(probe.length, len(self._video))

    def _decode(self, indices: list[int]) -> torch.Tensor:
        return self._video.get_frames_at(indices).data


_READERS: dict[str, type[Any]] = {"decord": DecordReader, "pyav": PyAVReader, "torchcodec": TorchCodecReader}
BACKENDS = tuple(_READERS)
PADDED_WIDTHS = (16, 24, 48, 72)
"""Widths at which decord 0.6 pads the rows of its frames and then refuses to copy them."""


def open_video(path: str | Path, backend: str = "decord", frames: int | None = None) -> Reader:
    """Open a video for random access with one of `BACKENDS`.

    `frames` is a verified frame count (from a manifest): the reader's length becomes at most that.
    A file that cannot be sought in (`Probe.seekable`) is decoded in order by PyAV, whatever the backend, and so is one
    that must be turned (`Probe.turns`) or of a width in `PADDED_WIDTHS`, both of which decord fails to do.
    Raises `UnreadableClip` for a bad file and `UserError` for an unknown or missing backend.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown video backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    probe = Probe(path)
    if frames is not None:
        probe.length = min(probe.length, frames)
    try:
        padded = backend == "decord" and probe.width in PADDED_WIDTHS
        return _READERS["pyav" if padded or probe.turns or not probe.seekable else backend](path, probe)
    except UserError:
        raise
    except Exception as error:  # each library has its own exception types
        raise UnreadableClip(path, f"{backend} cannot open it: {error}") from error


def iterate(path: str | Path, backend: str = "pyav", chunk: int = 16) -> Iterator[torch.Tensor]:
    """All frames of a video in order, one uint8 `[H, W, 3]` at a time, in constant memory."""
    if backend == "pyav":
        reader = PyAVReader(path, Probe(path))
        try:
            for _, frame in reader._frames(0):
                yield reader._pixels(frame)
        except Exception as error:
            raise UnreadableClip(path, f"cannot decode frames: {error}") from error
        return
    video = open_video(path, backend)
    for start in range(0, len(video), chunk):
        yield from video.get(range(start, min(start + chunk, len(video))))


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """An image of any mode as a one-frame clip, uint8 `[1, H, W, 3]`; EXIF rotation applied, no alpha."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width}x{image.height}"
                raise UnreadableClip(path, f"an image of {size} exceeds the limit of {max_pixels} pixels")
            if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips instead of scaling
                grey = np.asarray(image).astype(np.int64) >> 8
                return torch.from_numpy(grey.clip(0, 255).astype(np.uint8))[None, :, :, None].repeat(1, 1, 1, 3)
            return torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB")))[None]
    except UnreadableClip:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and others on bad files
        raise UnreadableClip(path, f"cannot read image: {error}") from error


def _library(module: str, path: str | Path) -> Any:
    """Import a decoder on first use; a missing or broken one is a `UserError` that says what to do."""
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        name = module.split(".")[0]
        reason = str(error).strip().splitlines()[0]
        hint = "torchcodec also needs FFmpeg's shared libraries; " if name == "torchcodec" else ""
        raise UserError(f"cannot use {name} to read {path} ({reason}); {hint}install it or choose pyav") from error
