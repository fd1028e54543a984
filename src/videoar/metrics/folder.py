"""Folders of videos, read one clip at a time: what to read, where a clip begins, and what to do with bad files."""

# T frames · H W pixels

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from videoar.data.files import VIDEO_SUFFIXES, read_text, walk
from videoar.data.readers import Reader, open_video
from videoar.errors import UserError
from videoar.metrics.preprocess import from_bytes, resize_video
from videoar.metrics.protocol import Protocol

Item = TypeVar("Item", str, tuple[str, str])
Out = TypeVar("Out")


@dataclass(frozen=True)
class Clip:
    """One clip: its video [1, 3, T, H, W] in [-1, 1] on the CPU, its name (path inside the folder) and rate."""

    name: str
    video: Tensor
    fps: float


@dataclass
class Skips:
    """Files that could not be used, with the reason; too many of them end the run.

    Args:
        limit: largest share of `expected` files that may be skipped.
    """

    expected: int
    limit: float
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Count one file; UserError when the share passes the limit."""
        self.reasons[name] = reason
        if len(self.reasons) > self.limit * self.expected:
            shown = "; ".join(f"{n}: {r}" for n, r in list(self.reasons.items())[:3])
            raise UserError(
                f"{len(self.reasons)} of {self.expected} videos cannot be used, more than {self.limit:.0%} "
                f"(--max-skipped): {shown}"
            )


class VideoFolder:
    """The videos of a folder and all its subfolders, or those that a list file names, in sorted order.

    A list file (`testlist01.txt`) has one path a line, relative to its own folder, perhaps followed by a class number.
    Of a GIF and another video file with the same name (as `videoar sample` writes them) the GIF is left out, and so is
    `grid.gif` beside that command's `samples.json`.

    Raises:
        UserError: no folder, no video in it, or a listed file that is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix == ".txt":
            self.names = _listed(self.path)
            self.path = self.path.parent
            return
        if not self.path.is_dir():
            raise UserError(f"no folder at {self.path}")
        files = (p for p in walk(self.path, VIDEO_SUFFIXES) if not _is_grid(p))
        found = {p.relative_to(self.path).as_posix() for p in files}
        videos = {stem_of(name) for name in found if not name.lower().endswith(".gif")}
        found = {name for name in found if not (name.lower().endswith(".gif") and stem_of(name) in videos)}
        if not found:
            raise UserError(f"no videos in {self.path} (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
        self.names = tuple(sorted(found))

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, protocol: Protocol) -> tuple[str, ...]:
        """The names the protocol takes, sorted."""
        if protocol.videos is None or protocol.videos >= len(self.names):
            return self.names
        if protocol.select == "first":
            return self.names[: protocol.videos]
        return tuple(sorted(random.Random(protocol.seed).sample(self.names, protocol.videos)))

    def fingerprint(self, names: Sequence[str]) -> list[tuple[str, int, int]]:
        """(name, bytes, time of change) of files: changes when a file does."""
        stats = [(self.path / name).stat() for name in names]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats)]


def _is_grid(path: Path) -> bool:
    return path.name == "grid.gif" and (path.parent / "samples.json").is_file()


def _listed(path: Path) -> tuple[str, ...]:
    """The paths in a list file."""
    if not path.is_file():
        raise UserError(f"no list of videos at {path}")
    names = set()
    for line in read_text(path).splitlines():
        name, _, number = line.strip().rpartition(" ")
        if line.strip():
            names.add(name if name and number.isdigit() else line.strip())
    missing = sorted(name for name in names if not (path.parent / name).is_file())
    if missing or not names:
        raise UserError(f"{path} lists {len(names)} videos, {len(missing)} are missing, e.g. {''.join(missing[:1])!r}")
    return tuple(sorted(names))


def stem_of(name: str) -> str:
    """A file's path without its suffix: what pairs a generated video with a real one."""
    return name.rsplit(".", 1)[0]


def same_frames(protocol: Protocol) -> bool:
    """Whether real and generated clips cover the same frames, so that they may be compared pixel by pixel."""
    return protocol.generated == "like_real" or (protocol.stride == 1 and protocol.start == "first")


def frame_indices(length: int, protocol: Protocol, real: bool, name: str) -> list[int]:
    """Frames of a clip in a video of `length` frames.

    Raises:
        ValueError: the video is too short.
    """
    real = real or protocol.generated == "like_real"
    stride = protocol.stride if real else 1
    frames = protocol.frames or (length + stride - 1) // stride
    spare = length - ((frames - 1) * stride + 1)
    if spare < 0:
        raise ValueError(f"{length} frames, {frames} at stride {stride} are needed")
    start = 0
    if real and protocol.start == "centre":
        start = spare // 2
    elif real and protocol.start == "random":
        start = random.Random(f"{protocol.seed}/{stem_of(name)}").randint(0, spare)
    return [start + stride * i for i in range(frames)]


def read_clip(folder: VideoFolder, name: str, protocol: Protocol, real: bool, backend: str) -> Clip:
    """One clip, brought to the protocol's size.

    Raises:
        ValueError: an unreadable or too short file.
    """
    reader = open_video(folder.path / name, backend)
    return _take(reader, name, frame_indices(len(reader), protocol, real, name), protocol)


def _take(reader: Reader, name: str, indices: list[int], protocol: Protocol) -> Clip:
    video = from_bytes(reader.get(indices))
    if protocol.size is not None:
        video = resize_video(video, protocol.size, protocol.crop)
    stride = indices[1] - indices[0] if len(indices) > 1 else 1
    return Clip(name, video, (reader.fps or 8.0) / stride)


def read_pair(
    real: VideoFolder, fake: VideoFolder, names: tuple[str, str], protocol: Protocol, backend: str
) -> tuple[Clip, Clip]:
    """The same frames of a real video and of its generated twin.

    Raises:
        ValueError: an unreadable file, a length or a size (where the protocol sets none) that does not fit.
    """
    readers = [open_video(folder.path / name, backend) for folder, name in zip((real, fake), names)]
    if protocol.frames is None and len(readers[0]) != len(readers[1]):
        raise ValueError(f"{len(readers[0])} real and {len(readers[1])} generated frames; set frames to compare a part")
    indices = frame_indices(len(readers[0]), protocol, True, names[0])
    if indices[-1] >= len(readers[1]):
        raise ValueError(f"the generated video has {len(readers[1])} frames, frame {indices[-1]} is needed")
    clips = [_take(reader, name, indices, protocol) for reader, name in zip(readers, names)]
    if clips[0].video.shape != clips[1].video.shape:
        sizes = ["x".join(map(str, clip.video.shape[-2:])) for clip in clips]
        raise ValueError(f"real frames are {sizes[0]}, generated {sizes[1]}; set size to compare them")
    return clips[0], clips[1]


def readable(items: Sequence[Item], read: Callable[[Item], Out], skips: Skips) -> Iterator[Out]:
    """`read(item)` of every item; a bad file is counted in `skips` and left out."""
    for item in items:
        try:
            result = read(item)
        except (ValueError, OSError, RuntimeError) as error:  # decoders and unfit files; bugs pass through
            skips.add(item if isinstance(item, str) else str(item[0]), " ".join(str(error).split())[:200])
            continue
        yield result


def pair_names(real: Sequence[str], fake: Sequence[str]) -> list[tuple[str, str]]:
    """(real, fake) names whose paths without suffix agree.

    Raises:
        UserError: a file of one side has no twin on the other.
    """
    by_stem = [{stem_of(name): name for name in side} for side in (real, fake)]
    only_real, only_fake = by_stem[0].keys() - by_stem[1].keys(), by_stem[1].keys() - by_stem[0].keys()
    if not only_real and not only_fake:
        return [(by_stem[0][stem], by_stem[1][stem]) for stem in sorted(by_stem[0])]
    example = sorted(only_real or only_fake)[0]
    raise UserError(
        f"the files do not pair by name: {len(real)} real and {len(fake)} generated videos, "
        f"{len(only_real)} only real, {len(only_fake)} only generated, e.g. {example!r}"
    )
