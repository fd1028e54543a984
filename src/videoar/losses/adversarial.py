"""The adversarial terms of the tokenizer's objective (paper eq. 4): one function for each side of the game.

All terms are computed in float32, whatever the precision of the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GanKind = Literal["hinge", "non_saturating"]


def generator_loss(fake_logits: Tensor, kind: GanKind = "hinge") -> Tensor:
    """What the tokenizer minimises to make the discriminator call its reconstructions real; scalar.

    hinge: −E[D(x̂)]. non_saturating: E[softplus(−D(x̂))].
    """
    fake = fake_logits.float()
    if kind == "hinge":
        return -fake.mean()
    if kind == "non_saturating":
        return F.softplus(-fake).mean()
    raise ValueError(f"unknown GAN loss {kind!r}: choose hinge or non_saturating")


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: GanKind = "hinge") -> Tensor:
    """What the discriminator minimises to tell real videos from reconstructions; a scalar.

    hinge: ½E[relu(1 − D(x))] + ½E[relu(1 + D(x̂))]. non_saturating: ½E[softplus(−D(x))] +
        ½E[softplus(D(x̂))].
    """
    real, fake = real_logits.float(), fake_logits.float()
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    if kind == "non_saturating":
        return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
    raise ValueError(f"unknown GAN loss {kind!r}: choose hinge or non_saturating")


def gradient_penalty(real_logits: Tensor, real_video: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406): ½·E‖∂ΣD(x)/∂x‖² over the clips of the batch; scalar.

    Args:
        real_logits: the discriminator's logits of `real_video`, with their graph.
        real_video: [B, 3, T, H, W], with requires_grad set before the discriminator saw it.
    """
    with torch.autocast(real_video.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(real_logits.float().sum(), real_video, create_graph=True)
        return 0.5 * gradient.float().square().flatten(1).sum(1).mean()


def adaptive_weight(
    reconstruction_loss: Tensor,
    gan_loss: Tensor,
    last_layer: Tensor,
    limit: float = 1e4,
    average: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Tensor:
    """VQGAN's balance: ‖∂L_rec/∂W‖ / ‖∂L_gan/∂W‖ for the decoder's last weights W; a detached scalar.

    Both norms are taken in float32 and a ratio that is not finite counts as 0, because low precision and
    vanishing GAN gradients otherwise turn this single number into NaN for the whole run.

    Args:
        last_layer: the parameter W; both losses must depend on it. Their graphs are kept.
        average: averages a gradient over ranks, so that every rank finds the weight of the joint batch.
    """
    norms = []
    for loss in (reconstruction_loss, gan_loss):
        (gradient,) = torch.autograd.grad(loss, last_layer, retain_graph=True)
        norms.append(average(gradient.float()).norm())
    ratio = norms[0] / (norms[1] + 1e-4)
    return torch.nan_to_num(ratio, nan=0.0, posinf=0.0).clamp(0.0, limit).detach()
