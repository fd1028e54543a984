"""LeCAM regularisation (arXiv 2104.03310): keeps the discriminator's logits near their own running means."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeCAM(nn.Module):
    """E[relu(D(x) − α_fake)²] + E[relu(α_real − D(x̂))²], where α are running means of the logits; a scalar.

    This is the rectified form of the authors' code: only logits that lie beyond the other side's mean are
    pulled back. The running means are buffers, so they are checkpointed and follow the module to its device;
    the first batch sets them, and a batch whose logits are not finite leaves them alone.

    Args:
        decay: how much of the running mean stays at each update.
    """

    real: Tensor
    fake: Tensor
    updates: Tensor

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"LeCAM's decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(
        self,
        real_logits: Tensor,
        fake_logits: Tensor,
        average: Callable[[Tensor], Tensor] = lambda mean: mean,
    ) -> None:
        """Move the running means towards this batch's (`average`: over ranks, so that all hold the same)."""
        means = average(torch.stack([real_logits.float().mean(), fake_logits.float().mean()]))
        finite = means.isfinite().all()
        weight = torch.where(self.updates == 0, 1.0, 1.0 - self.decay)
        weight = torch.where(finite, weight, 0.0)
        means = torch.nan_to_num(means)
        self.real.lerp_(means[0], weight)
        self.fake.lerp_(means[1], weight)
        self.updates += finite.long()

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The penalty of one batch of logits (any shapes) against the running means."""
        beyond_real = F.relu(real_logits.float() - self.fake)
        beyond_fake = F.relu(self.real - fake_logits.float())
        return beyond_real.square().mean() + beyond_fake.square().mean()
