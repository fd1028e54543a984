"""Subject consistency (DINO) and background consistency (CLIP): do all frames show the same thing?"""

# T frames · H W pixels · d feature width

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from videoar.metrics.vbench.base import Backbone, VBenchDimension


class _Consistency(VBenchDimension):
    """For every frame after the first: ½·[max(0, cos to the frame before) + max(0, cos to the first)].

    The total is the mean over all such frames of all videos, so a long video weighs more (as in VBench's
    single-process run).

    Args:
        backbone: `run(frames [T, 3, H, W]) -> [T, d]`.
    """

    min_frames = 2

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)

    def score(self, frames: Tensor, fps: float) -> tuple[Tensor, float]:
        features = F.normalize(self.net.run(frames).double(), dim=-1)
        to_previous = (features[1:] * features[:-1]).sum(-1).clamp(min=0)
        to_first = (features[1:] * features[:1]).sum(-1).clamp(min=0)
        return (to_previous + to_first).sum() / 2, float(len(frames) - 1)


class SubjectConsistency(_Consistency):
    """Consistency of DINO ViT-B/16 features."""

    dimension = "subject_consistency"


class BackgroundConsistency(_Consistency):
    """Consistency of CLIP ViT-B/32 image features."""

    dimension = "background_consistency"
