"""`torch.export` takes both networks as they are: no wrapper, no value read back, any batch."""

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    return VideoTokenizer(config).eval()


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return VideoAR(GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=4)).eval()


def exported(module, *inputs):
    """The graph of a module for any batch, as a function."""
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = tuple({0: batch} if isinstance(x, torch.Tensor) else None for x in inputs)
    return torch.export.export(module, inputs, dynamic_shapes=shapes).module()


@torch.no_grad()
def test_the_tokenizer(tokenizer):
    video = torch.rand(3, 3, 9, 16, 16) * 2 - 1
    latent = tokenizer.encode(video)
    for module, x in ((tokenizer.encoder, video), (tokenizer.decoder, latent), (tokenizer, video)):
        graph = exported(module, x)
        torch.testing.assert_close(graph(x), module(x))
        torch.testing.assert_close(graph(x[:2]), module(x[:2]))


@torch.no_grad()
def test_the_generator(generator):
    pyramid = VideoTokenizer(TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), norm_groups=4)).pyramid(
        16, 16
    )
    latent = torch.randn(3, 8, 2, *pyramid.full)
    tokens, labels = generator.lesson(latent, pyramid).tokens, torch.tensor([0, 3, 1])
    graph = exported(generator, tokens, labels, pyramid, 2)
    torch.testing.assert_close(graph(tokens, labels, pyramid, 2), generator(tokens, labels, pyramid, 2))
    torch.testing.assert_close(graph(tokens[:2], labels[:2], pyramid, 2), generator(tokens[:2], labels[:2], pyramid, 2))
