"""PSNR and SSIM of single frames, as pure functions: nothing here needs torchmetrics, which is slow to import."""

# B batch · T frames · H W pixels

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.kernels.transfer import sent
from videoar.metrics.preprocess import frames_of, to_unit

PSNR_CAP = 100.0  # dB, for identical frames (MSE = 0)


def frame_psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """PSNR of every frame in dB, [B, T]; peak 1 in [0, 1], capped at 100."""
    return psnr_of_mse((to_unit(prediction) - to_unit(target)).square().mean((1, 3, 4)))


def psnr_of_mse(mse: Tensor) -> Tensor:
    """PSNR in dB of mean squared errors in [0, 1] units, capped at 100."""
    return (-10 * torch.log10(mse.clamp(min=10 ** (-PSNR_CAP / 10)))).clamp(max=PSNR_CAP)


def _gaussian(size: int = 11, sigma: float = 1.5) -> Tensor:
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-x.square() / (2 * sigma**2))
    return (window / window.sum()).float()


def frame_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM of every frame [B, T]: Gaussian 11x11 (σ 1.5), valid region, per channel, values in [0, 1].

    Raises:
        ValueError: a side shorter than the 11-pixel window.
    """
    if min(prediction.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs sides of at least 11 pixels, got {tuple(prediction.shape[-2:])}")
    x, y = (frames_of(to_unit(v)).flatten(0, 1).unsqueeze(1) for v in (prediction, target))
    window = sent(_gaussian(), x.device).to(x.dtype)

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score = score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return score.mean((1, 2, 3)).view(prediction.shape[0], prediction.shape[2], 3).mean(-1)
