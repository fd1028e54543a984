"""The image or clip of a file that a sampled video starts with."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from videoar.data.readers import open_video, read_image
from videoar.data.transforms import fit
from videoar.errors import UserError


def start_with_image(path: str | Path, size: tuple[int, int]) -> Tensor:
    """An image file as the first frame: float [3, 1, H, W] in [-1, 1]."""
    return fit(read_image(path), size)


def start_with_video(path: str | Path, frames: int, size: tuple[int, int]) -> Tensor:
    """The last `frames` frames of a video file: float [3, frames, H, W] in [-1, 1].

    Raises:
        UserError: no readable video, or a shorter one.
    """
    reader = open_video(path)
    if len(reader) < frames:
        raise UserError(f"{path} has {len(reader)} frames; --context asks for {frames}")
    return fit(reader.get(range(len(reader) - frames, len(reader))), size)
