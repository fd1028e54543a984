"""VideoMAE features through `transformers`: mean of the last layer's tokens, for a motion-aware Fréchet distance.

Not the network of cd-FVD (VideoMAE-v2 ViT-g, fine-tuned on SSv2), whose numbers it therefore does not match; the
card names the model that was loaded.
"""

# B batch · T frames · H W pixels

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.metrics.features.base import FeatureNet, weights_sha256
from videoar.metrics.preprocess import to_unit

DEFAULT = "MCG-NJU/videomae-base"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _forward(module: Any, video: Tensor) -> Tensor:
    want = module.config.num_frames
    index = torch.linspace(0, video.shape[2] - 1, want, device=video.device).round().long()
    pixels = to_unit(video[:, :, index]).transpose(1, 2)
    mean, std = (pixels.new_tensor(v).view(1, 1, 3, 1, 1) for v in (MEAN, STD))
    return module(pixel_values=(pixels - mean) / std).last_hidden_state.mean(1)


def load_videomae(source: str = DEFAULT, download: bool = False, resize: str = "direct") -> FeatureNet:
    """VideoMAE from a local folder, the hub's local cache, or, only with `download=True`, the hub.

    A clip of another length than the model's 16 frames is sampled evenly (nearest frame).

    Raises:
        UserError: transformers is not installed, or the model is not on this machine and `download` is off.
    """
    try:
        from transformers import VideoMAEModel
    except ImportError as error:
        raise UserError("VideoMAE features need transformers: pip install 'videoar[metrics]'") from error
    try:
        module = VideoMAEModel.from_pretrained(source, local_files_only=not download)
    except (OSError, ValueError) as error:
        raise UserError(f"VideoMAE {source!r} is not on this machine: {str(error).splitlines()[0]}") from error
    side: Any = module.config.image_size
    size = (side, side) if isinstance(side, int) else (side[0], side[1])
    details = {
        "source": source if not Path(source).exists() else Path(source).name,
        "layer": "mean of the last hidden state",
        "frames_used": module.config.num_frames,
    }
    width = module.config.hidden_size
    return FeatureNet("videomae", module, _forward, width, size, resize, 2, weights_sha256(module), details)
