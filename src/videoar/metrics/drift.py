"""Quality against frame index: does a long video fade, blur, shift its colours or freeze as it goes on?"""

# B batch · T frames · H W pixels

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from videoar.metrics.pixels import frame_psnr
from videoar.metrics.preprocess import check_video, frames_of
from videoar.motion import levels

MEASURES = ("sharpness", "contrast", "saturation", "colour_shift", "motion")


def frame_measures(video: Tensor) -> dict[str, Tensor]:
    """No-reference measures of every frame, each [B, T], in 0-255 units.

    - sharpness: mean |Laplacian| of the luma;
    - contrast: standard deviation of the luma;
    - saturation: mean (max − min) over the channels;
    - colour_shift: distance (mean of 3 channels) of the frame's mean colour from the first frame's;
    - motion: mean |x_t − x_{t−1}| (frame 1: NaN, there is nothing before it).
    """
    pixels = levels(check_video(video))
    luma = (pixels * pixels.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1, 1)).sum(1)
    kernel = pixels.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    padded = F.pad(frames_of(luma.unsqueeze(1)), (1, 1, 1, 1), mode="replicate")
    edges = F.conv2d(padded, kernel).abs().mean((1, 2, 3)).view(luma.shape[:2])
    colour = pixels.mean((3, 4))
    moved = pixels.diff(dim=2).abs().mean((1, 3, 4))
    return {
        "sharpness": edges,
        "contrast": luma.std((2, 3), unbiased=False),
        "saturation": (pixels.amax(1) - pixels.amin(1)).mean((2, 3)),
        "colour_shift": (colour - colour[:, :, :1]).abs().mean(1),
        "motion": F.pad(moved, (1, 0), value=torch.nan),
    }


class FrameDrift(Metric):
    """Mean of `frame_measures` (and of PSNR, where there is a target) at every frame index.

    Args:
        frames: the most frames a video may have; longer ones are a ValueError, shorter ones count where they reach.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.names = (*MEASURES, "psnr")
        for state in ("totals", "counts"):
            zeros = torch.zeros(len(self.names), frames, dtype=torch.float64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, video: Tensor, target: Tensor | None = None) -> None:
        """Add videos [B, 3, T, H, W] in [-1, 1], with the videos they should equal where there are any."""
        if video.shape[2] > self.totals.shape[1]:
            raise ValueError(f"a video of {video.shape[2]} frames in a drift report of {self.totals.shape[1]}")
        measured = frame_measures(video)
        if target is not None:
            measured["psnr"] = frame_psnr(check_video(video), check_video(target, "target"))
        for row, name in enumerate(self.names):
            if name in measured:
                values = measured[name].to(self.totals)
                known = ~values.isnan()
                self.totals[row, : values.shape[1]] += torch.where(known, values, 0).sum(0)
                self.counts[row, : values.shape[1]] += known.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """One curve [frames] a measure, NaN at frames nobody reached; measures without any value are left out."""
        means = self.totals / self.counts
        return {name: means[row] for row, name in enumerate(self.names) if self.counts[row].sum() > 0}
