"""From a video to the clip that a protocol takes: which frames, at what size."""

# T frames · H W pixels

from __future__ import annotations

import random
from dataclasses import dataclass

from torch import Tensor

from videoar.data.readers import Reader, open_video
from videoar.evaluation.folders import VideoFolder, stem_of
from videoar.evaluation.protocol import Protocol
from videoar.metrics.preprocess import from_bytes, resize_video


@dataclass(frozen=True)
class Clip:
    """One clip: its video [1, 3, T, H, W] in [-1, 1] on the CPU, its name (path inside the folder) and rate."""

    name: str
    video: Tensor
    fps: float


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
        raise ValueError(f"{length} frames, {frames} at stride {stride} are needed (--set frames=N takes fewer)")
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
