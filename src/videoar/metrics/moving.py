"""Is what moves still there? PSNR over moving pixels of pairs, and the share of moving pixels of any videos, by class.

The PSNR of a whole frame is that of its scenery: sprites of a game cover 1 to 10 % of it. `videoar.motion` says what
moves. All sums are over pixels or clips of a class, so ranks merge by adding.
"""

# B batch · T frames · H W pixels · N classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from videoar.kernels.transfer import sent
from videoar.metrics.pixels import psnr_of_mse
from videoar.metrics.preprocess import check_pair, check_video, to_unit
from videoar.motion import moving_mask, moving_share


@dataclass  # not frozen: torchmetrics rebuilds what `compute` returns, and turns one-element vectors into scalars
class ClassValues:
    """One value a class.

    Attributes:
        classes: their names.
        per_class: [N]; NaN for a class without a value.
    """

    classes: tuple[str, ...]
    per_class: Tensor

    @property
    def mean(self) -> float:
        """Over the classes that have a value; NaN without any."""
        return float(self.per_class.nanmean())

    def named(self) -> dict[str, float]:
        """Class -> value, where there is one."""
        known = zip(self.classes, self.per_class.reshape(-1).tolist())
        return {name: value for name, value in known if value == value}

    def scalars(self, name: str) -> dict[str, float]:
        """Flat names for a logger: `name` is the mean and, of several classes, `name/class`. Empty without values."""
        known = self.named()
        by_class = {f"{name}/{label}": value for label, value in known.items()} if len(self.classes) > 1 else {}
        return {name: self.mean, **by_class} if known else {}


class ByClass(Metric):
    """Sums over what belongs to a class.

    Args:
        classes: names; a label is an index into them. One by default, for videos without labels.
        sums: names of the sums that are kept of each class.
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
        """Add one value [B] a clip to the sums of its class. Raises ValueError for a label that is no class.

        Labels on an accelerator are not read back: their batch was checked.
        """
        sums: Tensor = getattr(self, state)
        if labels is None:
            labels = torch.zeros(len(values), dtype=torch.long, device=sums.device)
        elif not isinstance(labels, Tensor) or labels.device.type == "cpu":
            labels = torch.as_tensor(labels)
            if len(labels) != len(values) or not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
                known = f"{len(values)} clips; there are {len(self.classes)} classes"
                raise ValueError(f"labels {labels.tolist()} of {known}")
        sums.index_add_(0, sent(labels, sums.device), values.to(sums))


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
        self.add("errors", (errors * mask).sum((1, 2, 3)), labels)
        self.add("pixels", mask.sum((1, 2, 3)), labels)

    def compute(self) -> ClassValues:
        """dB; no value for a class in which nothing moves."""
        none = torch.full_like(self.errors, torch.nan)
        psnr = psnr_of_mse(self.errors / self.pixels.clamp(min=1))
        return ClassValues(self.classes, torch.where(self.pixels > 0, psnr, none))


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

    def compute(self) -> ClassValues:
        """The ratio; no value for a class whose real videos stand still."""
        real = self.real_moved / self.real_videos
        ratio = (self.moved / self.videos) / real
        return ClassValues(self.classes, torch.where(real > 0, ratio, torch.full_like(real, torch.nan)))
