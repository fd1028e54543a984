"""Networks of fake tensors, which have a shape, a dtype and a device, but no data (torch's FakeTensorMode)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes


def fake(build: Callable[[], nn.Module], dtype: torch.dtype | None = None, device: str = "cpu") -> Any:
    """The module that `build` makes, with fake tensors for its parameters and buffers; inside a FakeTensorMode.

    Args:
        dtype: of what has a floating point; None: as built. device: one that this machine need not have.
    """

    def like(value: Tensor) -> Tensor:
        chosen = dtype if dtype is not None and value.is_floating_point() else value.dtype
        return torch.empty_strided(value.shape, value.stride(), dtype=chosen, device=device)

    with _disable_current_modes(), torch.device("meta"):
        module = build()
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(like(value), value.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = like(buffer)
    return module
