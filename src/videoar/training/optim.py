"""AdamW or Muon, the learning-rate schedule as a pure function, and one clipped, checked optimizer step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from videoar.ranges import COUNT, INDEX, SHARE, WEIGHT, Range, check_given
from videoar.training.ema import whole
from videoar.training.muon import Muon


@dataclass
class OptimConfig:
    """How one network is optimised. Lengths count training batches, as Lightning's loggers do.

    Raises:
        ValueError: numbers outside their range.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon: Muon for the kernels of convolutions and linear layers, AdamW for all else, at the same lr."""
    lr: float = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates."""
    weight_decay: float = 0.05
    """Decoupled weight decay of linear layers' matrices and of kernels; biases, gains and embeddings have none."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: down to `final` along a half cosine, or flat."""
    warmup: int = 0
    """Batches of linear warm-up."""
    restarts: list[int] = field(default_factory=list)
    """Batches from which the warm-up is repeated: stages that bring weights into play which had no gradient before (the
    earlier temporal taps when images give way to video) and would leap, as Adam does not know their scale yet."""
    total: int | None = None
    """Batches until the cosine ends; None: the length of the run, as the Trainer's max_steps or max_epochs say."""
    final: float = 0.0
    """Where the cosine ends, as a share of lr."""
    clip: float = 1.0
    """Largest gradient norm; 0: no clipping."""

    def __post_init__(self) -> None:
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        check_given(self, lr=WEIGHT, weight_decay=WEIGHT, clip=WEIGHT, warmup=INDEX, total=COUNT, final=SHARE)
        for beta in self.betas:
            Range(0, 0.9999999, whole=False).check("a beta", beta)
        for start in self.restarts:
            INDEX.check("a restart", start)
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}: choose adamw or muon")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"unknown schedule {self.schedule!r}: choose cosine or constant")

    def lr_at(self, batch: int, total: int | None) -> float:
        """The learning rate of training batch number `batch` (from 0) of a run of `total` batches.

        Raises:
            ValueError: a cosine over a run that has no end.
        """
        since = batch - max((start for start in self.restarts if start <= batch), default=0)
        ramp = min(1.0, (since + 1) / max(1, self.warmup))
        if batch < self.warmup or self.schedule == "constant":
            return self.lr * ramp
        total = self.total or total
        if total is None:
            raise ValueError(
                "a cosine schedule needs a length: set optim.total, trainer.max_steps or trainer.max_epochs,"
                " or choose schedule: constant"
            )
        progress = min(1.0, (batch - self.warmup) / max(1, total - self.warmup))
        return self.lr * ramp * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))


def batches_of(steps: int, accumulate: int, epoch: float) -> int:
    """Training batches that `steps` optimizer steps take, in epochs of `epoch` batches (or one without end).

    An epoch ends the window it falls into, so its last step may be made of fewer batches than `accumulate`.
    """
    if epoch == float("inf") or epoch <= 0:
        return steps * accumulate
    epochs, rest = divmod(steps, math.ceil(epoch / accumulate))
    return epochs * int(epoch) + rest * accumulate


def make_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """The optimizer of the network's trainable parameters; `matrices` alone are decayed, and what Muon is for.

    Fused: one pass over weights, gradients and moments, without temporary copies (docs/performance.md).
    """
    trainable, chosen = [p for p in network.parameters() if p.requires_grad], matrices(network)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p in chosen], "weight_decay": config.weight_decay, "matrices": True},
        {"params": [p for p in trainable if p not in chosen], "weight_decay": 0.0, "matrices": False},
    ]
    groups = [group for group in groups if group["params"]]
    make = Muon if config.optimizer == "muon" else torch.optim.AdamW
    return make(groups, lr=config.lr, betas=config.betas, fused=True)


def matrices(network: nn.Module) -> set[nn.Parameter]:
    """The matrices of linear layers and the kernels of convolutions: what weight decay pulls to zero, and Muon steps.

    Not by shape: embeddings and learned offsets have two axes as well, and decay would erase what is rarely seen.
    (VAR and Infinity exempt theirs by name.)
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | _ConvNd)]
    return {p for layer in layers for p in layer.parameters() if p.ndim >= 2}


def numbered_by_place(state: dict[str, Any], optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Any]:
    """An optimizer's state in which every parameter has the number of its place in `network`, not in the groups.

    So a sharded strategy writes and reads them; all other optimizers go by the order of the saved groups. A checkpoint
    may then move between strategies.
    """
    place = {id(parameter): number for number, parameter in enumerate(network.parameters())}
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if not place.keys() >= set(held):
        return state  # an optimizer of something else
    groups = [group | {"params": [place[held[n]] for n in group["params"]]} for group in state["param_groups"]]
    return state | {"state": {place[held[n]]: kept for n, kept in state["state"].items()}, "param_groups": groups}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate, times its `lr_share` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_share", 1.0)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients in place so that their joint norm is at most `limit` (0: leave them); returns the norm before.

    Called between backward and step, by us: manual optimisation has no clipping of Lightning's.
    """
    norm = torch.nn.utils.clip_grad_norm_(list(parameters), limit if limit > 0 else math.inf)
    return whole(norm)  # sharded parameters give a sharded norm
