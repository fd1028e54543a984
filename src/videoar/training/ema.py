"""An exponential moving average of one network's weights, under its own key in the checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """Averaged weights of one network, in float32.

    The decay is min(decay, (1 + n) / (10 + n)) at update n, so that the average of a young model is not its
    initialisation. It holds plain tensors, is no `nn.Module`, and so adds nothing to a state_dict.

    Attributes:
        weights: name → averaged tensor; empty until `start` or `load_state_dict`. While they are swapped in, those of
            the network's own dtype hold the network's weights instead: the two change places.
        updates: number of updates so far.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the EMA's decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}
        self._live: dict[
            str, Tensor
        ] = {}  # the network's own, found once: a walk over all modules takes the host's time

    @property
    def swapped_in(self) -> bool:
        """Does the network hold the averaged weights at the moment?"""
        return bool(self._raw)

    @staticmethod
    def _averaged(network: nn.Module) -> dict[str, Tensor]:
        state = network.state_dict(keep_vars=True)  # the parameters themselves, as an optimizer holds them
        return {name: value for name, value in state.items() if value.is_floating_point()}

    @torch.no_grad()
    def start(self, network: nn.Module) -> None:
        """Begin at the network's weights, or go on with loaded ones; both on the network's device."""
        self._live = self._averaged(network)
        source = self.weights or self._live
        self.weights = {name: placed_like(source[name], value) for name, value in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights of the network it was started with, after one optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = [value.float() for value in self._live.values()]
        torch._foreach_lerp_([self.weights[name] for name in self._live], now, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def swap_in(self, network: nn.Module) -> None:
        """Put the averaged weights into the network and keep its own aside. Does nothing before `start`."""
        if not self.weights or self.swapped_in:
            return
        for name, value in self._averaged(network).items():
            raw = value.detach().clone()
            value.copy_(self.weights[name])
            if value.dtype == torch.float32:  # no third copy of all weights
                self._raw[name] = self.weights[name].copy_(raw)
            else:
                self._raw[name] = raw

    @torch.no_grad()
    def swap_out(self, network: nn.Module) -> None:
        """Give the network its own weights back, bit for bit."""
        for name, value in self._averaged(network).items():
            if name not in self._raw:
                continue
            average = value.detach().clone() if self._raw[name] is self.weights[name] else None
            value.copy_(self._raw[name])
            if average is not None:
                self.weights[name].copy_(average)
        self._raw = {}

    def state_dict(self) -> dict[str, Any]:
        """Plain data for the checkpoint; of sharded weights, one after the other, the first rank keeps the whole."""
        full = {name: gathered(value) for name, value in self.weights.items()}
        kept = {name: value for name, value in full.items() if value is not None}
        return {"decay": self.decay, "updates": self.updates, "weights": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved average; the decay stays as configured."""
        self.updates = int(state["updates"])
        self.weights = dict(state["weights"])


def whole(value: Tensor) -> Tensor:
    """A sharded tensor, gathered; any other as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def gathered(value: Tensor) -> Tensor | None:
    """A tensor for a checkpoint, which the first rank writes: sharded ones whole, on its CPU, and None elsewhere."""
    if not hasattr(value, "full_tensor"):
        return value
    full = whole(value)  # all ranks take part
    return full.cpu() if torch.distributed.get_rank() == 0 else None


def placed_like(source: Tensor, target: Tensor) -> Tensor:
    """A float32 copy of `source`, placed (and sharded) as `target` is."""
    if hasattr(target, "device_mesh") and not hasattr(source, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(target, DTensor)
        return distribute_tensor(source.to(target.device).float(), target.device_mesh, target.placements)
    return source.detach().to(target.device, torch.float32, copy=True)
