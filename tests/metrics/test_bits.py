import math

import numpy as np
import pytest
import torch

from videoar.bits.pyramid import ScalePyramid
from videoar.bits.residual import quantize, unflatten_bits
from videoar.metrics.bits import BitAccuracy, CodebookUsage

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 4)))


def test_accuracy_by_scale_and_frame_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    metric = BitAccuracy(PYRAMID, frames=3, bits=5)
    right = []
    for _ in range(2):
        logits, target = rng.normal(size=(4, 3 * 17, 5)), rng.random((4, 51, 5)) > 0.5
        metric.update(torch.from_numpy(logits), torch.from_numpy(target))
        right.append((logits > 0) == target)
    right = np.concatenate(right).reshape(8, 3, 17, 5)
    scores = metric.compute()
    parts = (slice(0, 1), slice(1, 5), slice(5, 17))
    assert float(scores.bits) == pytest.approx(right.mean())
    assert float(scores.tokens) == pytest.approx(right.all(-1).mean())
    np.testing.assert_allclose(scores.bits_per_scale, [right[:, :, p].mean() for p in parts])
    np.testing.assert_allclose(scores.tokens_per_scale, [right[:, :, p].all(-1).mean() for p in parts])
    np.testing.assert_allclose(scores.bits_per_frame, right.mean((0, 2, 3)))
    np.testing.assert_allclose(scores.bits_per_frame_and_scale[1, 2], right[:, 1, 5:].mean())
    assert scores.scalars("val/")["val/bits/scale_3"] == pytest.approx(right[:, :, 5:].mean())


def test_perfect_bits_and_shorter_clips() -> None:
    metric = BitAccuracy(PYRAMID, frames=2, bits=4)
    bits = torch.rand(1, 17, 4) > 0.5
    metric.update(bits, bits)
    scores = metric.compute()
    assert scores.bits == 1 and scores.tokens == 1
    assert math.isnan(scores.bits_per_frame[1]), "no clip had a second frame"


def test_accuracy_refuses_what_does_not_fit() -> None:
    metric = BitAccuracy(PYRAMID, frames=2, bits=4)
    with pytest.raises(ValueError, match="\\[B, L, 4\\]"):
        metric.update(torch.zeros(1, 17, 3), torch.zeros(1, 17, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="51 tokens are not 1 to 2 frames of 17"):
        metric.update(torch.zeros(1, 51, 4), torch.zeros(1, 51, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="18 tokens"):
        metric.update(torch.zeros(1, 18, 4), torch.zeros(1, 18, 4, dtype=torch.bool))


def test_usage_counted_by_hand() -> None:
    codes = quantize(torch.randn(3, 6, 2, 3, 4, generator=torch.Generator().manual_seed(1)), PYRAMID)
    metric = CodebookUsage(scales=3, bits=6)
    metric.update(codes.bits)
    metric.update(tuple(b.roll(1, 0) for b in codes.bits))
    usage = metric.compute()
    for k, bits in enumerate(codes.bits):
        flat = bits.reshape(-1, 6).numpy()
        p = np.clip(flat.mean(0), 1e-300, None)
        q = np.clip(1 - flat.mean(0), 1e-300, None)
        assert float(usage.entropy_per_scale[k]) == pytest.approx(-(p * np.log2(p) + q * np.log2(q)).mean(), abs=1e-6)
        assert float(usage.dead_bits_per_scale[k]) == pytest.approx((flat.min(0) == flat.max(0)).mean())
    seen = {row.tobytes() for bits in codes.bits for row in bits.reshape(-1, 6).numpy()}
    assert float(usage.codes) == pytest.approx(len(seen) / 64)
    assert usage.scalars("use/")["use/codes_used"] == pytest.approx(len(seen) / 64)


def test_constant_bits_are_dead_and_wide_codes_are_not_counted() -> None:
    bits = unflatten_bits(torch.ones(2, 17, 48, dtype=torch.bool), PYRAMID, 1)
    metric = CodebookUsage(scales=3, bits=48)
    metric.update(bits)
    usage = metric.compute()
    assert usage.entropy_per_scale.eq(0).all() and usage.dead_bits_per_scale.eq(1).all()
    assert usage.codes is None and "codes_used" not in usage.scalars()


def test_usage_refuses_other_scales_and_nothing() -> None:
    with pytest.raises(ValueError, match="3 scales of 4 bits"):
        CodebookUsage(3, 4).update((torch.zeros(1, 1, 1, 1, 4, dtype=torch.bool),))
    with pytest.raises(ValueError, match="before any bits"), pytest.warns(UserWarning):
        CodebookUsage(3, 4).compute()
