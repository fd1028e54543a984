"""Every layer against the plain operation that its docstring promises."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from videoar.tokenizer.layers import (
    CHANNELS_LAST,
    CausalConv3d,
    Downsample,
    FrameNorm,
    Stream,
    Upsample,
    conv3d,
    norm_groups,
)


def zeros_before(x, frames):
    return F.pad(x, (0, 0, 0, 0, frames, 0))


def trained(layer):
    """A fresh layer's earlier taps are zero: give them something to do."""
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight) * 0.2)
        layer.bias.add_(torch.randn_like(layer.bias) * 0.2)
    return layer


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_causal_conv_pads_the_front_with_zeros(kernel, frames):
    layer, x = trained(CausalConv3d(4, 6, kernel)), torch.randn(2, 4, frames, 5, 7)
    plain = F.conv3d(zeros_before(x, kernel - 1), layer.weight, layer.bias, padding=(0, 1, 1))
    assert_close(layer(x), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_downsample_pads_right_and_bottom(time, frames):
    layer, x = trained(Downsample(4, 3, time)), torch.randn(2, 4, frames, 6, 8)
    padded = F.pad(zeros_before(x, 2), (0, 1, 0, 1))
    plain = F.conv3d(padded, layer.weight, layer.bias, stride=(2 if time else 1, 2, 2))
    assert layer(x).shape == (2, 4, (frames + 1) // 2 if time else frames, 3, 4)
    assert_close(layer(x), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_folded_upsample_is_nearest_upsampling_then_convolution(kernel, frames):
    layer, x = trained(Upsample(4, kernel, time=False)), torch.randn(2, 4, frames, 3, 5)
    large = zeros_before(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"), kernel - 1)
    plain = F.conv3d(large, layer.weight, layer.bias, padding=(0, 1, 1))
    assert layer(x).shape == (2, 4, frames, 6, 10)
    assert_close(layer(x), plain, atol=1e-5, rtol=0)
    plain_gradient = torch.autograd.grad(plain.square().sum(), layer.weight)[0]
    gradient = torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]
    assert_close(gradient, plain_gradient, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_upsampling_in_time_makes_two_frames_of_a_cell_and_the_one_before(frames):
    layer, x = trained(Upsample(4, 3, time=True)), torch.randn(2, 4, frames, 3, 5)
    large = zeros_before(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"), 1)
    (more, late), (more_bias, late_bias) = layer.weight.chunk(2), layer.bias.chunk(2)
    y = F.conv3d(large, late + more, late_bias + more_bias, padding=(0, 1, 1))
    z = F.conv3d(large, late, late_bias, padding=(0, 1, 1))
    plain = torch.stack([y, z], dim=3).flatten(2, 3)[:, :, 1:]  # the first cell has one frame
    assert layer(x).shape == (2, 4, 2 * frames - 1, 6, 10)
    assert_close(layer(x), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", [lambda: CausalConv3d(4, 4, 3), lambda: Upsample(4, 3, True)])
def test_a_layer_that_saw_only_images_treats_every_frame_by_itself(build):
    layer, image = build(), torch.randn(1, 4, 1, 3, 5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (layer(image) - 1).square().mean().backward()
        optimizer.step()
    video = torch.randn(1, 4, 3, 3, 5)
    alone = torch.cat([layer(frame) for frame in video.split(1, dim=2)], dim=2)
    held = alone[:, :, [0, 1, 1, 2, 2]] if isinstance(layer, Upsample) else alone
    assert_close(layer(video), held, atol=1e-5, rtol=0)


def test_the_two_frames_of_a_cell_part_under_training():
    layer, x = Upsample(4, 3, True), torch.randn(1, 4, 4, 3, 5)
    y, z = layer(x)[:, :, 3], layer(x)[:, :, 4]
    assert_close(y, z, atol=1e-5, rtol=0)
    (y.sum() - z.sum()).backward()
    more, late = layer.weight.grad.chunk(2)  # z is `late`, y is `late + more`
    assert more.abs().max() > 0 and late.abs().max() < 1e-4


@pytest.mark.parametrize(
    "build", [lambda: CausalConv3d(4, 4, 3), lambda: Upsample(4, 3, True), lambda: Upsample(4, 3, False)]
)
def test_layers_stream(build):
    layer, x, stream = trained(build()), torch.randn(1, 4, 6, 4, 4), Stream()
    with torch.no_grad():
        pieces = torch.cat([layer(piece, stream) for piece in x.split([1, 3, 2], dim=2)], dim=2)
    assert_close(pieces, layer(x).detach(), atol=1e-5, rtol=0)


def test_a_stream_keeps_copies_not_views():
    layer, x, stream = CausalConv3d(4, 4, 3), torch.randn(1, 4, 50, 4, 4), Stream()
    layer(x, stream)
    assert stream.tail(layer).untyped_storage().nbytes() == 2 * 4 * 4 * 4 * 4


def test_norm_sees_one_frame_at_a_time():
    layer, x = FrameNorm(8, 4), torch.randn(2, 8, 3, 4, 4) * torch.arange(1, 4).view(1, 1, 3, 1, 1)
    groups = x.view(2, 4, 2, 3, 4, 4)
    mean, var = groups.mean((2, 4, 5), keepdim=True), groups.var((2, 4, 5), correction=0, keepdim=True)
    assert_close(layer(x), ((groups - mean) / (var + 1e-6).sqrt()).view_as(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("channels", "groups"), [(128, 32), (512, 32), (48, 24), (24, 24), (120, 24), (20, 20), (16, 16)]
)
def test_group_count_follows_infinity(channels, groups):
    assert norm_groups(channels, 32) == groups


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2)])
def test_small_clips_take_the_fast_path_unchanged(stride):
    x, weight, bias = torch.randn(1, 4, 3, 8, 8), torch.randn(6, 4, 3, 3, 3), torch.randn(6)
    plain = F.conv3d(x, weight, bias, stride, (0, 1, 1))
    with torch.no_grad():
        assert_close(conv3d(x, weight, bias, stride, (0, 1, 1)), plain, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 5])
def test_no_convolution_of_a_clip_has_to_copy_its_input(make_tokenizer, monkeypatch, frames):
    """Channels-last memory all the way: padding in time, resampling and norms keep it."""
    copied = []

    def watched(x, *arguments, **options):
        copied.append(not x.is_contiguous(memory_format=CHANNELS_LAST))
        return conv3d(x, *arguments, **options)

    monkeypatch.setattr("videoar.tokenizer.layers.conv3d", watched)
    tokenizer = make_tokenizer()
    tokenizer.decoder(tokenizer.encode(torch.rand(2, 3, frames, 16, 32)))
    assert len(copied) > 20 and not any(copied)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_in_plain_memory_are_those_of_the_convolution(bias):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 16, 5, 6, 8, requires_grad=True), torch.randn(8, 16, 3, 3, 3, requires_grad=True)
    shift = torch.randn(8, requires_grad=True) if bias else None
    inputs = [x, weight, shift] if bias else [x, weight]
    found = conv3d(x, weight, shift, (2, 1, 1), (0, 1, 1))
    expected = F.conv3d(x, weight, shift, (2, 1, 1), (0, 1, 1))
    assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert "PlainWeightGradient" in type(found.grad_fn).__name__
    direction = torch.randn_like(found)
    for a, b in zip(*(torch.autograd.grad(y, inputs, direction) for y in (found, expected))):
        assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_single_frames_train_as_images(monkeypatch):
    """Never through a 3D convolution, whose bfloat16 weight gradient ends the process on CPUs with AMX."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("single_frames.py")], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "trained\n", done.stderr
    x, weight, bias = torch.randn(2, 6, 1, 9, 7), torch.randn(4, 6, 1, 3, 3, requires_grad=True), torch.randn(4)
    expected = F.conv3d(x, weight, bias, (1, 2, 2), (0, 1, 1))
    monkeypatch.setattr(F, "conv3d", None)
    assert_close(conv3d(x, weight, bias, (1, 2, 2), (0, 1, 1)), expected, atol=1e-4, rtol=1e-5)
