"""The bitwise loss against a plain float64 loop over bits."""

import math

import numpy as np
import pytest
import torch

from videoar.bits.pyramid import ScalePyramid
from videoar.losses.bitwise import bitwise_loss

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 4)))
FRAMES, BITS = 3, 5


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(0)
    shape = (2, PYRAMID.sequence_length(FRAMES), BITS)
    return torch.randn(shape, generator=rng) * 3, torch.rand(shape, generator=rng) > 0.5


def test_everything_matches_a_loop(batch):
    logits, targets = (x.double().numpy() for x in batch)
    bce = np.log1p(np.exp(-np.where(targets == 1, logits, -logits)))
    right = (logits > 0) == (targets == 1)
    result = bitwise_loss(*batch, PYRAMID, FRAMES)
    assert result.loss.item() == pytest.approx(bce.mean(), rel=1e-5)
    assert result.accuracy.item() == pytest.approx(right.mean(), rel=1e-5)
    starts = np.concatenate([[0], np.cumsum([h * w for h, w in PYRAMID.grids])])
    n = PYRAMID.length
    for k in range(3):
        index = [t * n + i for t in range(FRAMES) for i in range(starts[k], starts[k + 1])]
        assert result.per_scale_loss[k].item() == pytest.approx(bce[:, index].mean(), rel=1e-5)
        assert result.per_scale_accuracy[k].item() == pytest.approx(right[:, index].mean(), rel=1e-5)
    for t in range(FRAMES):
        assert result.per_frame_loss[t].item() == pytest.approx(bce[:, t * n : (t + 1) * n].mean(), rel=1e-5)
        assert result.per_frame_accuracy[t].item() == pytest.approx(right[:, t * n : (t + 1) * n].mean(), rel=1e-5)


def test_scale_weights_are_a_weighted_mean_over_bits(batch):
    plain = bitwise_loss(*batch, PYRAMID, FRAMES)
    per_scale, tokens = plain.per_scale_loss.double(), torch.tensor(PYRAMID.lengths).double()
    weights = torch.tensor([4.0, 1.0, 0.5]).double()
    expected = (per_scale * tokens * weights).sum() / (tokens * weights).sum()
    weighted = bitwise_loss(*batch, PYRAMID, FRAMES, scale_weights=weights.tolist())
    assert weighted.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert bitwise_loss(*batch, PYRAMID, FRAMES, scale_weights=[2, 2, 2]).loss.item() == pytest.approx(
        plain.loss.item()
    )


def test_only_the_loss_carries_gradient_and_it_is_float32(batch):
    logits = batch[0].bfloat16().requires_grad_(True)
    result = bitwise_loss(logits, batch[1], PYRAMID, FRAMES)
    assert result.loss.requires_grad and result.loss.dtype == torch.float32
    assert not result.per_scale_loss.requires_grad and not result.per_frame_loss.requires_grad
    result.loss.backward()
    expected = (torch.sigmoid(logits.detach().float()) - batch[1].float()) / logits.numel()
    torch.testing.assert_close(logits.grad.float(), expected, rtol=1e-2, atol=1e-5)


def test_untrained_is_ln2_and_extreme_logits_stay_finite(batch):
    assert bitwise_loss(batch[0] * 0, batch[1], PYRAMID, FRAMES).loss.item() == pytest.approx(math.log(2))
    assert bitwise_loss(batch[0] * 1e30, batch[1], PYRAMID, FRAMES).loss.isfinite()


@pytest.mark.parametrize("weights", [[1, 1], [0, 0, 0], [1, -1, 1]])
def test_bad_weights_are_refused(batch, weights):
    with pytest.raises(ValueError, match="scale_weights"):
        bitwise_loss(*batch, PYRAMID, FRAMES, scale_weights=weights)


def test_shapes_that_do_not_fit_name_the_numbers(batch):
    with pytest.raises(ValueError, match="= 34"):
        bitwise_loss(*batch, PYRAMID, frames=2)
