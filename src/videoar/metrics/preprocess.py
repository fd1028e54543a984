"""The one place where metrics check the range of a video and resize it.

Every metric takes videos as the rest of the code holds them: float [B, 3, T, H, W] in [-1, 1]. A metric that wants
[0, 1], 0-255 or another size asks here, so a wrong range is an error and never a plausible number.
"""

# B batch · T frames · H W pixels

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Resize = Literal["direct", "short_side_crop", "short_side_crop_antialias", "tf1"]
RESIZES: tuple[str, ...] = get_args(Resize)
TOLERANCE = 1e-2  # bfloat16 rounds 1 - x/255 by up to 2^-9; a decoder that is not clamped leaves by far more


def check_video(video: Tensor, name: str = "video") -> Tensor:
    """Return `video` as float32 clamped to [-1, 1], or say what is wrong with it.

    Raises:
        ValueError: not a float tensor [B, 3, T, H, W], empty, not finite, or outside [-1, 1] by more than 0.01.
    """
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"{name} has shape {tuple(video.shape)}, expected [B, 3, T, H, W]")
    if not video.is_floating_point():
        raise ValueError(f"{name} is {video.dtype}, expected floats in [-1, 1] (bytes: x / 127.5 - 1)")
    if video.numel() == 0:
        raise ValueError(f"{name} is empty: shape {tuple(video.shape)}")
    low, high = (float(v) for v in torch.stack(torch.aminmax(video.detach().float())).cpu())  # the host waits once
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} has values that are not finite")
    if low < -1 - TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(f"{name} lies in [{low:.4g}, {high:.4g}], expected [-1, 1]; clamp or rescale it first")
    return video.detach().float().clamp(-1, 1)


def check_pair(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check two videos that are compared pixel by pixel.

    Raises:
        ValueError: as `check_video`, or the two shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    return check_video(prediction, "prediction"), check_video(target, "target")


def to_unit(video: Tensor) -> Tensor:
    """[-1, 1] → [0, 1]."""
    return (video + 1) / 2


def from_bytes(frames: Tensor) -> Tensor:
    """Decoded frames uint8 [T, H, W, 3] → float [1, 3, T, H, W] in [-1, 1]."""
    return (frames.permute(3, 0, 1, 2).float() / 127.5 - 1).unsqueeze(0)


def frames_of(video: Tensor) -> Tensor:
    """[B, 3, T, H, W] → [B·T, 3, H, W], frames of one video in a row."""
    return video.transpose(1, 2).flatten(0, 1)


def _tf1_weights(size_in: int, size_out: int, device: torch.device) -> Tensor:
    """Matrix [out, in] of TensorFlow 1's bilinear resize: source = target · in / out, no half-pixel centres."""
    source = torch.arange(size_out, device=device, dtype=torch.float32) * (size_in / size_out)
    low = source.floor().long().clamp(max=size_in - 1)
    high = (low + 1).clamp(max=size_in - 1)
    share = source - low
    weights = torch.zeros(size_out, size_in, device=device)
    rows = torch.arange(size_out, device=device)
    weights.index_put_((rows, low), 1 - share, accumulate=True)
    return weights.index_put_((rows, high), share, accumulate=True)


def _bilinear(frames: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    if tuple(frames.shape[-2:]) == size:
        return frames
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=antialias)


def resize_frames(frames: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """Resize float frames [N, 3, H, W] to `size` (h, w); published FVD codes differ here, so the way is always named.

    - `direct`: bilinear to h x w, no antialias (TATS, SEED-Voken, OmniTokenizer);
    - `short_side_crop`: scale until both sides cover `size`, then centre crop (VideoGPT), `…_antialias` (LARP, cd-FVD);
    - `tf1`: direct, with TensorFlow 1's corner-aligned sampling points (the original FVD, MAGVIT).

    Raises:
        ValueError: unknown `how`.
    """
    if how not in RESIZES:
        raise ValueError(f"unknown resize {how!r}; choose one of {', '.join(RESIZES)}")
    height, width = frames.shape[-2:]
    if how == "direct":
        return _bilinear(frames, size, antialias=False)
    if how == "tf1":
        rows = _tf1_weights(height, size[0], frames.device)
        columns = _tf1_weights(width, size[1], frames.device)
        return rows @ frames @ columns.T
    scale = max(size[0] / height, size[1] / width)
    covering = (max(math.ceil(height * scale - 1e-6), size[0]), max(math.ceil(width * scale - 1e-6), size[1]))
    frames = _bilinear(frames, covering, antialias=how.endswith("antialias"))
    top, left = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
    return frames[..., top : top + size[0], left : left + size[1]]


def resize_video(video: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """`resize_frames` for a video [B, 3, T, H, W]; clamps, because antialiased weights may overshoot by rounding."""
    frames = resize_frames(frames_of(video), size, how)
    return frames.unflatten(0, (video.shape[0], video.shape[2])).transpose(1, 2).clamp(-1, 1)
