"""Counting latent frames, and the given pixels that a clip starts with."""

# B samples · T pixel frames · n latent frames

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.tokenizer.model import VideoTokenizer

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)
Pixels: TypeAlias = "Tensor | np.ndarray | Image | Sequence[Image]"
"""An image or a clip as users have it; `as_clips` says which forms."""


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


def as_clips(given: Pixels) -> Tensor:
    """Pixels as users have them → float clips [B, 3, T, H, W] in [-1, 1], B = 1 where they are for all samples.

    Args:
        given: a PIL image, a list of them (frames), uint8 [H, W, 3], [T, H, W, 3] or [B, T, H, W, 3] (files' form; also
            with the channels first), or float [3, H, W], [3, T, H, W] or [B, 3, T, H, W] in [-1, 1] (the model's form).

    Raises:
        UserError: another form or number type, values outside [-1, 1], or ones that are not finite.
    """
    pixels = _tensor(given)
    forms = {3: lambda p: p[None, :, None], 4: lambda p: p[None], 5: lambda p: p}
    channels_last = pixels.dtype == torch.uint8 and pixels.ndim in forms and pixels.shape[-1] == 3
    if channels_last:
        pixels = pixels.movedim(-1, 1 if pixels.ndim == 5 else 0)
    clips = forms[pixels.ndim](pixels) if pixels.ndim in forms else pixels
    if clips.ndim != 5 or clips.shape[1] != 3 or not clips.numel():
        shape = f"got {str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}"
        raise UserError(f"an image or clip is [3, H, W], [3, T, H, W] or [B, 3, T, H, W], {shape}")
    if clips.dtype == torch.uint8:
        return clips.float() / 127.5 - 1
    if not clips.is_floating_point():
        raise UserError(f"pixels are uint8 from 0 to 255 or floats in [-1, 1], got {clips.dtype}")
    low, high = (bound.item() for bound in clips.detach().float().aminmax())
    if not (low >= -1.01 and high <= 1.01):
        raise UserError(f"float pixels lie in [-1, 1], got values from {low:.3g} to {high:.3g}; bytes come as uint8")
    if low >= 0:
        log.warning("float pixels from %.3g to %.3g: [-1, 1] is expected, is this [0, 1]?", low, high)
    return clips


def _tensor(given: Pixels) -> Tensor:
    if isinstance(given, Tensor):
        return given
    if isinstance(given, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(given))
    images: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if not images or not all(hasattr(image, "convert") and image.size == images[0].size for image in images):
        raise UserError("an image or clip is a tensor, an array, a PIL image or a list of PIL images of one size")
    frames = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
    return frames if len(images) > 1 else frames[0]


def encode_prefix(tokenizer: VideoTokenizer, prefix: Pixels, batch: int, size: tuple[int, int], frames: int) -> Tensor:
    """Given pixels → latent [B, D, n, H, W] that a clip of `frames` frames starts with.

    Args:
        prefix: an image or clip for all samples, or one clip a sample, in a form of `as_clips`.

    Raises:
        UserError: wrong form, values, size, frame count or batch, or a prefix that fills the whole clip.
    """
    clip = as_clips(prefix)
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
