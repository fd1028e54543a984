"""Files -> uint8 frames, by one small interface over three decoders chosen by name.

`pyav` reads everything; `decord` and `torchcodec` are used on files for which they are known to be right, and PyAV
reads the others in their place. All number frames by one rule, `probe`'s, and give the same pixels within codec
tolerance. A frame is never handed over unless its time stamp is the wanted one (PyAV, torchcodec), or the file is of
a kind on which a seek was found right by test (decord, which does not tell stamps).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoar.data.container import file_address, open_container
from videoar.data.index import keep, known, learn_key
from videoar.data.probe import MAX_PIXELS, Probe, UnreadableClip, open_image, probe
from videoar.data.walk import DEPENDENT, MIRRORED, TRANSPOSED, UPSIDE_DOWN
from videoar.errors import UserError

log = logging.getLogger(__name__)


class Reader(ABC):
    """One open video: `len`, `fps`, `height`, `width` and `get(indices)`."""

    def __init__(self, path: str | Path, probe: Probe, frames: int | None = None) -> None:
        self.path, self._probe, self._limit = str(path), probe, frames
        self.fps, self.height, self.width = probe.fps, probe.height, probe.width

    def __len__(self) -> int:
        return min(self._probe.length, self._limit or self._probe.length)

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


class _NotAsKnownError(Exception):
    """The frames that come are not those that the packets promised."""


class PyAVReader(Reader):
    """Seeks to a key frame, sees by time stamps that it got there, and decodes forward, comparing every stamp.

    Where a seek does not get there, an earlier key frame is tried, and at last the beginning. Where frames come that
    the packets did not promise, all are decoded once to learn the true ones.
    """

    def _decode(self, indices: list[int]) -> torch.Tensor:
        try:
            return self._collect(indices)
        except _NotAsKnownError:
            self._relearn(probe(self.path, exact=True))
        for attempt in ("a seek", "decoding in order"):
            if max(indices) >= len(self):
                raise UnreadableClip(self.path, f"frame {max(indices)} of {len(self)} does not decode")
            try:
                return self._collect(indices)
            except _NotAsKnownError as error:
                reason = f"other frames come after {attempt}: {error}"
                self._relearn(replace(self._probe, keys=self._probe.keys[:1], targets=self._probe.targets[:1]))
        raise UnreadableClip(self.path, reason)

    def _relearn(self, better: Probe) -> None:
        self._probe = better
        keep(self.path, better)

    def _collect(self, indices: list[int]) -> torch.Tensor:
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(index, []).append(place)
        last, pixels = max(indices), np.empty((len(indices), self.height, self.width, 3), np.uint8)
        convert = self.converter()
        for index, frame in self._frames(min(indices)):
            if index in places:
                pixels[places[index]] = convert(frame)
            if index == last:
                return torch.from_numpy(pixels)
        raise _NotAsKnownError(f"there is no frame {last}")

    def in_order(self) -> Iterator[torch.Tensor]:
        """All frames from the first on, uint8 `[H, W, 3]` each."""
        convert = self.converter()
        with open_container(self.path) as (container, stream):
            for frame in container.decode(stream):
                yield torch.from_numpy(convert(frame).copy())

    def converter(self) -> Callable[[Any], np.ndarray]:
        """Frame -> uint8 `[H, W, 3]`, upright, square pixels, without alpha, all in the size of the first."""
        from av.video.reformatter import VideoReformatter

        scaler, orientation = VideoReformatter(), self._probe.orientation
        lying = orientation & TRANSPOSED
        height, width = (self.width, self.height) if lying else (self.height, self.width)

        def convert(frame: Any) -> np.ndarray:
            plane = scaler.reformat(frame, width=width, height=height, format="rgb24").planes[0]
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
            picture = rows[:, : 3 * width].reshape(height, width, 3)
            picture = picture.swapaxes(0, 1) if lying else picture
            picture = picture[:, ::-1] if orientation & MIRRORED else picture
            return picture[::-1] if orientation & UPSIDE_DOWN else picture

        return convert

    def _frames(self, first: int) -> Iterator[tuple[int, Any]]:
        """(index, frame) pairs in order of presentation, from a frame at or before `first`, stamps compared.

        Raises `_NotAsKnownError` when another frame comes than the next one.
        """
        with open_container(self.path) as (container, stream):
            frames, start = self._seek(container, stream, first)
            if frames is not None:
                yield from self._compare(frames, start)
                return
        with open_container(self.path) as (container, stream):
            yield from self._compare(container.decode(stream), 0)

    def _compare(self, frames: Iterable[Any], start: int) -> Iterator[tuple[int, Any]]:
        stamps = self._probe.stamps
        for index, frame in enumerate(frames, start):
            if len(stamps) and (index >= len(stamps) or frame.pts != stamps[index]):
                raise _NotAsKnownError(f"a frame of stamp {frame.pts} as number {index}")
            yield index, frame

    def _seek(self, container: Any, stream: Any, first: int) -> tuple[Iterator[Any] | None, int]:
        """(frames, number of the first) from a clean frame at or before `first`; (None, 0): only from the start."""
        from av.error import FFmpegError

        number, step = int(np.searchsorted(self._probe.keys, first, "right")) - 1, 1
        if number <= 0:
            return container.decode(stream), 0
        while number > 0:
            try:
                container.seek(int(self._probe.targets[number]), stream=stream, backward=True)
                frames = container.decode(stream)
                if (clean := self._first_clean(frames, first)) is not None:
                    return chain(clean[1], frames), clean[0]
            except FFmpegError:
                pass  # a demuxer that cannot seek, or a decoder put down in the middle of something
            number, step = number - step, 2 * step
        return None, 0

    def _first_clean(self, frames: Iterator[Any], first: int) -> tuple[int, list[Any]] | None:
        """The first frame that needs no other, if it lies at or before `first`: (its number, itself)."""
        stamps, keys = self._probe.stamps, self._probe.keys
        for frame in frames:
            if frame.pts is None or frame.pts > stamps[first]:
                return None
            at = int(np.searchsorted(stamps, frame.pts))
            is_key = stamps[at] == frame.pts and at == keys[min(int(np.searchsorted(keys, at)), len(keys) - 1)]
            if is_key and frame.pict_type in DEPENDENT:  # a picture that is refreshed piece by piece
                self._probe = learn_key(self.path, self._probe, at) if at else self._probe
                return None
            if is_key:
                return at, [frame]
        return None


class DecordReader(Reader):
    """decord with one thread: parallelism belongs to the loader's workers."""

    def __init__(self, path: str | Path, probe: Probe, frames: int | None = None) -> None:
        super().__init__(path, probe, frames)
        decord = _library("decord", path)
        self._video = decord.VideoReader(file_address(path), ctx=decord.cpu(0), num_threads=1)
        if len(self._video) != probe.length:
            raise ValueError(f"it counts {len(self._video)} frames, and there are {probe.length}")

    def _decode(self, indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(self._video.get_batch(indices).asnumpy())


class TorchCodecReader(Reader):
    """torchcodec on the CPU, one thread. Frames of other time stamps than those asked for are decoded by PyAV."""

    def __init__(self, path: str | Path, probe: Probe, frames: int | None = None) -> None:
        super().__init__(path, probe, frames)
        decoders = _library("torchcodec.decoders", path)
        self._video = decoders.VideoDecoder(file_address(path), dimension_order="NHWC", num_ffmpeg_threads=1)
        if len(self._video) != probe.length:
            raise ValueError(f"it counts {len(self._video)} frames, and there are {probe.length}")

    def _decode(self, indices: list[int]) -> torch.Tensor:
        batch, stamps = self._video.get_frames_at(indices), self._probe.stamps
        if len(stamps) and np.abs(batch.pts_seconds.numpy() / self._probe.tick - stamps[indices]).max() >= 0.5:
            _say_once("torchcodec", "torchcodec returned other frames", self.path)
            return PyAVReader(self.path, self._probe, self._limit)._decode(indices)
        return batch.data


_READERS: dict[str, type[Any]] = {"pyav": PyAVReader, "decord": DecordReader, "torchcodec": TorchCodecReader}
BACKENDS = tuple(_READERS)
DEFAULT_BACKEND = "pyav"
"""It reads everything, is installed everywhere, and needs no more time than the others (docs/data.md)."""


def open_video(path: str | Path, backend: str = DEFAULT_BACKEND, frames: int | None = None) -> Reader:
    """Open a video for random access with one of `BACKENDS`.

    `frames` is a verified frame count (from a manifest): the reader's length becomes at most that.
    A file on which only PyAV is known to be right (`Probe.unusual`), or that another reader does not open, is read by
    PyAV, and the log says why, once a reason.
    Raises `UnreadableClip` for a bad file and `UserError` for an unknown or missing backend.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown video backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    found = known(path)
    reason = "" if backend == "pyav" else found.unusual
    try:
        if not reason:
            return _READERS[backend](path, found, frames)
    except UserError:
        raise
    except Exception as error:  # each library has its own exception types
        reason = f"{backend} cannot open it: {UnreadableClip(path, error).reason}"
    _say_once(backend, reason, str(path))
    return PyAVReader(path, found, frames)


def reader_for(path: str | Path, backend: str) -> str:
    """The name of the reader that `open_video` takes."""
    return next(name for name, kind in _READERS.items() if type(open_video(path, backend)) is kind)


_said: set[tuple[str, str]] = set()


def _say_once(backend: str, reason: str, path: str) -> None:
    if (backend, reason) not in _said:
        _said.add((backend, reason))
        log.info("%s: %s; such files are read by PyAV, not %s", path, reason, backend)


def iterate(path: str | Path, backend: str = DEFAULT_BACKEND, chunk: int = 16) -> Iterator[torch.Tensor]:
    """All frames of a video in order, one uint8 `[H, W, 3]` at a time, in constant memory."""
    video = open_video(path, backend)
    if isinstance(video, PyAVReader):
        try:
            yield from video.in_order()
        except UnreadableClip:
            raise
        except Exception as error:
            raise UnreadableClip(path, f"cannot decode frames: {error}") from error
        return
    for start in range(0, len(video), chunk):
        yield from video.get(range(start, min(start + chunk, len(video))))


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """An image of any mode as a one-frame clip, uint8 `[1, H, W, 3]`; EXIF rotation applied, no alpha."""
    from PIL import ImageOps

    try:
        with open_image(path) as image:
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
