"""Aesthetic quality (LAION's linear head on CLIP ViT-L/14) and imaging quality (MUSIQ): scores of single frames."""

# T frames · H W pixels

from __future__ import annotations

from torch import Tensor

from videoar.metrics.vbench.base import Backbone, VBenchDimension


class _FrameQuality(VBenchDimension):
    """Mean over frames of a learned score, then mean over videos.

    Args:
        backbone: `run(frames [T, 3, H, W]) -> [T]`, on the scale 0 … `best`.
    """

    best: float

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)

    def score(self, frames: Tensor, fps: float) -> tuple[Tensor, float]:
        scores = self.net.run(frames)
        if scores.shape != (len(frames),):
            raise ValueError(f"{self.key}: {tuple(scores.shape)} scores for {len(frames)} frames")
        return scores.double().mean() / self.best, 1.0


class AestheticQuality(_FrameQuality):
    """LAION aesthetic score (0 … 10) / 10."""

    dimension = "aesthetic_quality"
    best = 10.0


class ImagingQuality(_FrameQuality):
    """MUSIQ-SPAQ score (0 … 100) / 100."""

    dimension = "imaging_quality"
    best = 100.0
