"""Encoder: pixels → latent."""

# B batch · T pixel frames · T' latent frames · H W pixels · h w latent grid · D bits

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from videoar.tokenizer.blocks import Level
from videoar.tokenizer.config import TokenizerConfig
from videoar.tokenizer.layers import CHANNELS_LAST, CausalConv3d, Downsample, FrameNorm, Stream, swish


class Encoder(nn.Module):
    """[B, 3, T, H, W] → [B, D, T', h, w], causal in time (paper §4.1)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths, kernel = config.widths, config.temporal_kernel
        self.conv_in = CausalConv3d(3 * config.patch**2, widths[0], kernel)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            down = None if last else Downsample(width, kernel, config.halves_time[level])
            before = widths[max(level - 1, 0)]
            self.levels.append(Level([before] + [width] * config.res_blocks, down, config))
        self.mid = Level([widths[-1]] * 3, None, config)
        self.norm_out = FrameNorm(widths[-1], config.norm_groups)
        self.conv_out = CausalConv3d(widths[-1], config.latent_dim, kernel)

    def forward(self, video: Tensor, stream: Stream | None = None) -> Tensor:
        p = self.patch
        x = rearrange(video, "b c t (h p) (w q) -> b (c p q) t h w", p=p, q=p) if p > 1 else video
        x = self.conv_in(x.contiguous(memory_format=CHANNELS_LAST), stream)
        for level in self.levels:
            x = level(x, stream)
        x = self.mid(x, stream)
        return self.conv_out(swish(self.norm_out(x)), stream)
