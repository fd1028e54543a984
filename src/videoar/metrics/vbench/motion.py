"""Temporal flickering, motion smoothness, dynamic degree."""

# T frames · H W pixels

from __future__ import annotations

import torch
from torch import Tensor

from videoar.metrics.vbench.base import Backbone, VBenchDimension


class TemporalFlickering(VBenchDimension):
    """(255 − mean |x_t − x_{t+1}|) / 255, mean over videos. No network: exactly VBench's number on the same pixels.

    VBench scores its standard prompts after a filter that keeps static videos; without it (its custom mode, and
    here) a video that moves loses points for moving.
    """

    dimension = "temporal_flickering"
    min_frames = 2

    def score(self, frames: Tensor, fps: float) -> tuple[Tensor, float]:
        return 1 - frames.diff(dim=0).abs().mean(dtype=torch.float32).double() / 255, 1.0


class MotionSmoothness(VBenchDimension):
    """Drop every second frame, interpolate it back, compare: (255 − mean |odd − interpolated|) / 255.

    Args:
        backbone: `run(frames [n, 3, H, W]) -> [n − 1, 3, H, W]`, the frames half-way between neighbours, 0 … 255.
            VBench uses AMT-S.
    """

    dimension = "motion_smoothness"
    min_frames = 3

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)

    def score(self, frames: Tensor, fps: float) -> tuple[Tensor, float]:
        between = self.net.run(frames[::2]).clamp(0, 255).floor()
        odd = frames[1::2][: len(between)]
        return 1 - (odd - between).abs().mean((1, 2, 3)).mean().double() / 255, 1.0


def large_motion(flow: Tensor, share: float = 0.05) -> Tensor:
    """Mean length of the largest `share` of flow vectors [N, 2, H, W] → [N], in pixels."""
    lengths = flow.square().sum(1).sqrt().flatten(1)
    return lengths.topk(max(1, int(lengths.shape[1] * share)), dim=1).values.mean(1)


class DynamicDegree(VBenchDimension):
    """Share of videos that move: enough frame pairs whose largest flow exceeds a threshold that grows with the size.

    Frames are taken at about 8 a second; a pair moves if the mean of its top 5 % flow exceeds 6·min(H, W)/256
    pixels; a video of n kept frames moves if round(n/4) pairs do (at least one, where VBench's rounding gives none).

    Args:
        backbone: `run(first [N, 3, H, W], second [N, 3, H, W]) -> flow [N, 2, H', W']` in pixels. VBench uses RAFT.
    """

    dimension = "dynamic_degree"
    min_frames = 2

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)

    def score(self, frames: Tensor, fps: float) -> tuple[Tensor, float]:
        kept = frames[:: max(1, round(fps / 8))]
        if len(kept) < 2:
            raise ValueError(f"dynamic_degree: {len(frames)} frames at {fps:g} fps leave one frame at 8 fps")
        threshold = 6.0 * min(kept.shape[-2:]) / 256
        pairs = zip(kept[:-1].split(1), kept[1:].split(1))
        moving = torch.cat([large_motion(self.net.run(first, second)) > threshold for first, second in pairs]).sum()
        return (moving >= max(1, round(4 * len(kept) / 16))).double(), 1.0
