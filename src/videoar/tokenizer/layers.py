"""Layers of the tokenizer: causal convolution, per-frame norm, down- and upsampling, and the state that streams.

Every layer sees a clip [B, C, T, H, W] and looks only at the past. A long clip may come in pieces: the few frames a
layer still needs of the piece before lie in a `Stream`, which the caller owns, so that the modules hold no state.
Without a stream the input is a whole clip. Before the first frame lie zeros in every layer.

So a single frame meets the last temporal tap of each kernel only, and images train just that tap. The earlier taps
start at zero: a fresh tokenizer, or one that has learned from images, treats every frame of a video by itself, and
learns from there how frames belong together. It is the inflation of a 2D model (paper §4.1), from the first step on.
"""

# B batch · C channels · T frames · H W grid

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.backends import mkldnn

from videoar.kernels import enabled
from videoar.kernels.group_norm import group_norm

Triple = tuple[int, int, int]
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
        self._tails[layer] = frames.clone(memory_format=CHANNELS_LAST)

    def tails(self) -> dict[nn.Module, Tensor]:
        """All that was kept, by layer, in the order in which the layers ran."""
        return dict(self._tails)


def with_past(layer: nn.Module, x: Tensor, weight: Tensor, keep: int, stream: Stream | None) -> tuple[Tensor, Tensor]:
    """x with the frames in front that a causal kernel [O, I, t, h, w] needs before it; and the kernel.

    Before the start of a video lie zeros; a single first frame meets the last tap only, at a third of the cost. The
    last `keep` frames stay in the stream.
    """
    past = weight.shape[2] - 1
    if past == 0:
        return x, weight
    tail = stream.tail(layer) if stream is not None else None
    # zeros by F.pad: joined to an expanded zero, x would lose its channels-last memory and be copied back
    padded = F.pad(x, (0, 0, 0, 0, past, 0)) if tail is None else torch.cat([tail, x], dim=2)
    if stream is not None:
        stream.keep(layer, padded[:, :, -keep:])
    if tail is None and x.shape[2] == 1:
        return x, weight[:, :, -1:]
    return padded, weight


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """`F.conv3d`; in float32 on a CPU with what torch's own choice misses there (docs/performance.md).

    Without gradients one small clip goes to oneDNN directly, up to 10x faster; training on clips takes
    `PlainWeightGradient`. Single frames train on a CPU as images: faster, and oneDNN's bfloat16 weight gradient of a
    3D convolution on them writes beyond its memory on CPUs with AMX ("double free or corruption").
    """
    if x.device.type == "cpu" and x.shape[2] == weight.shape[2] == 1 and torch.is_grad_enabled():
        return F.conv2d(x.squeeze(2), weight.squeeze(2), bias, stride[1:], padding[1:]).unsqueeze(2)
    x, weight = x.contiguous(memory_format=CHANNELS_LAST), weight.contiguous(memory_format=CHANNELS_LAST)
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not plain or torch.compiler.is_compiling() or not mkldnn.is_available() or not enabled("conv3d"):
        return F.conv3d(x, weight, bias, stride, padding)
    if torch.is_grad_enabled() and weight.shape[1] >= 16 and weight.shape[2] > 1:
        return PlainWeightGradient.apply(x, weight, bias, stride, padding)
    if not torch.is_grad_enabled() and x.shape[0] == 1 and x.shape[1] * x.shape[2] * x.shape[3] <= 20480:
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1, 1), 1)
    return F.conv3d(x, weight, bias, stride, padding)


class PlainWeightGradient(torch.autograd.Function):
    """`F.conv3d` with its weight gradient in plain memory: oneDNN's for clips in channels-last memory is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding, (1, 1, 1), False, (0, 0, 0), 1)
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        return F.conv3d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        backward, (need_x, need_weight, need_bias) = torch.ops.aten.convolution_backward, ctx.needs_input_grad[:3]
        of_x = of_weight = of_bias = None
        if need_x:
            of_x = backward(grad, x, weight, None, *ctx.geometry, [True, False, False])[0]
        if need_weight or need_bias:
            plain = (grad.contiguous(), x.contiguous(), weight.contiguous())
            mask = [False, need_weight, need_bias]
            of_weight, of_bias = backward(*plain, ctx.bias_sizes, *ctx.geometry, mask)[1:]
        return of_x, of_weight, of_bias, None, None


class Inflated(nn.Conv3d):
    """A convolution over time that starts as one of single frames: the last tap random, the earlier ones zero."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            self.weight[:, :, :-1].zero_()
            nn.init.kaiming_uniform_(self.weight[:, :, -1], a=math.sqrt(5))  # what torch gives a 2D convolution


class CausalConv3d(Inflated):
    """3x3 convolution in space (zero padding, same size) and a causal one over `temporal_kernel` frames."""

    def __init__(self, in_channels: int, out_channels: int, temporal_kernel: int) -> None:
        super().__init__(in_channels, out_channels, (temporal_kernel, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        x, weight = with_past(self, x, self.weight, self.kernel_size[0] - 1, stream)
        return conv3d(x, weight, self.bias, stride=(1, 1, 1), padding=(0, 1, 1))


class Pointwise(nn.Conv3d):
    """1x1x1 convolution: a linear map of every pixel, run as one matrix product."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class FrameNorm(nn.GroupNorm):
    """GroupNorm of every frame by itself: statistics over time would leak the future.

    It keeps the dtype of its input (its sums are float32 in any case): autocast would widen activations to float32.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(norm_groups(channels, groups), channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # a view in channels-last memory
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):
            y = group_norm(frames, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def swish(x: Tensor) -> Tensor:
    """x·σ(x); overwrites x where no gradient is wanted, so x must be nobody else's."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def norm_groups(channels: int, groups: int) -> int:
    """Groups for a width: `groups` where it divides, else 24 (Infinity's rule), else the largest divisor below."""
    return next(n for n in (groups, min(24, groups), *range(groups, 0, -1)) if channels % n == 0)


class Downsample(Inflated):
    """Halves height and width, and time as 1 + 2n → 1 + n frames where `time` is set.

    Space is padded at the right and bottom only; output frame j sees input frames 2j-2 … 2j.
    """

    def __init__(self, channels: int, temporal_kernel: int, time: bool) -> None:
        super().__init__(channels, channels, (temporal_kernel, 3, 3), stride=(2 if time else 1, 2, 2))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        time = self.stride[0]
        x, weight = with_past(self, x, self.weight, self.kernel_size[0] - time, stream)
        time = min(time, x.shape[2])
        return conv3d(F.pad(x, (0, 1, 0, 1)), weight, self.bias, stride=(time, 2, 2), padding=(0, 0, 0))


class Upsample(Inflated):
    """Doubles height and width, and time as 1 + n → 1 + 2n frames where `time` is set, then convolves causally.

    In space this is nearest upsampling and a `CausalConv3d`, for 2.25 times fewer operations: along a doubled axis
    three taps meet two cells only, and a window on two neighbours gives the two pixels between them.

        cells      [     j-1     ][      j      ]
        pixels     [  .   ][  y   z  ][    .    ]       y = (w0 + w1)·cell[j-1] + w2·cell[j]
                                                        z = w0·cell[j-1] + (w1 + w2)·cell[j]

    In time y and z are kernels of two taps of their own: tied like this, the frames of one cell would differ only where
    neighbouring cells do, and training settles for a video that never moves. The parameters are [y − z | z] along
    the output channels, so that y follows z while z alone learns, from images, which are single frames.
    """

    def __init__(self, channels: int, temporal_kernel: int, time: bool) -> None:
        super().__init__(channels, channels, (temporal_kernel, 3, 3), padding=(0, 1, 1))
        self.time = time
        if time:
            assert self.bias is not None
            z = self.weight.detach()[:, :, -2:]
            self.weight = nn.Parameter(torch.cat([torch.zeros_like(z), z]))
            self.bias = nn.Parameter(torch.cat([torch.zeros_like(self.bias), self.bias.detach()]))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        assert self.bias is not None
        start = stream is None or stream.tail(self) is None
        kernels = [(self.weight, self.bias)]
        if self.time:
            (more, weight), (more_bias, bias) = self.weight.chunk(2), self.bias.chunk(2)
            kernels = [(weight, bias)]  # z; the first cell has one frame only
            if not start or x.shape[2] > 1:
                kernels = [(weight + more, bias + more_bias), (weight, bias)]
        x, seen = with_past(self, x, kernels[0][0], 1 if self.time else 2, stream)
        frames = []
        for weight, bias in kernels:  # one by one: a deep level's folded kernel is larger than its activations
            folded = _fold(_fold(weight[:, :, -seen.shape[2] :], 4), 3)
            frames.append(conv3d(x, folded, bias.repeat(4), stride=(1, 1, 1), padding=(0, 1, 1)))
        y = rearrange(frames, "p b (q r c) t h w -> b (t p) (h q) (w r) c", q=2, r=2)
        y = F.pad(y, (0, 0, -1, -1, -1, -1, -1 if len(kernels) == 2 and start else 0, 0))  # crop what lies outside
        return y.movedim(-1, 1)


def _fold(weight: Tensor, dim: int) -> Tensor:
    """Kernel of three taps along `dim` → kernels [2·O, …] of two taps for the two pixels between two cells."""
    a, b, c = weight.split(1, dim)
    return torch.cat([torch.cat([a + b, c], dim), torch.cat([a, b + c], dim)])
