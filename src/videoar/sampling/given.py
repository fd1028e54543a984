"""Counting latent frames, and the given pixels that a clip starts with."""

# B samples · T pixel frames · n latent frames

from __future__ import annotations

from torch import Tensor

from videoar.errors import UserError
from videoar.tokenizer.model import VideoTokenizer


def latent_frames(tokenizer: VideoTokenizer, frames: int) -> int:
    """Latent frames of a clip of `frames` pixel frames.

    Raises:
        UserError: the frame count is not 1 + n·(temporal ratio).
    """
    ratio = tokenizer.config.temporal_ratio
    if frames < 1 or (frames - 1) % ratio:
        near = max(0, frames - 1) // ratio
        raise UserError(f"{frames} frames are not 1 + {ratio}·n; use {1 + near * ratio} or {1 + (near + 1) * ratio}")
    return 1 + (frames - 1) // ratio


def encode_prefix(tokenizer: VideoTokenizer, prefix: Tensor, batch: int, size: tuple[int, int], frames: int) -> Tensor:
    """Given pixels → latent [B, D, n, H, W] that a clip of `frames` frames starts with.

    Args:
        prefix: an image [3, H, W] or clip [3, T, H, W] for all samples, or clips [B, 3, T, H, W], in [-1, 1].

    Raises:
        UserError: wrong size, frame count or batch, or a prefix that fills the whole clip.
    """
    shapes = {3: lambda p: p[None, :, None], 4: lambda p: p[None], 5: lambda p: p}
    if prefix.ndim not in shapes:
        raise UserError(f"a prefix is [3, H, W], [3, T, H, W] or [B, 3, T, H, W], got shape {tuple(prefix.shape)}")
    clip = shapes[prefix.ndim](prefix)
    clip = clip.expand(batch, -1, -1, -1, -1) if clip.shape[0] == 1 else clip
    if clip.shape[0] != batch:
        raise UserError(f"a prefix of {clip.shape[0]} clips for {batch} samples")
    if tuple(clip.shape[-2:]) != tuple(size):
        raise UserError(f"a prefix of {clip.shape[-2]}x{clip.shape[-1]} pixels for a clip of {size[0]}x{size[1]}")
    if clip.shape[2] >= frames:
        raise UserError(f"a prefix of {clip.shape[2]} frames leaves nothing to sample in a clip of {frames}")
    latent_frames(tokenizer, clip.shape[2])
    weight = next(tokenizer.parameters())
    return tokenizer.encode(clip.to(weight.device, weight.dtype)).float()
