"""`torch.export` takes both networks as they are: no wrapper, no value read back, any batch."""

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, TokenizerConfig, VideoAR, VideoTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    return VideoTokenizer(config).eval()


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return VideoAR(GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=4)).eval()


def shape_of(x):
    """What torch.export wants to hear of an input that is no tensor: of a constant node, that it has no parts."""
    return [] if isinstance(x, ScalePyramid) else None


def exported(module, *inputs):
    """The graph of a module for any batch, as a function."""
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = tuple({0: batch} if isinstance(x, torch.Tensor) else shape_of(x) for x in inputs)
    return torch.export.export(module, inputs, dynamic_shapes=shapes).module()


@pytest.mark.slow
@torch.no_grad()
def test_the_tokenizer(tokenizer):
    """As a whole: encoder, quantiser, decoder."""
    video = torch.rand(3, 3, 5, 16, 16) * 2 - 1
    graph = exported(tokenizer, video)
    torch.testing.assert_close(graph(video), tokenizer.reconstruct(video))
    torch.testing.assert_close(graph(video[:2]), tokenizer.reconstruct(video[:2]))


@pytest.mark.slow
@torch.no_grad()
def test_the_generator(generator):
    pyramid = ScalePyramid.default(4, 4)
    latent = torch.randn(3, 8, 2, *pyramid.full)
    tokens, labels = generator.lesson(latent, pyramid).tokens, torch.tensor([0, 3, 1])
    graph = exported(generator, tokens, labels, pyramid, 2)
    torch.testing.assert_close(graph(tokens, labels, pyramid, 2), generator(tokens, labels, pyramid, 2))
    torch.testing.assert_close(graph(tokens[:2], labels[:2], pyramid, 2), generator(tokens[:2], labels[:2], pyramid, 2))
