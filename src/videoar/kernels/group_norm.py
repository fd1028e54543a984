"""GroupNorm for training on a CPU in channels-last memory.

There torch's backward pass reads a group's channels one vector at a time, and takes up to 25 times longer where a group
is narrower than a vector. This twin keeps torch's forward pass and sums over pixels first, for all channels at once:

    x̂ = (x − μ)·r                      μ, r: mean and 1/deviation of a group
    ∂x = r·(γ·∂y − mean(γ·∂y) − x̂·mean(γ·∂y·x̂)) = c1·∂y + c2·x + c3, with c1 … c3 constant over a frame's pixels
    ∂γ = Σ ∂y·x̂      ∂β = Σ ∂y
"""

# N frames · C channels · G groups · D channels of a group · S pixels

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.kernels import enabled

VECTOR = 32  # bytes of the vector registers that torch's kernels are written for
PIECE = 2**18  # elements handled at once: their float32 copies stay in the cache


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`F.group_norm` of x [N, C, H, W]; the same values, and gradients to float round-off."""
    if torch.compiler.is_compiling() or not (enabled("group_norm") and _faster(x, groups)):
        return F.group_norm(x, groups, weight, bias, eps)
    return _GroupNorm.apply(x, weight, bias, groups, eps)


def _faster(x: Tensor, groups: int) -> bool:
    narrow = x.shape[1] // groups * x.element_size() < VECTOR
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return x.device.type == "cpu" and torch.is_grad_enabled() and x.requires_grad and narrow and channels_last


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        N, C, H, W = x.shape
        strided = x.as_strided(x.shape, (H * W * C, 1, W * C, C))  # sides of 1 may have any stride; old torch minds
        y, mean, rstd = torch.native_group_norm(strided, weight, bias, N, C, H * W, groups, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.groups, ctx.eps = groups, eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted: torch's formula has one
            y = F.group_norm(x, ctx.groups, weight, bias, ctx.eps)
            inputs = [t for t, needed in zip((x, weight, bias), ctx.needs_input_grad) if needed]
            found = iter(torch.autograd.grad(y, inputs, grads[0], create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None
        return *_backward(grads[0], x, weight, mean, rstd, ctx.groups), None, None


def _backward(grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, G: int) -> tuple[Tensor, ...]:
    """Gradients of x, weight and bias, with sums in float32 (float64 for float64)."""
    exact = torch.promote_types(x.dtype, torch.float32)
    x_NSC, grad_NSC = (t.permute(0, 2, 3, 1).flatten(1, 2) for t in (x, grad))
    _, S, C = x_NSC.shape
    gamma, grad_x = weight.to(exact).unflatten(0, (G, -1)), torch.empty_like(x_NSC)
    grad_gamma, grad_beta = torch.zeros_like(gamma), torch.zeros_like(gamma)
    pieces = (t.split(max(1, PIECE // (S * C))) for t in (grad_NSC, x_NSC, mean.to(exact), rstd.to(exact), grad_x))
    for grad_part, x_part, mean_part, rstd_part, out in zip(*pieces):
        dy, values = grad_part.to(exact), x_part.to(exact)
        mu, r = mean_part[..., None], rstd_part[..., None]
        sum_dy, sum_dy_x = (t.sum(1).unflatten(1, (G, -1)) for t in (dy, dy * values))  # [n, G, D]
        sum_dy_xhat = (sum_dy_x - mu * sum_dy) * r
        mean_dy, mean_dy_xhat = ((gamma * t).sum(-1, keepdim=True) * (G / (S * C)) for t in (sum_dy, sum_dy_xhat))
        c2 = -mean_dy_xhat * r * r
        c3 = -mean_dy * r - c2 * mu
        c1, c2, c3 = (c.expand_as(sum_dy).flatten(1)[:, None] for c in (gamma * r, c2, c3))
        out.copy_(torch.addcmul(c3, values, c2).addcmul_(dy, c1))
        grad_gamma += sum_dy_xhat.sum(0)
        grad_beta += sum_dy.sum(0)
    back = grad_x.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    return back, grad_gamma.flatten().to(weight.dtype), grad_beta.flatten().to(weight.dtype)
