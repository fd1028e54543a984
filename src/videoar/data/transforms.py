"""uint8 frames -> model pixels: which frames, resize to cover, crop, [-1, 1].

Resizing stays on uint8 (antialiased bilinear, channels last) and is skipped where the size fits already.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from videoar.errors import UserError
from videoar.ranges import SIDE

SIDE_MULTIPLE = 16
TEMPORAL_MULTIPLE = 4


def check_frames(frames: int, name: str = "frames") -> None:
    """Raise `ValueError` unless `frames` is 1 + 4n (the tokenizer's causal groups of four)."""
    if frames < 1 or (frames - 1) % TEMPORAL_MULTIPLE:
        low = max(1, frames - (frames - 1) % TEMPORAL_MULTIPLE)
        raise ValueError(f"{name} must be 1 + 4n, got {frames}; {low} and {low + TEMPORAL_MULTIPLE} would do")


def check_size(size: Sequence[int], name: str = "resolution") -> None:
    """Raise `ValueError` unless height and width are positive multiples of 16."""
    for side, what in zip(size, ("height", "width")):
        if side < SIDE_MULTIPLE or side % SIDE_MULTIPLE:
            low = max(SIDE_MULTIPLE, side - side % SIDE_MULTIPLE)
            raise ValueError(
                f"{name}: {what} must be a multiple of {SIDE_MULTIPLE}, got {side}; "
                f"{low} and {low + SIDE_MULTIPLE} would do"
            )
        SIDE.check(f"{name}: {what}", side)


def span(frames: int, stride: int) -> int:
    """Frames of the file that a clip of `frames` at `stride` covers."""
    return 1 + (frames - 1) * stride


def clip_indices(length: int, frames: int, stride: int, where: float, first: int | None = None) -> np.ndarray:
    """Indices of a clip in a file of `length` frames; `where` in [0, 1) moves it from the first to the last start.

    `first` is its first frame instead. Raises `ValueError` if the file is too short.
    """
    need = span(frames, stride)
    if length < need + (first or 0):
        raise ValueError(f"{length} frames; {frames} at stride {stride} need {need}" + (f" from {first}" * bool(first)))
    return (int(where * (length - need + 1)) if first is None else first) + stride * np.arange(frames)


def resize_to_cover(video_THWC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Scale uint8 `[T, H, W, 3]` so that it just covers `size` (height, width), keeping the aspect ratio."""
    height, width = video_THWC.shape[1:3]
    scale = max(size[0] / height, size[1] / width)
    target = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    if target == (height, width):
        return video_THWC
    pixels = video_THWC.permute(0, 3, 1, 2)  # a channels-last view: the fast uint8 path
    return F.interpolate(pixels, target, mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def crop(video_THWC: torch.Tensor, size: tuple[int, int], where: tuple[float, float] = (0.5, 0.5)) -> torch.Tensor:
    """Cut `size` out of `[T, H, W, 3]`; `where` in [0, 1] places it from top left to bottom right."""
    top, left = (round(at * (have - want)) for at, have, want in zip(where, video_THWC.shape[1:3], size))
    return video_THWC[:, top : top + size[0], left : left + size[1]]


def to_pixels(video: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float32 in [-1, 1], same shape."""
    return video.float().div_(127.5).sub_(1)


def fit(video_THWC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize to cover, centre crop and scale: uint8 `[T, H, W, 3]` -> float `[3, T, h, w]` in [-1, 1]."""
    if video_THWC.ndim != 4 or video_THWC.shape[-1] != 3 or video_THWC.dtype != torch.uint8:
        raise ValueError(f"expected uint8 [T, H, W, 3], got {video_THWC.dtype} {list(video_THWC.shape)}")
    return to_pixels(crop(resize_to_cover(video_THWC, size), size).permute(3, 0, 1, 2).contiguous())


def check_range(batch: dict[str, Any]) -> None:
    """Pixels that are floats must lie in [-1, 1] (bytes become such on the device).

    Raises:
        UserError: values outside, such as 0 … 255, or NaN.
    """
    video = batch.get("video")
    if not isinstance(video, torch.Tensor) or not video.is_floating_point():
        return
    low, high = (float(x) for x in video.aminmax())
    if not (low >= -1.01 and high <= 1.01):
        raise UserError(f"videos must lie in [-1, 1], got values from {low:.3g} to {high:.3g}")
