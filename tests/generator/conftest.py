import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR


@pytest.fixture
def pyramid():
    return ScalePyramid(((1, 1), (2, 2), (3, 4)))


@pytest.fixture
def make_generator():
    """A small generator whose zero-initialised parts are made random, so that every path matters."""

    def make(**overrides):
        torch.manual_seed(0)
        settings = {"latent_dim": 8, "width": 48, "depth": 3, "heads": 4, "num_classes": 5, **overrides}
        model = VideoAR(GeneratorConfig(**settings)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
        return model

    return make
