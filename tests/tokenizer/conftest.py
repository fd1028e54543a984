"""A tokenizer small enough for hundreds of passes, with everything the large one has."""

import pytest
import torch

from videoar import TokenizerConfig, VideoTokenizer


def tiny_config(**changes):
    values = {"latent_dim": 6, "channels": 8, "multipliers": (1, 2, 2), "res_blocks": 1, "patch": 2, "norm_groups": 4}
    return TokenizerConfig(**(values | changes))


def make_awake(**changes):
    """A fresh tokenizer treats every frame by itself; this one's kernels look back as those of a trained one do."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            if parameter.ndim == 5:
                parameter.add_(torch.randn_like(parameter) * parameter.std())
    return tokenizer


@pytest.fixture
def make_tokenizer():
    """make_tokenizer(**changes of the tiny config) -> VideoTokenizer in eval mode, with a fixed seed."""
    return make_awake


@pytest.fixture(scope="session")
def tokenizer():
    return make_awake()


@pytest.fixture(scope="session")
def clip():
    """[2, 3, 17, 16, 24] in [-1, 1]."""
    return torch.rand(2, 3, 17, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def layout(bits, width, multipliers, blocks):
    """Names and shapes of Infinity's tokenizer."""
    shapes = {"quantizer.lfq.mask": [bits], "quantize.lfq.mask": [bits]}

    def conv(name, i, o, k=3):
        shapes.update({f"{name}.conv.weight": [o, i, k, k], f"{name}.conv.bias": [o]})

    def norm(name, c):
        shapes.update({f"{name}.norm.weight": [c], f"{name}.norm.bias": [c]})

    def block(name, i, o):
        norm(f"{name}.norm1", i), conv(f"{name}.conv1", i, o), norm(f"{name}.norm2", o), conv(f"{name}.conv2", o, o)
        if i != o:
            conv(f"{name}.nin_shortcut", i, o, 1)

    widths, last = [width * m for m in multipliers], len(multipliers) - 1
    top = widths[-1]
    conv("encoder.conv_in", 3, width), conv("encoder.conv_out", top, bits), norm("encoder.norm_out", top)
    conv("decoder.conv_in", bits, top), conv("decoder.conv_out", width, 3), norm("decoder.norm_out", width)
    for part in ("encoder", "decoder"):
        block(f"{part}.mid.block_1", top, top), block(f"{part}.mid.block_2", top, top)
    for n in range(last + 1):
        for b in range(blocks):
            block(f"encoder.down.{n}.block.{b}", widths[max(n - 1, 0)] if b == 0 else widths[n], widths[n])
        for b in range(blocks + 1):
            block(f"decoder.up.{n}.block.{b}", widths[min(n + 1, last)] if b == 0 else widths[n], widths[n])
        if n < last:
            conv(f"encoder.down.{n}.downsample.conv", widths[n], widths[n])
        if n > 0:
            conv(f"decoder.up.{n}.upsample.conv", widths[n], widths[n])
    return shapes


def random_weights(**shape):
    generator, weights = torch.Generator().manual_seed(0), {}
    for name, size in layout(**shape).items():
        scale = (size[1] * size[2] * size[3]) ** -0.5 if len(size) == 4 else 0.1
        weights[name] = torch.randn(size, generator=generator) * scale + name.endswith("norm.weight")
    return weights


SHAPES = {
    "16x": {"bits": 16, "width": 32, "multipliers": (1, 2, 2, 2, 2), "blocks": 1},
    "8x": {"bits": 24, "width": 24, "multipliers": (1, 1, 2, 3), "blocks": 2},
}


@pytest.fixture(scope="session", params=SHAPES)
def released(request, tmp_path_factory):
    """A file as Infinity releases them, with random weights, and the weights."""
    weights = random_weights(**SHAPES[request.param])
    path = tmp_path_factory.mktemp("infinity") / f"{request.param}.pth"
    torch.save({"vae": weights}, path)
    return path, weights


@pytest.fixture(scope="session")
def infinity_layout():
    """infinity_layout(bits, width, multipliers, blocks) -> name of every weight in Infinity's layout: its shape."""
    return layout
