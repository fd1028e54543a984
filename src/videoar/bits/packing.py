"""Bits in bytes: a token of D bits takes D/8 bytes on disk, where a bool tensor takes D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pack_bits(bits: Tensor) -> Tensor:
    """bool [..., D] → uint8 [..., ceil(D / 8)], the first bit lowest; missing bits of the last byte are zero."""
    if bits.dtype != torch.bool:
        raise ValueError(f"bits must be bool, got {bits.dtype}")
    padded = F.pad(bits, (0, -bits.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (padded << torch.arange(8, device=bits.device)).sum(-1).to(torch.uint8)


def unpack_bits(packed: Tensor, D: int) -> Tensor:
    """The inverse: uint8 [..., ceil(D / 8)] → bool [..., D].

    Raises:
        ValueError: another dtype, or not the bytes of D bits.
    """
    if packed.dtype != torch.uint8 or packed.shape[-1] != -(-D // 8):
        raise ValueError(f"{D} bits are {-(-D // 8)} bytes uint8, got {packed.dtype} {list(packed.shape)}")
    bits = (packed[..., None] >> torch.arange(8, device=packed.device, dtype=torch.uint8)) & 1
    return bits.flatten(-2)[..., :D].bool()
