"""An imported tokenizer gives what Infinity's gives.

The other side is the 2D model written out here from the layout's description, slow, plain and in float64, on random
weights. Where outputs recorded from the original implementation are at hand, both sides are held to those too.
"""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.testing import assert_close

from videoar import ScalePyramid
from videoar.bits.corruption import teacher_forcing
from videoar.tokenizer.inflation import import_infinity

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
recorded_only = pytest.mark.skipif(not REFERENCE.exists(), reason="the original's recorded outputs are not here")


def area(size, new):
    """[new, size]: each new cell is the mean of the old cells that it touches."""
    matrix = torch.zeros(new, size, dtype=torch.float64)
    for i in range(new):
        start, end = i * size // new, -(-(i + 1) * size // new)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


def bilinear(size, new):
    """[new, size]: each new cell's centre lies between two old centres; beyond the outermost ones nothing changes."""
    matrix = torch.zeros(new, size, dtype=torch.float64)
    for i in range(new):
        centre = min(max((i + 0.5) * size / new - 0.5, 0), size - 1)
        low = int(centre)
        matrix[i, low] += 1 - (centre - low)
        matrix[i, min(low + 1, size - 1)] += centre - low
    return matrix


def resize(x, grid, kind):
    return kind(x.shape[2], grid[0]) @ x @ kind(x.shape[3], grid[1]).T


class PlainImageTokenizer:
    """The 2D model, one operation at a time."""

    def __init__(self, weights):
        self.w = {name: value.double() for name, value in weights.items()}
        self.levels = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.down."))
        self.blocks = 1 + max(int(name.split(".")[4]) for name in weights if name.startswith("encoder.down.0.block."))

    def conv(self, x, name, stride=1, padding=1):
        return F.conv2d(x, self.w[f"{name}.conv.weight"], self.w[f"{name}.conv.bias"], stride, padding)

    def norm_swish(self, x, name):
        groups = 32 if x.shape[1] % 32 == 0 else 24
        g = x.reshape(len(x), groups, -1)
        g = (g - g.mean(2, keepdim=True)) / (g.var(2, correction=0, keepdim=True) + 1e-6).sqrt()
        y = g.view_as(x) * self.w[f"{name}.norm.weight"].view(-1, 1, 1) + self.w[f"{name}.norm.bias"].view(-1, 1, 1)
        return y * torch.sigmoid(y)

    def block(self, x, name):
        h = self.conv(self.norm_swish(x, f"{name}.norm1"), f"{name}.conv1")
        h = self.conv(self.norm_swish(h, f"{name}.norm2"), f"{name}.conv2")
        shortcut = f"{name}.nin_shortcut"
        return h + (self.conv(x, shortcut, padding=0) if f"{shortcut}.conv.weight" in self.w else x)

    def middle(self, x, part):
        return self.block(self.block(x, f"{part}.mid.block_1"), f"{part}.mid.block_2")

    def encode(self, x):
        x = self.conv(x, "encoder.conv_in")
        for n in range(self.levels):
            for b in range(self.blocks):
                x = self.block(x, f"encoder.down.{n}.block.{b}")
            if n < self.levels - 1:
                x = self.conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{n}.downsample.conv", stride=2, padding=0)
        return self.conv(self.norm_swish(self.middle(x, "encoder"), "encoder.norm_out"), "encoder.conv_out")

    def quantize(self, latent, grids):
        """Bits [B, D, h, w] of every scale, the sum of codes, and what the generator is shown: [B, L - 1, D]."""
        seen, bits, shown = torch.zeros_like(latent), [], []
        for grid, after in pairwise([*grids, None]):
            bits.append(resize(latent - seen, grid, area) > 0)
            code = torch.where(bits[-1], 1.0, -1.0).double() / latent.shape[1] ** 0.5
            seen = seen + resize(code, latent.shape[-2:], bilinear)
            if after is not None:
                shown.append(resize(seen, after, bilinear).flatten(2).transpose(1, 2))
        return bits, seen, torch.cat(shown, dim=1)

    def decode(self, x):
        x = self.middle(self.conv(x, "decoder.conv_in"), "decoder")
        for n in reversed(range(self.levels)):
            for b in range(self.blocks + 1):
                x = self.block(x, f"decoder.up.{n}.block.{b}")
            if n > 0:
                x = self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), f"decoder.up.{n}.upsample.conv")
        return self.conv(self.norm_swish(x, "decoder.norm_out"), "decoder.conv_out").clamp(-1, 1)


@torch.no_grad()
@pytest.mark.parametrize("image", [False, True], ids=["inflated", "2D"])
def test_one_frame_gives_what_the_image_tokenizer_gives(released, image):
    path, weights = released
    plain, tokenizer = PlainImageTokenizer(weights), import_infinity(path, image=image)[0].double()
    picture = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    latent, expected = tokenizer.encode(picture[:, :, None]), plain.encode(picture)
    assert_close(latent[:, :, 0], expected, atol=1e-9, rtol=0)
    codes = tokenizer.quantize(latent)
    bits, quantized, shown = plain.quantize(expected, codes.pyramid.grids)
    for ours, theirs in zip(codes.bits, bits, strict=True):
        assert torch.equal(ours[:, 0], theirs.movedim(1, -1))
    assert_close(codes.latent[:, :, 0], quantized, atol=1e-9, rtol=0)
    assert_close(
        teacher_forcing(latent, codes.pyramid, temporal="first_scale").tokens[:, 1:].double(), shown, atol=1e-5, rtol=0
    )
    video = tokenizer.decode(codes.latent)
    assert_close(video[:, :, 0], plain.decode(quantized), atol=1e-9, rtol=0)
    tokenizer.float()
    assert_close(tokenizer.encode(picture.float()[:, :, None]), latent.float(), atol=1e-4, rtol=0)
    assert_close(tokenizer.decode(codes.latent.float()), video.float(), atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def recorded():
    return load_file(REFERENCE / "tiny_a.io.safetensors"), json.loads((REFERENCE / "tiny_a.json").read_text())["scales"]


@recorded_only
@torch.no_grad()
def test_the_plain_model_gives_the_original_s_recorded_outputs(recorded):
    expected, grids = recorded
    plain = PlainImageTokenizer(torch.load(REFERENCE / "tiny_a.pth", weights_only=True)["vae"])
    latent = plain.encode(expected["image"].double())
    bits, quantized, shown = plain.quantize(latent, grids)
    for k, theirs in enumerate(bits):
        assert torch.equal(theirs.movedim(1, -1), expected[f"bits.{k}"].bool())
    ours = {
        "latent": latent,
        "quantized": quantized,
        "next_scale_inputs": shown,
        "reconstruction": plain.decode(quantized),
    }
    for name, value in ours.items():
        assert_close(
            value.float(), expected[name], atol=1e-5, rtol=0, msg=lambda message, name=name: f"{name}: {message}"
        )


@recorded_only
@torch.no_grad()
@pytest.mark.parametrize("image", [False, True], ids=["inflated", "2D"])
def test_the_import_gives_the_original_s_recorded_outputs(recorded, image):
    expected, grids = recorded
    tokenizer, _ = import_infinity(REFERENCE / "tiny_a.pth", image=image)
    latent = tokenizer.encode(expected["image"][:, :, None])
    pyramid = ScalePyramid(grids)
    codes = tokenizer.quantize(latent, pyramid)
    assert_close(latent[:, :, 0], expected["latent"], atol=1e-4, rtol=0)
    for k, bits in enumerate(codes.bits):
        assert torch.equal(bits[:, 0], expected[f"bits.{k}"].bool())
    assert_close(codes.latent[:, :, 0], expected["quantized"], atol=1e-4, rtol=0)
    assert_close(tokenizer.decode(codes.latent)[:, :, 0], expected["reconstruction"], atol=1e-4, rtol=0)
    tokens = teacher_forcing(latent, pyramid, temporal="first_scale").tokens[:, 1:]
    assert_close(tokens, expected["next_scale_inputs"], atol=1e-4, rtol=0)
