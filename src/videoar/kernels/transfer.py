"""Small tensors on their way to the device and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """x on `device`; the host does not wait for a GPU, as it would with `x.to(device)`."""
    if torch.device(device).type != "cuda" or x.is_cuda:
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def fetched(values: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Numbers and small tensors by name, float32 on the CPU; for all those of a device together the host waits once."""
    found = {name: torch.as_tensor(value).detach() for name, value in values.items()}
    away = {name: x for name, x in found.items() if x.device.type != "cpu"}
    if away:
        together = torch.cat([x.reshape(-1).float() for x in away.values()]).cpu()
        parts = together.split([x.numel() for x in away.values()])
        found |= {name: part.view(x.shape) for (name, x), part in zip(away.items(), parts)}
    return {name: x.float() for name, x in found.items()}
