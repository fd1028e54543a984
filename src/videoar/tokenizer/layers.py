"""Layers of the tokenizer: causal convolution, per-frame norm, down- and upsampling, and the state that streams.

Every layer sees a clip [B, C, T, H, W] and looks only at the past. A long clip may come in pieces: the few frames a
layer still needs of the piece before lie in a `Stream`, which the caller owns, so that the modules hold no state.
Without a stream the input is a whole clip. In both cases the first frame stands in for everything before it.
"""

# B batch · C channels · T frames · H W grid

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS_LAST = torch.channels_last_3d


class Stream:
    """The last input frames of every causal layer of ONE video that comes in pieces."""

    def __init__(self) -> None:
        self._tails: dict[nn.Module, Tensor] = {}

    def tail(self, layer: nn.Module) -> Tensor | None:
        """What `layer` kept of the piece before, or None at the start of the video."""
        return self._tails.get(layer)

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Remember a copy of `frames` for the next piece (a view would keep the whole piece alive)."""
        self._tails[layer] = frames.clone()


def with_past(layer: nn.Module, x: Tensor, past: int, keep: int, stream: Stream | None) -> Tensor:
    """x with the `past` frames before it in front; keeps the last `keep` frames in the stream.

    At the start of a video its first frame is repeated.
    """
    tail = stream.tail(layer) if stream is not None else None
    front = [x[:, :, :1]] * past if tail is None else [tail]
    x = torch.cat([*front, x], dim=2) if past else x
    if stream is not None and keep:
        stream.keep(layer, x[:, :, -keep:])
    return x


class CausalConv3d(nn.Conv3d):
    """3x3 convolution in space (zero padding, same size) and a causal one over `temporal_kernel` frames."""

    def __init__(self, in_channels: int, out_channels: int, temporal_kernel: int = 3) -> None:
        super().__init__(in_channels, out_channels, (temporal_kernel, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        past = self.kernel_size[0] - 1
        if past and x.shape[2] == 1 and stream is None:
            return F.conv3d(x, self.weight.sum(2, keepdim=True), self.bias, padding=self.padding)
        return super().forward(with_past(self, x, past, past, stream))


class FrameNorm(nn.GroupNorm):
    """GroupNorm of every frame by itself: statistics over time would leak the future."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(norm_groups(channels, groups), channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)
        return super().forward(frames).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def norm_groups(channels: int, groups: int) -> int:
    """Groups for a width: `groups` where it divides, else 24 (Infinity's rule), else the largest divisor below."""
    return next(n for n in (groups, min(24, groups), *range(groups, 0, -1)) if channels % n == 0)


class Downsample(nn.Conv3d):
    """Halves height and width, and time as 1 + 2n → 1 + n frames where `time` is set.

    Space is padded at the right and bottom only; output frame j sees input frames 2j-2 … 2j.
    """

    def __init__(self, channels: int, temporal_kernel: int, time: bool) -> None:
        super().__init__(channels, channels, (temporal_kernel, 3, 3), stride=(2 if time else 1, 2, 2))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        past = self.kernel_size[0] - 1
        x = with_past(self, x, past, past + 1 - self.stride[0], stream)
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width (nearest), and time as 1 + n → 1 + 2n frames where `time` is set; then convolves."""

    def __init__(self, channels: int, temporal_kernel: int, time: bool) -> None:
        super().__init__()
        self.time = time
        self.conv = CausalConv3d(channels, channels, temporal_kernel)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        first = stream is None or stream.tail(self.conv) is None
        x = F.interpolate(x, scale_factor=(2 if self.time else 1, 2, 2), mode="nearest")
        return self.conv(x[:, :, 1:] if self.time and first else x, stream)
