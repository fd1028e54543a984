"""ResBlock, and Level: the blocks of one resolution with the resampling that leads out of it."""

# B batch · C channels · T frames · H W grid

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videoar.tokenizer.config import TokenizerConfig
from videoar.tokenizer.layers import CausalConv3d, Downsample, FrameNorm, Pointwise, Stream, Upsample, swish


class ResBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1x1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, config: TokenizerConfig) -> None:
        super().__init__()
        self.norm1 = FrameNorm(in_channels, config.norm_groups)
        self.conv1 = CausalConv3d(in_channels, out_channels, config.temporal_kernel)
        self.norm2 = FrameNorm(out_channels, config.norm_groups)
        self.conv2 = CausalConv3d(out_channels, out_channels, config.temporal_kernel)
        self.shortcut = Pointwise(in_channels, out_channels) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        h = self.conv1(swish(self.norm1(x)), stream)
        h = self.conv2(swish(self.norm2(h)), stream)
        return self.shortcut(x) + h


class Level(nn.Module):
    """Residual blocks of one resolution, then a change of resolution (None at the last level).

    Attributes:
        checkpointing: recompute the blocks' activations in the backward pass instead of storing them.
    """

    def __init__(self, widths: list[int], resample: Downsample | Upsample | None, config: TokenizerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(a, b, config) for a, b in pairwise(widths))
        self.resample = resample
        self.checkpointing = False

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        for block in self.blocks:
            if self.checkpointing and self.training and stream is None:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x, stream)
        return x if self.resample is None else self.resample(x, stream)
