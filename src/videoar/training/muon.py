"""Muon: steps whose size is the same in every direction of a weight matrix (Jordan et al., 2024).

Adam divides each gradient entry by its own size. Muon takes the momentum of a whole matrix and makes its singular
values equal, so that rare directions are learned as fast as common ones. A convolution kernel [O, I, t, h, w] is the
matrix [O, I·t·h·w]. Taps without a gradient (the earlier ones, while images train) stay exactly as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from videoar.training.ema import placed_like, whole

STEPS = 5
A, B, C = 3.4445, -4.7750, 2.0315
"""The quintic whose slope at zero is steepest (Jordan); singular values end between 0.7 and 1.2."""


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought to about 1, float32, by Newton-Schulz steps.

    Every step is X → (A + B·XXᵀ + C·(XXᵀ)²)·X, a polynomial in the small square G = XXᵀ times X. So the steps run on G
    alone and X is multiplied once: a kernel of 96x2592 takes a quarter of the operations. Powers of G leave bfloat16
    within a few steps, so autocast, which is on where a training step steps the optimizer itself, does not reach here.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        wide = matrix.shape[0] <= matrix.shape[1]
        return _orthogonalised(matrix.float()) if wide else _orthogonalised(matrix.float().T).T


def _orthogonalised(x: Tensor) -> Tensor:
    x = x / x.norm().clamp(min=1e-12)
    gram = x @ x.T
    unit = torch.eye(len(x), device=x.device)
    product = A * unit + torch.addmm(gram, gram, gram, beta=B, alpha=C)
    factor = product
    for _ in range(STEPS - 1):
        gram = factor @ gram @ factor
        factor = A * unit + torch.addmm(gram, gram, gram, beta=B, alpha=C)
        product = factor @ product
    return product @ x


class Muon(torch.optim.AdamW):
    """Muon for the groups marked `matrices`, AdamW for all others, in one optimizer and one state.

    An update has the root mean square 0.2·lr, about AdamW's (Liu et al., arXiv 2502.16982), so that both take the
    same learning rate and weight decay. `step` consumes the gradients of the matrices: they are None afterwards.

    Args:
        groups: parameter groups, each with a bool `matrices`.
        momentum: decay of the mean gradient, with Nesterov's look ahead.
        options: AdamW's.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.95, **options: Any) -> None:
        super().__init__([{"momentum": momentum, **group} for group in groups], **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient; returns the closure's value."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["matrices"]:
                for parameter in group["params"]:
                    self._step_matrix(parameter, group)
        super().step()  # the rest: AdamW passes over parameters without a gradient
        return loss

    def _step_matrix(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if not state:  # `step` is what AdamW expects of every state that it loads
            state["step"], state["mean"] = torch.zeros(()), torch.zeros_like(parameter)
        gradient, mean = parameter.grad, state["mean"]
        state["step"] += 1
        mean.lerp_(gradient, 1 - group["momentum"])
        ahead = whole(gradient.lerp(mean, group["momentum"]))
        update = orthogonalised(ahead.flatten(1))
        rate = group["lr"] * 0.2 * math.sqrt(max(update.shape))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        update = placed_like(update.reshape(ahead.shape), parameter)
        parameter.add_(update.to(parameter.dtype), alpha=-rate)
        parameter.grad = None
