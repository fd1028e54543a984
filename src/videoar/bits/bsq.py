"""Binary spherical quantisation (BSQ, arXiv 2406.07548): a vector becomes the signs of its D components.

Codes are bits as ±1/√D, so every code lies on the unit sphere. There is no codebook and no integer index: 2^D codes
exist, and D bits name one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bits_of(x: Tensor) -> Tensor:
    """The bits of a continuous vector, bool of the same shape: component > 0."""
    return x > 0


def code_of(bits: Tensor, dtype: torch.dtype = torch.float32, dim: int = -1) -> Tensor:
    """The code ±1/√D of bits whose axis `dim` has length D; same shape, of `dtype`."""
    scale = 1 / math.sqrt(bits.shape[dim])
    return (bits.to(dtype) * 2 - 1) * scale


def binary_entropy(p: Tensor) -> Tensor:
    """Entropy of Bernoulli(p) in bits (0 … 1). p stays off 0 and 1, where the slope is infinite."""
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log2() + (1 - p) * (1 - p).log2())


def soft_bits(x: Tensor, dim: int = -1, inverse_temperature: float = 100.0) -> Tensor:
    """P(bit = 1) of the soft assignment p(code | x) ∝ exp(τ·⟨x/|x|, code⟩), which factorises over bits (BSQ §3.2).

    ⟨u, c⟩ changes by 2·u_d/√D when bit d flips, so P(bit_d = 1) = σ(2·τ·u_d/√D). Peers start from the squared distance,
    −τ·|u − c|², which gives 4·τ: their inverse temperature of 100 is 200 here.
    """
    unit = F.normalize(x.float(), dim=dim)
    return torch.sigmoid(unit * (2 * inverse_temperature / math.sqrt(x.shape[dim])))


def bit_usage(bits: Tensor) -> Tensor:
    """Entropy in bits of each of the D bits over all other axes, float [D]: 1 = used both ways equally, 0 = constant.

    Args:
        bits: bool [..., D].
    """
    return binary_entropy(bits.flatten(0, -2).float().mean(0))
