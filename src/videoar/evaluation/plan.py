"""What an evaluation can measure, found out before anything is read: a metric is possible, or there is a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torchmetrics import Metric

from videoar.errors import UserError
from videoar.evaluation.clips import same_frames
from videoar.evaluation.folders import VideoFolder, class_of, pair_names, shared_classes
from videoar.evaluation.models import ModelTwin
from videoar.evaluation.protocol import Protocol
from videoar.losses.perceptual import Perceptual
from videoar.metrics.features.base import FeatureNet
from videoar.metrics.features.registry import load_features
from videoar.metrics.moving import MovingPSNR
from videoar.metrics.reconstruction import LPIPS, PSNR, SSIM, MotionRatio, TemporalDifferenceError

PAIRED = ("psnr", "moving_psnr", "ssim", "lpips", "temporal_difference", "motion_ratio")
METRICS = ("fvd", *PAIRED, "moving_ratio", "drift")
LONGEST = 4096  # frames a drift report can hold
Progress = Callable[[str, int, int], None]


@dataclass
class Options:
    """How to run, as opposed to what to measure.

    Attributes:
        batch: clips that go through a network together.
        device, backend: where to compute, and what decodes (data.readers.BACKENDS).
        max_skipped: largest share of files that may be unusable.
        cache: folder for the real sets' moments; None: none.
        lpips_weights: file of the LPIPS backbone; None: torchvision's cache.
        progress: called with (what, done, of how many).
    """

    batch: int = 8
    device: str = "cpu"
    backend: str = "pyav"
    max_skipped: float = 0.05
    cache: Path | None = None
    lpips_weights: str | None = None
    progress: Progress = field(default=lambda what, done, total: None)


def features_for(protocol: Protocol, spec: str | None = None, download: bool = False) -> FeatureNet | None:
    """The feature net `spec` (`load_features`) as the protocol resizes for it; else the protocol's own, if it is here.

    Raises:
        UserError: an unknown net, or weights that are missing.
    """
    spec = spec or ("atari" if protocol.features == "atari" else None)
    if spec is None:
        return None
    resize = None if spec.partition(":")[0] == "atari" else protocol.features_resize
    return load_features(spec, resize, protocol.batch_norm_eps, download)


@dataclass
class Plan:
    """What can be measured, decided before anything is read."""

    metrics: list[str]
    unavailable: dict[str, str]
    real: VideoFolder | None
    fakes: Sequence[VideoFolder | ModelTwin]
    protocol: Protocol
    features: FeatureNet | None
    options: Options

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes that are told apart; one for all where they cannot be."""
        assert self.real is not None, "only metrics that compare have classes"
        return shared_classes(self.real, [fake for fake in self.fakes if isinstance(fake, VideoFolder)], self.protocol)

    def labels(self, names: Sequence[str]) -> list[int]:
        """The class of each file."""
        return [class_of(name, self.classes) if len(self.classes) > 1 else 0 for name in names]

    @classmethod
    def make(
        cls,
        wanted: Sequence[str] | None,
        real: VideoFolder | None,
        fakes: Sequence[VideoFolder | ModelTwin],
        protocol: Protocol,
        features: FeatureNet | None,
        options: Options,
    ) -> Plan:
        if unknown := [name for name in wanted or () if name not in METRICS]:
            raise UserError(f"unknown metric {unknown[0]!r}; there are {', '.join(METRICS)}")
        if real is None and any(isinstance(fake, ModelTwin) for fake in fakes):
            raise UserError("a model is measured on real videos; give a folder of them")
        plan = cls([], {}, real, fakes, protocol, features, options)
        for name in METRICS if wanted is None else wanted:
            try:
                plan._check(name)
                plan.metrics.append(name)
            except ValueError as error:
                if wanted is not None:
                    raise UserError(f"{name}: {error}") from error
                plan.unavailable[name] = str(error)
        return plan

    def reasons(self) -> str:
        """Why what cannot be measured cannot, each reason once."""
        metrics: dict[str, list[str]] = {}
        for name, reason in self.unavailable.items():
            metrics.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in metrics.items())

    def _check(self, name: str) -> None:
        """Raise ValueError if the metric cannot be had."""
        if name == "drift":
            return
        if self.real is None:
            raise UserError("needs real videos")
        if name == "fvd":
            if self.features is None:
                raise UserError(f"needs a feature net ({self.protocol.features or 'i3d'}): --features NAME:WEIGHTS")
            if self.protocol.frames and self.protocol.frames < self.features.min_frames:
                have, need = self.protocol.frames, self.features.min_frames
                raise UserError(
                    f"{self.features.name} needs clips of at least {need} frames, the protocol takes {have}"
                )
            return
        if self.protocol.frames == 1 and name in ("temporal_difference", "motion_ratio", "moving_psnr", "moving_ratio"):
            raise UserError("the protocol takes clips of one frame")
        if name == "moving_ratio":
            return
        for fake in (fake for fake in self.fakes if isinstance(fake, VideoFolder)):
            if not same_frames(self.protocol):
                raise UserError("the protocol takes real clips from other frames than generated ones")
            pair_names(self.real.names, fake.names)
        if name == "lpips":
            try:
                Perceptual(self.protocol.lpips, self.options.lpips_weights).network(torch.device("cpu"))  # type: ignore[arg-type]
            except UserError as error:
                raise UserError(f"{str(error).split('. ')[0]} (--lpips-weights FILE)") from error


def paired_metric(name: str, plan: Plan) -> Metric:
    """An empty paired metric, as the protocol wants it."""
    protocol = plan.protocol
    if name == "psnr":
        return PSNR(protocol.psnr)  # type: ignore[arg-type]
    if name == "moving_psnr":
        return MovingPSNR(plan.classes)
    if name == "ssim":
        return SSIM(protocol.ssim)  # type: ignore[arg-type]
    if name == "lpips":
        return LPIPS(Perceptual(protocol.lpips, plan.options.lpips_weights))  # type: ignore[arg-type]
    return TemporalDifferenceError() if name == "temporal_difference" else MotionRatio()
