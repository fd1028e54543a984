"""The entropy penalty of the tokenizer's bits (BSQ, arXiv 2406.07548, §3.2): sure of each, and all used both ways."""

# B batch · D bits per token · T latent frames · h w grid of one scale · K scales

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from videoar.bits.bsq import binary_entropy, soft_bits

MOST_SCALES = 32


class EntropyPenalty(nn.Module):
    """Per-sample entropy − codebook entropy of a batch's soft bits, in bits per bit, meaned over scales; a scalar.

    The codebook's entropy is that of the mean soft bit over *the data*, and a batch is a poor estimate of it: the first
    scale has one token a frame, and the frames of one clip look alike. So the mean runs over the last `memory` latent
    frames of all ranks, and the gradient goes through the current batch at full strength:

        ∂H(E[p]) = H′(E[p])·E[∂p]       E[p] from the running mean,  E[∂p] from the batch

    Both are means over the batch, so micro-batches and ranks, whose gradients are averaged, add up to the joint batch.
    The running sums are buffers: a resumed run goes on with them.

    Args:
        latent_dim: bits per token D.
        inverse_temperature: see `soft_bits`.
        memory: latent frames, of all ranks, after which a soft bit counts 1/e; 0: the batch alone.
    """

    sums: Tensor
    weights: Tensor

    def __init__(self, latent_dim: int, inverse_temperature: float = 100.0, memory: float = 256.0) -> None:
        super().__init__()
        self.inverse_temperature, self.memory = inverse_temperature, memory
        self.register_buffer("sums", torch.zeros(MOST_SCALES, latent_dim))
        self.register_buffer("weights", torch.zeros(MOST_SCALES, 1))

    def forward(self, residuals: Sequence[Tensor], average: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """The penalty. In training mode the batch enters the running mean first; else the mean stays as it is.

        Args:
            residuals: [B, D, T, h, w] of each scale, whose signs are the bits.
            average: of a detached tensor over ranks.
        """
        soft = [soft_bits(x, 1, self.inverse_temperature).movedim(1, -1).flatten(0, -2) for x in residuals]
        sample = torch.stack([binary_entropy(p).mean() for p in soft])
        batch_KD = torch.stack([p.mean(0) for p in soft])
        if self.training:
            self._remember(average(batch_KD.detach()), frames=residuals[0].shape[0] * residuals[0].shape[2])
        sums, weights = self.sums[: len(soft)], self.weights[: len(soft)]
        mean_KD = torch.where(weights > 0, sums / weights.clamp(min=1e-12), batch_KD.detach())
        codebook = binary_entropy(mean_KD + batch_KD - batch_KD.detach()).mean(1)
        return (sample - codebook).mean()

    @torch.no_grad()
    def _remember(self, batch_KD: Tensor, frames: int) -> None:
        """Into the running mean; `weights` stay below 1 while the memory fills."""
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        keep = math.exp(-frames * ranks / self.memory) if self.memory > 0 else 0.0
        for total, new in ((self.sums, batch_KD), (self.weights, 1.0)):
            total[: len(batch_KD)] = keep * total[: len(batch_KD)] + (1 - keep) * new
