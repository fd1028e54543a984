import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from videoar.metrics.features.base import FeatureNet, weights_sha256
from videoar.metrics.frechet import FrechetVideoDistance, Moments, frechet_distance


def features(n: int, d: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    """Correlated features with a wide spectrum."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(1, 1 / spread, d)
    return torch.from_numpy(rng.normal(size=(n, d)) @ mix + rng.normal(size=d))


def golden(x: Tensor, y: Tensor, ddof: int = 1) -> float:
    """The formula with scipy's square root of the product, in float64."""
    a, b = x.numpy(), y.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False, ddof=ddof), np.cov(b, rowvar=False, ddof=ddof)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


@pytest.mark.parametrize("unbiased", [True, False])
def test_agrees_with_scipy(unbiased: bool) -> None:
    x, y = features(300, 12, 0), features(200, 12, 1)
    distance = float(frechet_distance(Moments.of(x), Moments.of(y), unbiased))
    assert distance == pytest.approx(golden(x, y, ddof=int(unbiased)), rel=1e-8)


def test_a_stretched_and_shifted_set_is_known_exactly() -> None:
    x = features(500, 20, 3)
    a, b = 1.7, torch.linspace(-1, 2, 20, dtype=torch.float64)
    mean, cov = x.mean(0), torch.cov(x.T)
    expected = ((a - 1) * mean + b).square().sum() + (a - 1) ** 2 * cov.trace()
    assert float(frechet_distance(Moments.of(x), Moments.of(a * x + b))) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(16, 64), (128, 400), (600, 400), (2, 400)])
def test_a_set_is_at_zero_from_itself(n: int, d: int) -> None:
    x = Moments.of(features(n, d, seed=n, spread=1e4) * 10)  # rank-deficient, trace up to 1e7
    assert float(frechet_distance(x, x)) <= 1e-6


def test_fewer_samples_than_features_is_still_right() -> None:
    x, y = features(20, 50, 1), features(30, 50, 2)
    centred = [(v - v.mean(0)) / (len(v) - 1) ** 0.5 for v in (x, y)]
    cross = np.linalg.svd((centred[0] @ centred[1].T).numpy(), compute_uv=False).sum()
    expected = float((x.mean(0) - y.mean(0)).square().sum() + sum(c.square().sum() for c in centred)) - 2 * cross
    assert float(frechet_distance(Moments.of(x), Moments.of(y))) == pytest.approx(expected, rel=1e-9)


def test_symmetric_and_independent_of_order_and_batches() -> None:
    x, y = features(64, 10, 1), features(40, 10, 2)
    whole = frechet_distance(Moments.of(x), Moments.of(y))
    split = Moments.of(x[50:]) + Moments.of(x[:20].flip(0)) + Moments.of(x[20:50])
    torch.testing.assert_close(frechet_distance(split, Moments.of(y)), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(frechet_distance(Moments.of(y), Moments.of(x)), whole, rtol=1e-9, atol=1e-9)


def test_too_few_and_unequal() -> None:
    with pytest.raises(ValueError, match="at least 2 videos"):
        frechet_distance(Moments.of(features(1, 4)), Moments.of(features(5, 4)))
    with pytest.raises(ValueError, match="widths differ"):
        frechet_distance(Moments.of(features(5, 4)), Moments.of(features(5, 3)))


class Mean(nn.Module):
    """Six numbers of a video."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, video: Tensor) -> Tensor:
        return torch.cat([video.mean((2, 3, 4)), video.std((2, 3, 4))], dim=1) * self.scale


def net(min_frames: int = 2) -> FeatureNet:
    module = Mean()
    return FeatureNet("mean", module, lambda m, x: m(x), 6, None, "none", min_frames, weights_sha256(module))


def videos(n: int, seed: int) -> Tensor:
    return torch.rand(n, 3, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 1.5 - 0.7


def test_metric_equals_the_function_and_keeps_the_real_side() -> None:
    metric = FrechetVideoDistance(net(), keep_real=True)
    real, fake = videos(12, 0), videos(9, 1)
    for part in real.split(5):
        metric.update(part, real=True)
    metric.update(fake, real=False)
    expected = frechet_distance(Moments.of(net()(real)), Moments.of(net()(fake)))
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-12)
    metric.reset()
    assert int(metric.moments(True).count) == 12 and int(metric.moments(False).count) == 0
    metric.update(fake, real=False)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-12)
    assert not metric.state_dict(), "the frozen net must not enter a checkpoint"
    assert metric.real_outer.dtype == torch.float64


def test_reset_without_keep_real_forgets_everything() -> None:
    metric = FrechetVideoDistance(net())
    metric.update(videos(4, 0), real=True)
    metric.reset()
    assert int(metric.moments(True).count) == 0


def test_warns_when_there_are_no_more_videos_than_features() -> None:
    metric = FrechetVideoDistance(net())
    metric.update(videos(6, 0), real=True)
    metric.update(videos(7, 1), real=False)
    with pytest.warns(UserWarning, match="6 real and 7 generated videos with 6 features"):
        metric.compute()
    metric.update(videos(1, 2), real=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()


def test_feature_net_refuses_short_clips_wrong_widths_and_nan() -> None:
    with pytest.raises(ValueError, match="at least 9 frames, got 3"):
        net(min_frames=9)(videos(1, 0))
    narrow = net()
    narrow.dim = 5
    with pytest.raises(ValueError, match="expected \\(1, 5\\)"):
        narrow(videos(1, 0))
    broken = net()
    broken.forward = lambda module, video: module(video) * torch.nan
    with pytest.raises(ValueError, match="not finite"):
        broken(videos(1, 0))
    with pytest.raises(ValueError, match="width 4"):
        FrechetVideoDistance(net()).add(Moments.of(features(3, 4)), real=True)
