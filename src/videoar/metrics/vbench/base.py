"""The common part of a VBench dimension: a weighted mean over videos of what `score` says about one video."""

# B batch · T frames · H W pixels

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from videoar.metrics.preprocess import check_video
from videoar.motion import levels


@dataclass(frozen=True)
class Backbone:
    """A network (or an algorithm) behind a dimension.

    Attributes:
        name: what reports call it, e.g. "DINO ViT-B/16 (timm)".
        run: the callable; each dimension states its signature. Frames go in as float32 [N, 3, H, W], 0 … 255.
        substitute: None for the network VBench uses, else the short name that marks the score.
        sha256: hash of its weights, None if it has none.
    """

    name: str
    run: Callable[..., Tensor]
    substitute: str | None = None
    sha256: str | None = None


class VBenchDimension(Metric):
    """One VBench dimension. Values are raw (before normalisation), higher is better.

    Attributes:
        dimension: VBench's name with underscores.
        min_frames: fewest frames a video needs.
    """

    dimension: ClassVar[str]
    min_frames: ClassVar[int] = 1
    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def key(self) -> str:
        """`dimension`, or `dimension@substitute` where the number is not VBench's."""
        mark = self.backbone.substitute if self.backbone else None
        return self.dimension if mark is None else f"{self.dimension}@{mark}"

    @property
    def net(self) -> Backbone:
        """The backbone; a dimension without one has no use for this."""
        if self.backbone is None:
            raise ValueError(f"{self.dimension} needs a backbone")
        return self.backbone

    @abstractmethod
    def score(self, frames: Tensor, fps: float) -> tuple[Tensor, float]:
        """(sum, weight) of one video, frames float32 [T, 3, H, W] holding whole numbers 0 … 255; the sum is float64."""

    @torch.no_grad()
    def update(self, video: Tensor, fps: float) -> None:
        """Add videos [B, 3, T, H, W] in [-1, 1] shown at `fps` frames a second; the host waits for their range alone.

        Raises:
            ValueError: bad range or shape, fewer than `min_frames` frames, or fps ≤ 0.
        """
        if video.ndim == 5 and video.shape[2] < self.min_frames:
            raise ValueError(f"{self.dimension} needs at least {self.min_frames} frames, got {video.shape[2]}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        for clip in levels(check_video(video)):
            with torch.autocast(clip.device.type, enabled=False):
                value, weight = self.score(clip.transpose(0, 1), fps)
            self.total += value
            self.weight += weight

    def compute(self) -> Tensor:
        """The weighted mean, float64 on the CPU; ValueError without videos, or where a score was not finite."""
        total, weight = (float(x) for x in torch.stack([self.total, self.weight]).cpu())
        if weight == 0:
            raise ValueError(f"{self.key} was computed before any video was added")
        if not math.isfinite(total):
            raise ValueError(f"{self.key} gave {total}")
        return torch.tensor(total / weight, dtype=torch.float64)
