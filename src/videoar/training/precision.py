"""The precision that a machine is fast in: the same recipe trains in bfloat16 here and in float32 there."""

from __future__ import annotations

from typing import Any, Literal

import torch

from videoar.errors import UserError

Precision = Literal["bf16-mixed", "32-true"]
UNFIT = {
    "16": "float16, whose range the losses leave",
    "16-mixed": "float16, whose range the losses leave",
    "16-true": "float16, whose range the losses leave",
    "bf16-true": "weights in bfloat16, in which small steps are lost",
}
"""Precisions that training cannot bear, and why."""


def machine_precision(accelerator: str = "auto") -> Precision:
    """`bf16-mixed` on GPUs, and on CPUs with bfloat16 instructions (AMX, AVX-512 BF16); else `32-true`.

    Without such instructions a CPU emulates bfloat16: convolutions then take ten times as long as in float32.

    Args:
        accelerator: the Trainer's; `auto` takes a GPU where there is one.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # torch.cpu.get_capabilities() says it in public, but torch 2.11 does not have it
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if fast else "32-true"


def check_precision(precision: Any) -> None:
    """Raise UserError for a precision that training cannot bear."""
    if why := UNFIT.get(str(precision)):
        raise UserError(f"precision {precision} is {why}; use bf16-mixed or 32-true")
