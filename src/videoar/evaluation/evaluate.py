"""Folders of videos → numbers, by one protocol. One batch of clips is in memory at a time, whatever a folder holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.evaluation.cache import RealCache
from videoar.evaluation.folders import VideoFolder
from videoar.evaluation.models import ModelTwin
from videoar.evaluation.plan import LONGEST, PAIRED, Options, Plan, paired_metric
from videoar.evaluation.protocol import Protocol
from videoar.evaluation.report import Report, Run
from videoar.evaluation.samples import read_settings
from videoar.evaluation.sources import Batch, Sources
from videoar.metrics.drift import FrameDrift
from videoar.metrics.features.base import FeatureNet
from videoar.metrics.frechet import FrechetVideoDistance, Moments
from videoar.metrics.moving import ClassValues, MovingPSNR, MovingRatio
from videoar.metrics.vbench.registry import Dimensions

log = logging.getLogger(__name__)


def evaluate(
    fakes: Sequence[str | Path | ModelTwin],
    real: str | Path | VideoFolder | None,
    protocol: Protocol | str = "plain",
    *,
    metrics: Sequence[str] | None = None,
    features: FeatureNet | None = None,
    dimensions: Dimensions | None = None,
    options: Options | None = None,
) -> Report:
    """Measure generated folders (one a seed), or a model's reconstructions, against real videos.

    Args:
        fakes: folders, or `models.load_twin(path)`.
        real: a folder, a list file, or a `VideoFolder` of one split; None: only what needs no real videos (drift,
            VBench dimensions).
        protocol: or its name or file, as `Protocol.load` takes it.
        metrics: of METRICS; these must all be possible. None: all that are, the others listed with the reason.
        features: the net of the Fréchet distance, such as `plan.features_for(protocol)`.
        dimensions: VBench dimensions to measure on the generated clips.

    Raises:
        UserError: missing or empty folders, files that cannot be paired or read, too few videos or frames, a metric
            that was asked for and cannot be had, or nothing at all to measure.
    """
    options = options or Options()
    protocol = Protocol.load(protocol) if isinstance(protocol, str) else protocol
    real_folder = real if real is None or isinstance(real, VideoFolder) else VideoFolder(real)
    subjects = [fake if isinstance(fake, ModelTwin) else VideoFolder(fake) for fake in fakes]
    named = protocol
    for model in (subject for subject in subjects if isinstance(subject, ModelTwin)):
        protocol = model.filled(protocol)
    plan = Plan.make(metrics, real_folder, subjects, protocol, features, options)
    if real is not None and set(plan.metrics) <= {"moving_ratio", "drift"} and not metrics and not dimensions:
        raise UserError(f"nothing can be compared: {plan.reasons()}")
    report = Report(protocol, features, dimensions)
    if protocol != named:
        assert protocol.size is not None
        shape = f"{protocol.frames} frames of {protocol.size[0]}x{protocol.size[1]}"
        report.notes["clips"] = f"{shape}: the protocol leaves it open, the model does not"
    report.unavailable |= plan.unavailable | (dimensions.unavailable if dimensions else {})
    real_side = _RealSide()
    for subject in subjects:
        report.runs.append(_Evaluation(plan, subject, dimensions, real_side).run())
        card = subject.card() if isinstance(subject, ModelTwin) else read_settings(subject.path)
        report.models += [card] if card else []
    report.real_curves = real_side.curves or {}
    report.finish()
    return report


@dataclass
class _RealSide:
    """What was found out about the real videos, for all generated folders: feature moments, and sums of motion."""

    moments: Moments | None = None
    motion: tuple[Tensor, Tensor] | None = None
    curves: dict[str, list[float]] | None = None


class _Evaluation:
    """One generated folder or model: its metrics, its pass over the clips, its Run."""

    def __init__(
        self,
        plan: Plan,
        subject: VideoFolder | ModelTwin,
        dimensions: Dimensions | None,
        real_side: _RealSide,
    ) -> None:
        self.plan, self.subject, self.real_side = plan, subject, real_side
        self.protocol = plan.protocol
        self.sources = Sources(plan.protocol, plan.options)
        device = torch.device(plan.options.device)
        self.fvd = None
        if "fvd" in plan.metrics and plan.features is not None:
            self.fvd = FrechetVideoDistance(plan.features, self.protocol.unbiased).to(device)
        self.paired = {name: paired_metric(name, plan).to(device) for name in plan.metrics if name in PAIRED}
        self.ratio = MovingRatio(plan.classes).to(device) if "moving_ratio" in plan.metrics else None
        frames = self.protocol.frames or LONGEST
        self.drift = FrameDrift(frames).to(device) if "drift" in plan.metrics else None
        self.real_drift = FrameDrift(frames).to(device) if self.drift is not None and real_side.curves is None else None
        self.dimensions = dimensions.metrics if dimensions else ()
        for metric in self.dimensions:
            metric.reset()
            metric.to(device)

    def run(self) -> Run:
        """Read everything once and compute."""
        used = 0
        for batch in self._batches():
            used += len(batch.video)
            self._measure(batch)
        if used == 0:
            raise UserError(f"no video of {self.subject.path} could be used")
        values: dict[str, float] = {}
        if self.fvd is not None:
            values["fvd"] = float(self.fvd.compute())
        by_class: dict[str, dict[str, float]] = {}
        for name, metric in (*self.paired.items(), *([("moving_ratio", self.ratio)] if self.ratio else [])):
            value = metric.compute()
            if isinstance(value, ClassValues):
                by_class |= {name: value.named()} if len(value.classes) > 1 else {}
                value = value.mean
            values[name] = float(value)
        values |= {metric.key: float(metric.compute()) for metric in self.dimensions}
        values |= self.subject.values() if isinstance(self.subject, ModelTwin) else {}
        curves = {} if self.drift is None else _curves(self.drift)
        if self.real_drift is not None and self.real_drift.counts.any():
            self.real_side.curves = _curves(self.real_drift)
        return Run(str(self.subject.path), self._counts(used), values, curves, self.sources.skipped(), by_class)

    def _batches(self) -> Iterator[Batch]:
        real = self.plan.real
        if isinstance(self.subject, ModelTwin):
            assert real is not None, "Plan.make refuses a model without real videos"
            return self.sources.model(real, self.subject)
        if real is not None and self.paired:
            return self.sources.pairs(real, self.subject)
        if self.fvd is not None:
            self.fvd.add(self._real_moments(), real=True)
        if self.ratio is not None:
            self._add_real_motion(self.ratio)
        return self.sources.files(self.subject, real=False)

    def _measure(self, batch: Batch) -> None:
        if self.fvd is not None:
            self.fvd.update(batch.video, real=False)
            if batch.target is not None:
                self.fvd.update(batch.target, real=True)
        labels = self.plan.labels(batch.names) if self.plan.real is not None else []
        if batch.target is not None:
            for metric in self.paired.values():
                more = (labels,) if isinstance(metric, MovingPSNR) else ()
                metric.update(batch.video, batch.target, *more)
        if self.ratio is not None:
            self.ratio.update(batch.video, labels)
            if batch.target is not None:
                self.ratio.update(batch.target, labels, real=True)
        if self.drift is not None:
            self.drift.update(batch.video, batch.target)
        if self.real_drift is not None and batch.target is not None:
            self.real_drift.update(batch.target)
        for dimension in self.dimensions:
            dimension.update(batch.video, batch.fps)

    def _counts(self, used: int) -> dict[str, int]:
        counts = {"fake": used}
        if isinstance(self.subject, VideoFolder):
            counts["fake_found"] = len(self.subject)
        if self.plan.real is not None and (self.fvd is not None or self.ratio is not None or self.paired):
            counts["real"] = used
            if self.ratio is not None:
                counts["real"] = int(self.ratio.real_videos.sum())
            if self.fvd is not None:
                counts["real"] = int(self.fvd.moments(True).count)
            counts["real_found"] = len(self.plan.real)
        return counts

    def _real_moments(self) -> Moments:
        """Moments of the real set: of an earlier run, of the cache, or computed."""
        real, net, options = self.plan.real, self.plan.features, self.plan.options
        assert real is not None and net is not None
        if self.real_side.moments is not None:
            return self.real_side.moments
        names = real.chosen(self.protocol)
        cache = RealCache(options.cache, real, names, self.protocol, net, options.backend)
        moments = cache.read()
        if moments is not None:
            log.info("real statistics from %s", cache.path)
        else:
            for batch in self.sources.files(real, real=True):
                part = Moments.of(net(batch.video))
                moments = part if moments is None else moments + part
            if moments is None:
                raise UserError(f"no video of {real.path} could be used")
            if not self.sources.skipped():  # a set with holes is measured again, so that they are reported again
                cache.write(moments)
        self.real_side.moments = moments
        return moments

    def _add_real_motion(self, ratio: MovingRatio) -> None:
        """Give the ratio its real side: of an earlier run, or by a pass over the files."""
        assert self.plan.real is not None
        if self.real_side.motion is None:
            for batch in self.sources.files(self.plan.real, real=True):
                ratio.update(batch.video, self.plan.labels(batch.names), real=True)
                if self.real_drift is not None:
                    self.real_drift.update(batch.video)
            self.real_side.motion = ratio.real_moved.clone(), ratio.real_videos.clone()
        else:
            moved, videos = self.real_side.motion
            ratio.real_moved += moved
            ratio.real_videos += videos


def _curves(drift: FrameDrift) -> dict[str, list[float]]:
    """One value a frame of every measure, without the frames that no video reached."""
    curves = {name: curve.reshape(-1).tolist() for name, curve in drift.compute().items()}
    longest = max((i + 1 for curve in curves.values() for i, v in enumerate(curve) if v == v), default=0)
    return {name: curve[:longest] for name, curve in curves.items()}
