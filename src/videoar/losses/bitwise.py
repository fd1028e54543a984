"""The generator's objective: binary cross-entropy of every bit (paper §4.2), by scale and by frame."""

# B batch · T latent frames · N tokens per frame · L = T·N tokens · D bits per token · K scales

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.bits.pyramid import ScalePyramid
from videoar.kernels.transfer import sent


@dataclass(frozen=True)
class BitwiseLoss:
    """The loss and what it is made of. All but `loss` are detached; untrained: loss ln 2, accuracy ½.

    Attributes:
        loss: what is minimised: nats per bit, a scalar.
        accuracy: share of bits whose sign the logits get right, a scalar.
        per_scale_loss, per_scale_accuracy: [K], coarse to fine.
        per_frame_loss, per_frame_accuracy: [T].
    """

    loss: Tensor
    accuracy: Tensor
    per_scale_loss: Tensor
    per_scale_accuracy: Tensor
    per_frame_loss: Tensor
    per_frame_accuracy: Tensor


def bitwise_loss(
    logits: Tensor,
    targets: Tensor,
    pyramid: ScalePyramid,
    frames: int,
    scale_weights: Sequence[float] | None = None,
) -> BitwiseLoss:
    """Binary cross-entropy of logits [B, L, D] against target bits [B, L, D], in float32.

    Without `scale_weights` every bit counts the same, so fine scales, which have more tokens, dominate. With
    them every bit of scale k counts w_k, and the sum is divided by the total weight.

    Raises:
        ValueError: shapes that do not fit the pyramid, or weights that do not fit its scales.
    """
    if logits.shape != targets.shape or logits.shape[1] != pyramid.sequence_length(frames):
        raise ValueError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must both be [B, L, D] with"
            f" L = {frames} frames of {pyramid.length} tokens = {pyramid.sequence_length(frames)}"
        )
    logits = logits.float()
    bce_BLD = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    loss_TN = bce_BLD.mean((0, 2)).unflatten(0, (frames, pyramid.length))
    right_TN = ((logits > 0) == targets).float().mean((0, 2)).unflatten(0, (frames, pyramid.length))
    if scale_weights is None:
        loss = loss_TN.mean()
    else:
        weight_N = _token_weights(scale_weights, pyramid, logits.device)
        loss = (loss_TN * weight_N).sum() / (weight_N.sum() * frames)
    loss_TN = loss_TN.detach()
    return BitwiseLoss(
        loss=loss,
        accuracy=right_TN.mean(),
        per_scale_loss=torch.stack([loss_TN[:, s].mean() for s in pyramid.slices]),
        per_scale_accuracy=torch.stack([right_TN[:, s].mean() for s in pyramid.slices]),
        per_frame_loss=loss_TN.mean(1),
        per_frame_accuracy=right_TN.mean(1),
    )


def _token_weights(scale_weights: Sequence[float], pyramid: ScalePyramid, device: torch.device) -> Tensor:
    """The weight of each token of a frame, [N]."""
    if len(scale_weights) != len(pyramid) or min(scale_weights) < 0 or sum(scale_weights) <= 0:
        raise ValueError(
            f"scale_weights {list(scale_weights)} must be {len(pyramid)} numbers >= 0, one a scale, not all 0"
        )
    return sent(torch.tensor(scale_weights, dtype=torch.float32), device)[pyramid.scale_ids(device)]
