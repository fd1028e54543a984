"""VideoDiscriminator: a 3D PatchGAN that judges overlapping patches of space and time (paper §4.1)."""

# B batch · C channels · T frames · H W pixels · t h w grid of patches

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from videoar.ranges import WIDTH, Range, check_ranges
from videoar.tokenizer.layers import CHANNELS_LAST, FrameNorm


@dataclass
class DiscriminatorConfig:
    """Shape of the discriminator."""

    channels: int = 64
    """Width of the first layer; each further layer doubles it, up to eight times."""
    layers: int = 3
    """Layers that halve height and width; a patch logit sees 70x70 pixels with three of them."""
    temporal_layers: int = 2
    """How many of these, counted from the last, also halve time."""
    norm: bool = True
    """GroupNorm of each frame between layers (never BatchNorm: images and videos share one discriminator)."""
    spectral_norm: bool = False
    """Spectral normalisation of every kernel."""

    def __post_init__(self) -> None:
        check_ranges(self, channels=WIDTH, layers=Range(1, 16))
        if not 0 <= self.temporal_layers <= self.layers:
            raise ValueError(f"temporal_layers {self.temporal_layers} must lie in 0 … {self.layers}")

    @property
    def min_size(self) -> int:
        """Smallest height and width that leave a patch to judge."""
        return 4 * 2 ** (self.layers - 1)


class VideoDiscriminator(nn.Module):
    """Video [B, 3, T, H, W], any T from 1 → one logit a patch, [B, 1, t, h, w]; positive means real."""

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        widths = [config.channels * min(2**layer, 8) for layer in range(config.layers + 1)]
        self.conv_in = self._conv(3, widths[0], 2, temporal_stride=self._temporal_stride(0))
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for layer, (before, width) in enumerate(pairwise(widths), start=1):
            last = layer == config.layers
            self.convs.append(self._conv(before, width, 1 if last else 2, self._temporal_stride(layer)))
            self.norms.append(FrameNorm(width, 32) if config.norm else nn.Identity())
        self.conv_out = self._conv(widths[-1], 1, 1, temporal_stride=1)
        self.to(memory_format=CHANNELS_LAST)

    def _temporal_stride(self, layer: int) -> int:
        return 2 if self.config.layers - self.config.temporal_layers <= layer < self.config.layers else 1

    def _conv(self, in_channels: int, out_channels: int, stride: int, temporal_stride: int) -> nn.Module:
        conv = nn.Conv3d(in_channels, out_channels, (3, 4, 4), (temporal_stride, stride, stride), padding=(0, 1, 1))
        return spectral_norm(conv) if self.config.spectral_norm else conv

    def forward(self, video: Tensor) -> Tensor:
        if min(video.shape[-2:]) < self.config.min_size:
            height, width = video.shape[-2:]
            raise ValueError(f"the discriminator needs frames of {self.config.min_size} pixels, got {height}x{width}")
        x = F.leaky_relu(self.conv_in(_pad_time(video.contiguous(memory_format=CHANNELS_LAST))), 0.2)
        for conv, norm in zip(self.convs, self.norms):
            x = F.leaky_relu(norm(conv(_pad_time(x))), 0.2)
        return self.conv_out(_pad_time(x))


def _pad_time(x: Tensor) -> Tensor:
    """A frame of zeros before and after.

    Not the convolution's own padding: with it, a CPU's bfloat16 weight gradient of two frames under a kernel of three
    is garbage (torch 2.15).
    """
    return F.pad(x, (0, 0, 0, 0, 1, 1))
