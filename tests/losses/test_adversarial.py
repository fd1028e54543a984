"""Adversarial terms and LeCAM against their formulas in float64 numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from videoar.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss, gradient_penalty
from videoar.losses.lecam import LeCAM


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 3, 4, 4, generator=rng) * 2, torch.randn(2, 1, 3, 4, 4, generator=rng) * 2 - 0.5


def test_losses_match_their_formulas(logits):
    real, fake = (x.double().numpy() for x in logits)
    hinge = 0.5 * np.maximum(1 - real, 0).mean() + 0.5 * np.maximum(1 + fake, 0).mean()
    saturating = 0.5 * np.log1p(np.exp(-real)).mean() + 0.5 * np.log1p(np.exp(fake)).mean()
    assert discriminator_loss(*logits, "hinge").item() == pytest.approx(hinge, rel=1e-6)
    assert discriminator_loss(*logits, "non_saturating").item() == pytest.approx(saturating, rel=1e-6)
    assert generator_loss(logits[1], "hinge").item() == pytest.approx(-fake.mean(), rel=1e-6)
    expected = np.log1p(np.exp(-fake)).mean()
    assert generator_loss(logits[1], "non_saturating").item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [lambda x: generator_loss(x, "lsgan"), lambda x: discriminator_loss(x, x, "lsgan")])
def test_unknown_kind_is_named(loss):
    with pytest.raises(ValueError, match="lsgan"):
        loss(torch.zeros(3))


def test_losses_are_float32_under_low_precision(logits):
    assert generator_loss(logits[0].bfloat16()).dtype == torch.float32
    assert discriminator_loss(logits[0].bfloat16(), logits[1].bfloat16()).dtype == torch.float32


def test_gradient_penalty_of_a_known_function():
    video = torch.randn(3, 3, 2, 4, 4).requires_grad_(True)
    weight = torch.tensor(0.7, requires_grad=True)
    penalty = gradient_penalty(weight * video.square().sum((1, 2, 3, 4)), video)  # gradient: 2·w·x
    assert penalty.item() == pytest.approx(0.5 * (2 * 0.7 * video.detach()).square().sum().item() / 3, rel=1e-5)
    penalty.backward()  # second order reaches the discriminator's weights: d/dw ½(2w|x|)² = 4w|x|²
    assert weight.grad.item() == pytest.approx(4 * 0.7 * video.detach().square().sum().item() / 3, rel=1e-5)


def test_adaptive_weight_is_the_ratio_of_gradient_norms():
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    weight = adaptive_weight((last * torch.tensor([3.0, 4.0])).sum(), (last * torch.tensor([0.0, 0.5])).sum(), last)
    assert weight.item() == pytest.approx(5 / 0.5, rel=1e-3)
    assert not weight.requires_grad


@pytest.mark.parametrize("gan, expected", [(0.0, 1e4), (float("nan"), 0.0), (float("inf"), 0.0)])
def test_adaptive_weight_is_always_finite(gan, expected):
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    weight = adaptive_weight(last.sum() * 3, last.sum() * gan, last)
    assert weight.item() == pytest.approx(expected)


def test_lecam_matches_its_formula_and_running_means(logits):
    lecam = LeCAM(decay=0.9)
    real, fake = (x.double().numpy() for x in logits)
    lecam.update(*logits)
    assert lecam.real.item() == pytest.approx(real.mean(), rel=1e-5)  # the first batch sets the means
    lecam.update(logits[0] + 1, logits[1] - 1)
    a_real, a_fake = real.mean() + 0.1, fake.mean() - 0.1
    assert (lecam.real.item(), lecam.fake.item()) == pytest.approx((a_real, a_fake), rel=1e-5)
    expected = (np.maximum(real - a_fake, 0) ** 2).mean() + (np.maximum(a_real - fake, 0) ** 2).mean()
    assert lecam(*logits).item() == pytest.approx(expected, rel=1e-5)


def test_lecam_survives_a_broken_batch_and_is_checkpointed(logits):
    lecam = LeCAM(decay=0.9)
    lecam.update(*logits)
    before = {name: value.clone() for name, value in lecam.state_dict().items()}
    lecam.update(torch.full((3,), float("nan")), logits[1])
    assert all(torch.equal(before[name], value) for name, value in lecam.state_dict().items())
    restored = LeCAM(decay=0.9)
    restored.load_state_dict(before)
    assert restored(*logits) == lecam(*logits)
    assert list(lecam.parameters()) == []


def test_lecam_refuses_a_decay_outside_its_range():
    with pytest.raises(ValueError, match=r"1\.5"):
        LeCAM(decay=1.5)
