"""The discriminator judges images and videos alike, at every legal size."""

import pytest
import torch
from torch import nn

from videoar.tokenizer.discriminator import DiscriminatorConfig, VideoDiscriminator


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("frames", [1, 5, 17])
@pytest.mark.parametrize("size", [32, 40])
def test_logits_are_a_grid_of_patches(frames, size, spectral):
    critic = VideoDiscriminator(DiscriminatorConfig(channels=4, spectral_norm=spectral))
    logits = critic(torch.rand(2, 3, frames, size, size))
    assert logits.shape == (2, 1, -(-frames // 4), size // 8 - 2, size // 8 - 2)


def test_batches_do_not_mix():
    critic, video = VideoDiscriminator(DiscriminatorConfig(channels=4)), torch.rand(2, 3, 5, 32, 32)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules())
    torch.testing.assert_close(critic(video)[:1], critic(video[:1]), atol=1e-5, rtol=0)


def test_the_penalty_on_gradients_reaches_the_weights():
    critic, video = VideoDiscriminator(DiscriminatorConfig(channels=4)), torch.rand(1, 3, 5, 32, 32, requires_grad=True)
    slope = torch.autograd.grad(critic(video).sum(), video, create_graph=True)[0]
    slope.square().sum().backward()
    assert critic.conv_in.weight.grad.abs().sum() > 0


def test_spectral_norm_bounds_the_kernels():
    critic = VideoDiscriminator(DiscriminatorConfig(channels=4, spectral_norm=True)).train()
    for _ in range(30):
        critic(torch.rand(1, 3, 1, 32, 32))
    assert torch.linalg.matrix_norm(critic.conv_in.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_small_frames_and_bad_configs_are_refused():
    with pytest.raises(ValueError, match="frames of 16 pixels, got 8x64"):
        VideoDiscriminator(DiscriminatorConfig(channels=4))(torch.rand(1, 3, 1, 8, 64))
    with pytest.raises(ValueError, match="temporal_layers 4 must lie in 0 … 3"):
        DiscriminatorConfig(temporal_layers=4)


@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_bfloat16_gradients_are_those_of_float32(frames):
    """Where two frames meet a kernel of three, torch's own padding in time gives garbage on a CPU."""
    torch.manual_seed(0)
    critic = VideoDiscriminator(DiscriminatorConfig(channels=8, layers=2))
    video = torch.rand(2, 3, frames, 32, 32) * 2 - 1
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits = critic(video)
        loss = (logits.float() * torch.linspace(-1, 1, logits.numel()).view_as(logits)).mean()
        gradients.append(torch.autograd.grad(loss, [p for p in critic.parameters() if p.ndim > 1]))
    for exact, rough in zip(*gradients):
        assert (exact - rough).norm() < 0.3 * exact.norm()
