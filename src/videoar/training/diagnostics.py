"""What a healthy run looks like in numbers: pure functions from a batch to named scalars."""

# B batch · T pixel frames · D bits per token

from __future__ import annotations

import torch
from torch import Tensor

from videoar.bits.bsq import bit_usage
from videoar.bits.residual import Quantized
from videoar.losses.bitwise import BitwiseLoss
from videoar.metrics.pixels import frame_psnr


@torch.no_grad()
def reconstruction_report(video: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Errors of a reconstruction [B, 3, T, H, W] in [-1, 1]: over all, by frame index, and of its motion.

    `temporal_error` is mean |Δt video − Δt target|; `motion_ratio` is mean |Δt video| / mean |Δt target|: 1
    = as much motion as there should be, 0 = a frozen video. Both need two frames, and the ratio a target
    that moves.
    """
    video, target = video.detach().float().clamp(-1, 1), target.float()
    error_T = (video - target).abs().mean((0, 1, 3, 4))
    report = {"psnr": frame_psnr(video, target).mean()}
    report |= {f"l1_frame/{t:02}": error for t, error in enumerate(error_T)}
    if video.shape[2] > 1:
        moved, expected = video.diff(dim=2), target.diff(dim=2)
        report["temporal_error"] = (moved - expected).abs().mean()
        report["motion_ratio"] = moved.abs().mean() / expected.abs().mean().clamp(min=1e-4)
    return report


@torch.no_grad()
def bits_report(codes: Quantized) -> dict[str, Tensor]:
    """Per scale: mean entropy of its D bits (`bit_usage`, 1 = all used both ways) and the share of dead bits.

    A bit is dead when more than 99 % of the tokens of this batch agree on it.
    """
    report = {}
    for k, bits in enumerate(codes.bits, start=1):
        share = bits.flatten(0, -2).float().mean(0)
        report[f"bit_usage/scale_{k:02}"] = bit_usage(bits).mean()
        report[f"dead_bits/scale_{k:02}"] = ((share - 0.5).abs() > 0.49).float().mean()
    return report


def loss_report(result: BitwiseLoss) -> dict[str, Tensor]:
    """Named scalars of a loss: in all, by scale, by frame."""
    named = {"loss": result.loss, "accuracy": result.accuracy}
    for k, (loss, accuracy) in enumerate(zip(result.per_scale_loss, result.per_scale_accuracy), start=1):
        named |= {f"loss/scale_{k:02}": loss, f"accuracy/scale_{k:02}": accuracy}
    for t, (loss, accuracy) in enumerate(zip(result.per_frame_loss, result.per_frame_accuracy)):
        named |= {f"loss/frame_{t:02}": loss, f"accuracy/frame_{t:02}": accuracy}
    return named
