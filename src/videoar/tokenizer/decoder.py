"""Decoder: latent → pixels, the encoder's mirror with one more block a level."""

# B batch · T pixel frames · T' latent frames · H W pixels · h w latent grid · D bits

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from videoar.tokenizer.blocks import Level
from videoar.tokenizer.config import TokenizerConfig
from videoar.tokenizer.layers import CHANNELS_LAST, CausalConv3d, FrameNorm, Stream, Upsample, swish


class Decoder(nn.Module):
    """[B, D, T', h, w] → [B, 3, T, H, W], not clamped; causal in time (paper §4.1)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths, kernel = config.widths[::-1], config.temporal_kernel
        doubles_time = config.halves_time[::-1]
        self.conv_in = CausalConv3d(config.latent_dim, widths[0], kernel)
        self.mid = Level([widths[0]] * 3, None, config)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            up = None if last else Upsample(width, kernel, doubles_time[level])
            before = widths[max(level - 1, 0)]
            self.levels.append(Level([before] + [width] * (config.res_blocks + 1), up, config))
        self.norm_out = FrameNorm(widths[-1], config.norm_groups)
        self.conv_out = CausalConv3d(widths[-1], 3 * config.patch**2, kernel)

    def forward(self, latent: Tensor, stream: Stream | None = None) -> Tensor:
        x = self.conv_in(latent.contiguous(memory_format=CHANNELS_LAST), stream)
        x = self.mid(x, stream)
        for level in self.levels:
            x = level(x, stream)
        x = self.conv_out(swish(self.norm_out(x)), stream)
        p = self.patch
        return rearrange(x, "b (c p q) t h w -> b c t (h p) (w q)", p=p, q=p) if p > 1 else x
