"""Every twin of `videoar.kernels` beside torch's own function, at shapes of training and sampling.

    python -m pytest benchmarks/bench_kernels.py --benchmark-only

`twin` and `torch` are the same call with the twin on and off. They matter on a CPU; elsewhere both are torch's.
"""

import contextlib

import pytest
import torch
from torch import nn

from videoar import ScalePyramid, kernels
from videoar.generator.visibility import SequenceIds, dense_mask
from videoar.kernels.attention import attention
from videoar.kernels.group_norm import group_norm
from videoar.kernels.linear import packed
from videoar.tokenizer.layers import CHANNELS_LAST, conv3d

WAYS = pytest.mark.parametrize("way", ["twin", "torch"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def switch(way, name):
    return contextlib.nullcontext() if way == "twin" else kernels.without(name)


@WAYS
@DTYPES
@pytest.mark.parametrize(("shape", "groups"), [((16, 32, 32, 32), 32), ((20, 96, 32, 32), 16), ((20, 128, 64, 64), 32)])
def test_group_norm_forward_and_backward(benchmark, shape, groups, dtype, way):
    """[frames, channels, height, width] in channels-last memory."""
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = (torch.ones(shape[1], dtype=dtype, requires_grad=True) for _ in range(2))
    upstream = torch.randn_like(x)

    def run():
        with switch(way, "group_norm"):
            torch.autograd.grad(group_norm(x, groups, weight, bias, 1e-6), (x, weight, bias), upstream)

    benchmark.pedantic(run, rounds=10, warmup_rounds=2)


@WAYS
@DTYPES
@pytest.mark.parametrize("heads", [4, 12])
def test_attention_forward_and_backward(benchmark, heads, dtype, way):
    """Training on four clips of five 8x8 latent frames (130 tokens each) behind one condition token."""
    pyramid, ends = ScalePyramid.default(8, 8), [1 + 130 * (t + 1) for t in range(5)]
    ids = SequenceIds.build(pyramid, 5, 1)
    mask = dense_mask(ids, ids)
    qkv = torch.randn(4, ends[-1], 3, heads, 64, dtype=dtype, requires_grad=True)
    upstream = torch.randn(4, heads, ends[-1], 64, dtype=dtype)

    def run():
        with switch(way, "attention"):
            torch.autograd.grad(attention(*qkv.permute(2, 0, 3, 1, 4), mask, ends), qkv, upstream)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@WAYS
@DTYPES
@pytest.mark.parametrize("rows", [2, 8, 18, 32, 72, 128])
@torch.no_grad()
def test_linear(benchmark, rows, dtype, way):
    """The rows of a guided step of one clip, six layers 1536 → 12288 whose weights do not fit into the cache."""
    layers = nn.Sequential(*(nn.Linear(1536, 12288, bias=False, dtype=dtype) for _ in range(6)))
    x = torch.randn(rows, 1536, dtype=dtype)
    with switch(way, "linear"):
        apply = packed(layers)

    def run():
        for layer in layers:
            apply(layer, x)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    gflop = 6 * 2 * rows * 1536 * 12288 / 1e9
    benchmark.extra_info["gflop_per_s"] = round(gflop / benchmark.stats.stats.median, 1)


@WAYS
@pytest.mark.parametrize(("channels", "side"), [(512, 8), (512, 16), (256, 16)])
@torch.no_grad()
def test_conv3d(benchmark, channels, side, way):
    """One latent frame's 3x3x3 convolution, float32, on three frames of input."""
    x, kernel = (
        torch.randn(*shape, 3, *rest).contiguous(memory_format=CHANNELS_LAST)
        for shape, rest in (((1, channels), (side, side)), ((channels, channels), (3, 3)))
    )

    def run():
        with switch(way, "conv3d"):
            conv3d(x, kernel, None, (1, 1, 1), (0, 1, 1))

    benchmark.pedantic(run, rounds=10, warmup_rounds=2)
    gflop = 2 * kernel.numel() * side * side / 1e9
    benchmark.extra_info["gflop_per_s"] = round(gflop / benchmark.stats.stats.median, 1)
