"""Drawing bits from logits, with one independent random stream a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from videoar.kernels.transfer import sent


class Noise:
    """Uniform noise for the bits of one frame at a time.

    Every sample has its own stream, seeded by its own number and drawn on the CPU, so a sample does not depend on the
    batch it is in nor on the device.
    """

    def __init__(self, seeds: list[int], tokens: int, bits: int, device: torch.device) -> None:
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape, self.device = (tokens, bits), device

    def frame(self) -> Tensor:
        """Noise for the next frame, float [B, tokens, bits] in [0, 1)."""
        noise = torch.stack([torch.rand(self.shape, generator=stream) for stream in self.streams])
        return sent(noise, self.device)


def draw_bits(logits: Tensor, noise: Tensor, temperature: float = 1.0, greedy: bool = False) -> Tensor:
    """Bits ~ Bernoulli(σ(logits / temperature)), bool of the logits' shape.

    Args:
        noise: uniform [0, 1) of the same shape.
        greedy: the more likely value of every bit; noise and temperature are not used.
    """
    return logits > 0 if greedy else noise < torch.sigmoid(logits.float() / temperature)
