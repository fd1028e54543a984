"""The global random stream belongs to the weights that are trained."""

import torch

from videoar.losses.perceptual import Perceptual
from videoar.metrics.features.registry import load_features
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import TokenizerConfig
from videoar.training.tokenizer_module import TokenizerModule


def make():
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    critic = DiscriminatorConfig(channels=4, layers=2, temporal_layers=1)
    return TokenizerModule(config, discriminator=critic).state_dict()


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(3)
    first = make()
    torch.rand(7)
    again = make()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    torch.manual_seed(4)
    assert not all(torch.equal(value, first[name]) for name, value in make().items())


def test_feature_nets_leave_the_stream_alone(tmp_path):
    import torchvision

    torch.save(torchvision.models.alexnet().state_dict(), tmp_path / "alexnet.pth")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_features("atari")
    Perceptual("alex", str(tmp_path / "alexnet.pth")).network(torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
