"""Paired pixel measures: PSNR, SSIM, LPIPS, temporal difference. Videos are [B, 3, T, H, W] in [-1, 1].

All four keep sums and counts only, so memory does not grow with the number of videos and ranks merge by adding.
"""

# B batch · T frames · H W pixels

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from videoar.metrics.pixels import frame_psnr, frame_ssim, psnr_of_mse
from videoar.metrics.preprocess import check_pair, check_video, to_unit


def _wide(x: Tensor) -> Tensor:
    """float64 for sums (float32 where the device has no float64)."""
    return x if x.device.type == "mps" else x.double()


class MeanMetric(Metric):
    """A mean of per-item values, kept as a float64 sum and a count."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor, weight: float = 1.0) -> None:
        """Add per-item values of equal weight."""
        self.total += _wide(values).sum().to(self.total) * weight
        self.count += values.numel() * weight

    def compute(self) -> Tensor:
        """The mean; raises ValueError when nothing was added."""
        if self.count == 0:
            raise ValueError(f"{type(self).__name__} was computed before any video was added")
        return self.total / self.count


class PSNR(MeanMetric):
    """Peak signal-to-noise ratio in dB (100 = identical).

    Args:
        pooling: "frame": mean of per-frame PSNR (common_metrics, MAGVIT); "clip": PSNR of each clip's MSE, then mean
            (LARP, NBP). By Jensen's inequality the first is never below the second.
    """

    higher_is_better = True

    def __init__(self, pooling: Literal["frame", "clip"] = "frame") -> None:
        super().__init__()
        if pooling not in ("frame", "clip"):
            raise ValueError(f"pooling {pooling!r} is neither 'frame' nor 'clip'")
        self.pooling = pooling

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of pairs."""
        prediction, target = check_pair(prediction, target)
        if self.pooling == "frame":
            self.add(frame_psnr(prediction, target))
        else:
            self.add(psnr_of_mse((to_unit(prediction) - to_unit(target)).square().mean((1, 2, 3, 4))))


def _grey(video: Tensor) -> Tensor:
    weights = torch.tensor([0.2125, 0.7154, 0.0721], device=video.device).view(1, 3, 1, 1, 1)
    return (video * weights).sum(1, keepdim=True).expand_as(video)


class SSIM(MeanMetric):
    """Structural similarity, mean over frames (1 = identical).

    Args:
        channels: "rgb": mean of the three channels (common_metrics); "grey": of the luma (MAGVIT).
    """

    higher_is_better = True

    def __init__(self, channels: Literal["rgb", "grey"] = "rgb") -> None:
        super().__init__()
        if channels not in ("rgb", "grey"):
            raise ValueError(f"channels {channels!r} is neither 'rgb' nor 'grey'")
        self.channels = channels

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of pairs."""
        prediction, target = check_pair(prediction, target)
        if self.channels == "grey":
            prediction, target = _grey(prediction), _grey(target)
        self.add(frame_ssim(prediction, target))


class LPIPS(MeanMetric):
    """Learned perceptual distance, mean over frames (0 = identical).

    Args:
        distance: maps two videos in [-1, 1] to their mean LPIPS, e.g. `videoar.losses.perceptual.Perceptual`. It is
            held outside the module tree, so its frozen weights never enter a checkpoint.
    """

    higher_is_better = False

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._distance = (distance,)

    @torch.no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of pairs."""
        prediction, target = check_pair(prediction, target)
        distance = self._distance[0]
        if isinstance(distance, torch.nn.Module):
            distance.to(prediction.device).eval()
        frames = prediction.shape[0] * prediction.shape[2]
        with torch.autocast(prediction.device.type, enabled=False):
            self.add(distance(prediction, target).mean().reshape(1), weight=frames)


def _differences(video: Tensor, name: str) -> Tensor:
    if video.shape[2] < 2:
        raise ValueError(f"{name} has one frame; a temporal difference needs at least 2")
    return to_unit(video).diff(dim=2)


class TemporalDifferenceError(MeanMetric):
    """Mean |Δprediction − Δtarget| between neighbouring frames, in [0, 1] pixel units (0 = the same motion)."""

    higher_is_better = False

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of pairs; one frame is a ValueError."""
        prediction, target = check_pair(prediction, target)
        error = _differences(prediction, "prediction") - _differences(target, "target")
        self.add(error.abs().mean((1, 3, 4)))


class MotionRatio(Metric):
    """Σ|Δprediction| / Σ|Δtarget|: 1 = as much motion as the target, 0 = frozen. NaN if the target is static."""

    is_differentiable = False
    full_state_update = False
    moved: Tensor
    expected: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("moved", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("expected", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch; the two need not pair, and one frame is a ValueError."""
        prediction, target = check_video(prediction, "prediction"), check_video(target, "target")
        self.moved += _wide(_differences(prediction, "prediction").abs()).mean((1, 3, 4)).sum().to(self.moved)
        self.expected += _wide(_differences(target, "target").abs()).mean((1, 3, 4)).sum().to(self.expected)

    def compute(self) -> Tensor:
        """The ratio of the two sums."""
        return self.moved / self.expected if self.expected > 0 else torch.full_like(self.moved, torch.nan)
