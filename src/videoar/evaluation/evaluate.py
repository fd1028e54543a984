"""Folders of videos → numbers, by one protocol. One batch of clips is in memory at a time, whatever a folder holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

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
from videoar.metrics.vbench.registry import Dimensions

log = logging.getLogger(__name__)


def evaluate(
    fakes: Sequence[str | Path | ModelTwin],
    real: str | Path | None,
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
        real: a folder or a list file; None: only what needs no real videos (drift, VBench dimensions).
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
    real_folder = None if real is None else VideoFolder(real)
    subjects = [fake if isinstance(fake, ModelTwin) else VideoFolder(fake) for fake in fakes]
    plan = Plan.make(metrics, real_folder, subjects, protocol, features, options)
    if real is not None and set(plan.metrics) <= {"drift"} and not metrics and not dimensions:
        raise UserError("nothing can be compared: " + "; ".join(f"{k}: {v}" for k, v in plan.unavailable.items()))
    report = Report(protocol, features, dimensions)
    report.unavailable |= plan.unavailable | (dimensions.unavailable if dimensions else {})
    real_moments: Moments | None = None
    for subject in subjects:
        evaluation = _Evaluation(plan, subject, dimensions, real_moments)
        report.runs.append(evaluation.run())
        real_moments = evaluation.real_moments
        card = subject.card() if isinstance(subject, ModelTwin) else read_settings(subject.path)
        report.models += [card] if card else []
    report.finish()
    return report


class _Evaluation:
    """One generated folder or model: its metrics, its pass over the clips, its Run."""

    def __init__(
        self,
        plan: Plan,
        subject: VideoFolder | ModelTwin,
        dimensions: Dimensions | None,
        real_moments: Moments | None,
    ) -> None:
        self.plan, self.subject, self.real_moments = plan, subject, real_moments
        self.protocol = plan.protocol
        self.sources = Sources(plan.protocol, plan.options)
        device = torch.device(plan.options.device)
        self.fvd = None
        if "fvd" in plan.metrics and plan.features is not None:
            self.fvd = FrechetVideoDistance(plan.features, self.protocol.unbiased).to(device)
        self.paired = {name: paired_metric(name, plan).to(device) for name in plan.metrics if name in PAIRED}
        self.drift = FrameDrift(self.protocol.frames or LONGEST).to(device) if "drift" in plan.metrics else None
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
        values |= {name: float(metric.compute()) for name, metric in self.paired.items()}
        values |= {metric.key: float(metric.compute()) for metric in self.dimensions}
        values |= self.subject.values() if isinstance(self.subject, ModelTwin) else {}
        measured = {} if self.drift is None else self.drift.compute()
        curves = {name: curve.reshape(-1).tolist() for name, curve in measured.items()}
        return Run(str(self.subject.path), self._counts(used), values, _trim(curves), self.sources.skipped())

    def _batches(self) -> Iterator[Batch]:
        real = self.plan.real
        if isinstance(self.subject, ModelTwin):
            assert real is not None, "Plan.make refuses a model without real videos"
            return self.sources.model(real, self.subject)
        if real is not None and self.paired:
            return self.sources.pairs(real, self.subject)
        if self.fvd is not None:
            self.fvd.add(self._real(), real=True)
        return self.sources.files(self.subject, real=False)

    def _measure(self, batch: Batch) -> None:
        if self.fvd is not None:
            self.fvd.update(batch.video, real=False)
            if batch.target is not None:
                self.fvd.update(batch.target, real=True)
        if batch.target is not None:
            for metric in self.paired.values():
                metric.update(batch.video, batch.target)
        if self.drift is not None:
            self.drift.update(batch.video, batch.target)
        for dimension in self.dimensions:
            dimension.update(batch.video, batch.fps)

    def _counts(self, used: int) -> dict[str, int]:
        counts = {"fake": used}
        if isinstance(self.subject, VideoFolder):
            counts["fake_found"] = len(self.subject)
        if self.plan.real is not None and (self.fvd is not None or self.paired):
            counts["real"] = int(self.fvd.moments(True).count) if self.fvd is not None else used
            counts["real_found"] = len(self.plan.real)
        return counts

    def _real(self) -> Moments:
        """Moments of the real set: of an earlier run, of the cache, or computed."""
        real, net, options = self.plan.real, self.plan.features, self.plan.options
        assert real is not None and net is not None
        if self.real_moments is not None:
            return self.real_moments
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
        self.real_moments = moments
        return moments


def _trim(curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """Cut the frames that no video reached."""
    longest = max((i + 1 for curve in curves.values() for i, v in enumerate(curve) if v == v), default=0)
    return {name: curve[:longest] for name, curve in curves.items()}
