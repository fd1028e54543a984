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
