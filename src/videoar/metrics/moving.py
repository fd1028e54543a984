"""Is what moves still there? PSNR over moving pixels of pairs, and the share of moving pixels of any videos, by class.

The PSNR of a whole frame is that of its scenery: sprites of a game cover 1 to 10 % of it. `videoar.motion` says what
moves. All sums are over pixels or clips of a class, so ranks merge by adding.
"""

# B batch · T frames · H W pixels · N classes

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from videoar.metrics.pixels import psnr_of_mse
from videoar.metrics.preprocess import check_pair, check_video, to_unit
from videoar.motion import moving_mask, moving_share


class ByClass(Metric):
    """A value for each of `classes`, and their mean; classes without a value (NaN) are left out.

    Args:
        classes: names; a label is an index into them. One by default, for videos without labels.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, classes: Sequence[str] = ("",), sums: Sequence[str] = ()) -> None:
        super().__init__()
        self.classes = tuple(classes)
        for name in sums:
            zeros = torch.zeros(len(self.classes), dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def add(self, state: str, values: Tensor, labels: Sequence[int] | Tensor | None) -> None:
        """Add one value [B] a clip to the sums of its class. Raises ValueError for a label that is no class."""
        labels = torch.zeros(len(values), dtype=torch.long) if labels is None else torch.as_tensor(labels)
        if len(labels) != len(values) or not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ValueError(f"labels {labels.tolist()} of {len(values)} clips; there are {len(self.classes)} classes")
        sums: Tensor = getattr(self, state)
        sums.index_add_(0, labels.to(sums.device), values.to(sums))

    def values(self) -> Tensor:
        """One value a class, [N]; NaN where there is none."""
        raise NotImplementedError

    def per_class(self) -> dict[str, float]:
        """The value of every class that has one."""
        known = zip(self.classes, self.values().tolist())
        return {name: value for name, value in known if value == value}

    def compute(self) -> Tensor:
        """The mean over classes; NaN without any."""
        return self.values().nanmean()


class MovingPSNR(ByClass):
    """PSNR in dB over the pixels that move in the target: of the mean squared error of all of a class's together."""

    higher_is_better = True
    errors: Tensor
    pixels: Tensor

    def __init__(self, classes: Sequence[str] = ("",)) -> None:
        super().__init__(classes, ("errors", "pixels"))

    def update(self, prediction: Tensor, target: Tensor, labels: Sequence[int] | Tensor | None = None) -> None:
        """Add a batch of pairs [B, 3, T, H, W] in [-1, 1], with their classes."""
        prediction, target = check_pair(prediction, target)
        mask = moving_mask(target)
        errors = (to_unit(prediction) - to_unit(target)).square().mean(1)
        self.add("errors", (errors * mask).double().sum((1, 2, 3)), labels)
        self.add("pixels", mask.double().sum((1, 2, 3)), labels)

    def values(self) -> Tensor:
        """dB, [N]; NaN for a class in which nothing moves."""
        none = torch.full_like(self.errors, torch.nan)
        return torch.where(self.pixels > 0, psnr_of_mse(self.errors / self.pixels.clamp(min=1)), none)


class MovingRatio(ByClass):
    """Share of moving pixels in generated or reconstructed videos over that in real ones: 1 = as much motion.

    The two sides need not pair and may differ in number. NaN for a class whose real videos stand still.
    """

    moved: Tensor
    videos: Tensor
    real_moved: Tensor
    real_videos: Tensor

    def __init__(self, classes: Sequence[str] = ("",)) -> None:
        super().__init__(classes, ("moved", "videos", "real_moved", "real_videos"))

    def update(self, video: Tensor, labels: Sequence[int] | Tensor | None = None, real: bool = False) -> None:
        """Add videos [B, 3, T, H, W] in [-1, 1] of one side."""
        share = moving_share(check_video(video))
        side = "real_" if real else ""
        self.add(f"{side}moved", share, labels)
        self.add(f"{side}videos", torch.ones_like(share), labels)

    def shares(self, real: bool = False) -> Tensor:
        """Share of moving pixels of a side, [N] in [0, 1]."""
        return self.real_moved / self.real_videos if real else self.moved / self.videos

    def values(self) -> Tensor:
        """The ratio, [N]."""
        real = self.shares(real=True)
        return torch.where(real > 0, self.shares() / real, torch.full_like(real, torch.nan))
