import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from videoar.metrics.reconstruction import LPIPS, PSNR, SSIM, MotionRatio, TemporalDifferenceError

Clip = Callable[..., Tensor]


def pair(clip: Clip) -> tuple[Tensor, Tensor]:
    target = clip(batch=3, frames=4, size=(24, 20), seed=1)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
    strength = torch.linspace(0.02, 0.3, 3 * 4).view(3, 1, 4, 1, 1)
    return (target + strength * noise).clamp(-1, 1), target


def unit(video: Tensor) -> np.ndarray:
    return (video.double().numpy() + 1) / 2


def psnr_golden(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> float:
    return float(np.mean(-10 * np.log10(np.mean((a - b) ** 2, axis=axes))))


def ssim_golden(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. with explicit 11x11 windows, one channel of one frame at a time."""
    x = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(x, x) / x.sum() ** 2
    scores = []
    for image_a, image_b in zip(
        a.transpose(0, 2, 1, 3, 4).reshape(-1, *a.shape[3:]), b.transpose(0, 2, 1, 3, 4).reshape(-1, *b.shape[3:])
    ):
        views = [np.lib.stride_tricks.sliding_window_view(image, (11, 11)) for image in (image_a, image_b)]
        mean = [(view * window).sum((-1, -2)) for view in views]
        var = [((view - m[..., None, None]) ** 2 * window).sum((-1, -2)) for view, m in zip(views, mean)]
        cov = ((views[0] - mean[0][..., None, None]) * (views[1] - mean[1][..., None, None]) * window).sum((-1, -2))
        top = (2 * mean[0] * mean[1] + 1e-4) * (2 * cov + 9e-4)
        scores.append((top / ((mean[0] ** 2 + mean[1] ** 2 + 1e-4) * (var[0] + var[1] + 9e-4))).mean())
    return float(np.mean(scores))


def test_psnr_is_the_textbook_value(clip: Clip) -> None:
    fake, real = pair(clip)
    for pooling, axes in (("frame", (1, 3, 4)), ("clip", (1, 2, 3, 4))):
        metric = PSNR(pooling)
        metric.update(fake, real)
        assert float(metric.compute()) == pytest.approx(psnr_golden(unit(fake), unit(real), axes), abs=1e-4)


def test_psnr_of_known_error() -> None:
    metric = PSNR()
    metric.update(torch.full((1, 3, 2, 8, 8), 0.2), torch.zeros(1, 3, 2, 8, 8))  # 0.1 in [0, 1]
    assert float(metric.compute()) == pytest.approx(20.0, abs=1e-4)


def test_ssim_is_the_textbook_value(clip: Clip) -> None:
    fake, real = pair(clip)
    metric = SSIM()
    metric.update(fake, real)
    assert float(metric.compute()) == pytest.approx(ssim_golden(unit(fake), unit(real)), abs=1e-5)


def test_grey_ssim_is_the_ssim_of_the_luma(clip: Clip) -> None:
    fake, real = pair(clip)
    metric = SSIM("grey")
    metric.update(fake, real)
    luma = [np.einsum("c,bcthw->bthw", [0.2125, 0.7154, 0.0721], unit(v))[:, None] for v in (fake, real)]
    assert float(metric.compute()) == pytest.approx(ssim_golden(*luma), abs=1e-5)


def test_temporal_measures_are_what_they_say(clip: Clip) -> None:
    fake, real = pair(clip)
    moved, expected = np.diff(unit(fake), axis=2), np.diff(unit(real), axis=2)
    error, ratio = TemporalDifferenceError(), MotionRatio()
    error.update(fake, real)
    ratio.update(fake, real)
    assert float(error.compute()) == pytest.approx(np.abs(moved - expected).mean(), abs=1e-6)
    assert float(ratio.compute()) == pytest.approx(np.abs(moved).mean() / np.abs(expected).mean(), abs=1e-5)


def test_a_frozen_video_is_caught(clip: Clip) -> None:
    real = clip(frames=6)
    frozen = real[:, :, :1].expand_as(real)
    ratio = MotionRatio()
    ratio.update(frozen, real)
    assert float(ratio.compute()) == 0
    still = MotionRatio()
    still.update(real, frozen)
    assert math.isnan(float(still.compute()))


def test_identical_videos_are_ideal(clip: Clip) -> None:
    video = clip()
    for metric, ideal in (
        (PSNR(), 100),
        (PSNR("clip"), 100),
        (SSIM(), 1),
        (TemporalDifferenceError(), 0),
        (MotionRatio(), 1),
    ):
        metric.update(video, video)
        assert float(metric.compute()) == pytest.approx(ideal, abs=1e-6), type(metric).__name__


@pytest.mark.parametrize("make", [PSNR, SSIM, TemporalDifferenceError, MotionRatio])
def test_batches_and_order_do_not_matter(make: type, clip: Clip) -> None:
    fake, real = pair(clip)
    whole, parts = make(), make()
    whole.update(fake, real)
    for i in (2, 0, 1):
        parts.update(fake[i : i + 1], real[i : i + 1])
    torch.testing.assert_close(whole.compute(), parts.compute(), rtol=1e-6, atol=1e-9)


def test_lengths_may_differ_between_batches(clip: Clip) -> None:
    metric = PSNR()
    values = []
    for frames, size in ((2, (24, 20)), (5, (17, 33))):
        real = clip(batch=1, frames=frames, size=size)
        fake = (real + 0.05 * frames).clamp(-1, 1)
        metric.update(fake, real)
        error = ((unit(fake) - unit(real)) ** 2).mean((1, 3, 4))
        values += (-10 * np.log10(error)).ravel().tolist()
    assert float(metric.compute()) == pytest.approx(np.mean(values), abs=1e-4)


def test_lpips_weighs_frames_equally_and_is_not_saved(clip: Clip) -> None:
    class Distance(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a - b).abs().mean() * self.weight

    metric = LPIPS(Distance())
    for frames, shift in ((2, 0.1), (6, 0.3)):
        real = clip(batch=1, frames=frames) * 0.5
        metric.update(real + shift, real)
    assert float(metric.compute()) == pytest.approx((2 * 0.1 + 6 * 0.3) / 8, abs=1e-6)
    assert not metric.state_dict() and not list(metric.parameters())


def test_bad_input() -> None:
    one, two = torch.zeros(1, 3, 1, 16, 16), torch.zeros(1, 3, 2, 16, 16)
    with pytest.raises(ValueError, match="differ in shape"):
        PSNR().update(one, two)
    with pytest.raises(ValueError, match="at least 2"):
        TemporalDifferenceError().update(one, one)
    with pytest.raises(ValueError, match="11 pixels"):
        SSIM().update(one[..., :8], one[..., :8])
    with pytest.raises(ValueError, match="pooling"):
        PSNR("video")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels"):
        SSIM("yuv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="before any video"), pytest.warns(UserWarning):
        PSNR().compute()
