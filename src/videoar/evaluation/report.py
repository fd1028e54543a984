"""What `videoar evaluate` found: JSON, a Markdown table, and the protocol card that belongs to every number."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from videoar.data.files import atomic_path
from videoar.evaluation.protocol import Protocol
from videoar.metrics.features.base import FeatureNet
from videoar.metrics.vbench.aggregate import aggregate
from videoar.metrics.vbench.registry import Dimensions
from videoar.motion import THRESHOLD
from videoar.provenance import commit, versions

BETTER = {
    "fvd": "lower",
    "lpips": "lower",
    "temporal_difference": "lower",
    "motion_ratio": "nearer 1",
    "moving_ratio": "nearer 1",
    "moving_psnr": "higher",
    "psnr": "higher",
    "ssim": "higher",
    "dead_bits": "lower",
}


def better_of(name: str) -> str:
    """Which way a metric such as `fvd` or `bit_usage/dead_bits/scale_1` gets better."""
    return next((BETTER[part] for part in name.split("/") if part in BETTER), "higher")


@dataclass(frozen=True)
class Run:
    """One generated folder.

    Attributes:
        folder: where it is.
        counts: videos used and found on each side.
        values: metric → number.
        curves: per-frame measure → one value a frame.
        skipped: file → why it was not used.
        by_class: metric → class → number, for metrics that are the mean of those.
    """

    folder: str
    counts: dict[str, int]
    values: dict[str, float]
    curves: dict[str, list[float]]
    skipped: dict[str, str]
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Report:
    """All runs and what must be known about them.

    Attributes:
        unavailable: metric → why it was not measured.
        deviations: in what the run differs from its named protocol; empty means that it followed it.
        notes: free facts about the videos (guidance, sampler seeds, checkpoint), most given by the user.
        models: cards of the models whose reconstructions or samples were measured.
        real_curves: as `Run.curves`, of the real clips, where they were read.
    """

    protocol: Protocol
    features: FeatureNet | None = None
    dimensions: Dimensions | None = None
    runs: list[Run] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    real_curves: dict[str, list[float]] = field(default_factory=dict)

    def finish(self) -> None:
        """Find out in what the runs differ from the protocol."""
        protocol = self.protocol
        for run in self.runs:
            used = {side: run.counts[side] for side in ("real", "fake") if side in run.counts}
            for side, count in used.items():
                if protocol.videos is not None and count != protocol.videos:
                    self.deviations.append(f"{count} {side} videos in {run.folder}, the protocol has {protocol.videos}")
            if len(set(used.values())) > 1 and "fvd" in run.values:
                self.deviations.append(f"unequal counts: {used['real']} real, {used['fake']} generated ({run.folder})")
            if run.skipped:
                self.deviations.append(f"{len(run.skipped)} files of {run.folder} or the real folder were skipped")
        if len(self.runs) != protocol.runs:
            self.deviations.append(f"{len(self.runs)} generated sets, the protocol averages {protocol.runs}")
        if self.features is not None and protocol.features not in (None, self.features.name):
            self.deviations.append(f"feature net {self.features.name}, the protocol has {protocol.features}")

    def values(self) -> dict[str, tuple[float, float | None]]:
        """Metric → (mean over runs, standard deviation or None for one run)."""
        out: dict[str, tuple[float, float | None]] = {}
        for name in self.runs[0].values if self.runs else ():
            numbers = [run.values[name] for run in self.runs]
            out[name] = (mean(numbers), stdev(numbers) if len(numbers) > 1 else None)
        return out

    def by_class(self) -> dict[str, dict[str, float]]:
        """Metric → class → mean over runs."""
        runs = [run.by_class for run in self.runs]
        metrics = runs[0] if runs else {}
        return {
            metric: {label: mean(run[metric].get(label, math.nan) for run in runs) for label in metrics[metric]}
            for metric in metrics
        }

    def card(self) -> dict[str, Any]:
        """The protocol card."""
        backbones = {
            metric.key: {
                "network": metric.backbone.name if metric.backbone else "none",
                "weights_sha256": metric.backbone.sha256 if metric.backbone else None,
                "substitute": bool(metric.backbone and metric.backbone.substitute),
            }
            for metric in (self.dimensions.metrics if self.dimensions else ())
        }
        return {
            "protocol": asdict(self.protocol),
            "protocol_digest": self.protocol.digest(),
            "follows_protocol": not self.deviations,
            "deviations": self.deviations,
            "features": self.features.card() if self.features else None,
            "moving": f"more than {THRESHOLD} of 255 levels from the median over the clip's frames, in any channel",
            "models": self.models,
            "vbench_backbones": backbones,
            "counts": [run.counts for run in self.runs],
            "skipped": {name: reason for run in self.runs for name, reason in run.skipped.items()},
            "notes": self.notes,
            "versions": versions(),
            "commit": commit(),
            "machine": f"{platform.system()} {platform.machine()}, torch threads {torch.get_num_threads()}",
        }

    def vbench_total(self) -> dict[str, Any] | None:
        """VBench's group scores over what was measured with VBench's own networks; None without dimensions."""
        if not self.dimensions or not self.dimensions.metrics:
            return None
        exact = {metric.key for metric in self.dimensions.metrics}
        return asdict(aggregate({name: value for name, (value, _) in self.values().items() if name in exact}))

    def json(self) -> dict[str, Any]:
        """Everything, as plain data; numbers that are not finite become None, because JSON has none."""
        values = {name: {"mean": m, "std": s} for name, (m, s) in self.values().items()}
        content = {
            "values": values,
            "by_class": self.by_class(),
            "unavailable": self.unavailable,
            "vbench": self.vbench_total(),
            "runs": [asdict(run) for run in self.runs],
            "card": self.card(),
        }
        return _finite(content)

    def markdown(self) -> str:
        """A table of the numbers, what is missing, and the card."""
        counts = self.runs[0].counts
        lines = ["| metric | value | better |", "|---|---|---|"]
        for name, (value, spread) in self.values().items():
            better = better_of(name)
            lines.append(f"| {name} | {_number(value)}{'' if spread is None else f' ± {_number(spread)}'} | {better} |")
        lines += self._class_table()
        sides = ", ".join(f"{counts[s]} {w}" for s, w in (("real", "real"), ("fake", "generated")) if s in counts)
        follows = "followed" if not self.deviations else "NOT followed: " + "; ".join(self.deviations)
        lines += ["", f"Protocol **{self.protocol.name}** ({sides} videos): {follows}."]
        if self.unavailable:
            lines += ["", "Not measured:", *(f"- {name}: {reason}" for name, reason in self.unavailable.items())]
        lines += ["", "## Protocol card", ""]
        for name, value in self.card().items():
            if isinstance(value, dict) and value:
                lines += [f"- {name}:", *(f"  - {key}: {_plain(item)}" for key, item in value.items())]
            else:
                lines.append(f"- {name}: {_plain(value)}")
        return "\n".join(lines) + "\n"

    def _class_table(self) -> list[str]:
        """Lines of the table of classes, none where there is nothing to tell apart."""
        columns = self.by_class()
        if not columns:
            return []
        labels = sorted({label for column in columns.values() for label in column})
        lines = ["", f"| class | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        for label in labels:
            cells = (_number(column.get(label, math.nan)) for column in columns.values())
            lines.append(f"| {label} | {' | '.join(cells)} |")
        return lines

    def write(self, folder: str | Path) -> list[Path]:
        """Write `metrics.json`, `metrics.md` and, where there are per-frame curves, `drift.png`; return the paths."""
        folder = Path(folder)
        texts = {"metrics.json": json.dumps(self.json(), indent=2, default=str) + "\n", "metrics.md": self.markdown()}
        for name, text in texts.items():
            with atomic_path(folder / name) as path:
                path.write_text(text, encoding="utf-8")
        written = [folder / name for name in texts]
        if any(len(curve) > 1 for run in self.runs for curve in run.curves.values()):
            from videoar.evaluation.plots import drift_plot
            from videoar.figures import save_figure

            curves = ({"real": self.real_curves} if self.real_curves else {}) | {r.folder: r.curves for r in self.runs}
            written.append(save_figure(drift_plot(curves), folder / "drift.png"))
        return written


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _plain(value: Any) -> str:
    """A value of the card as text."""
    if isinstance(value, dict | list | tuple):
        return f"`{json.dumps(_finite(value), default=str)}`" if value else "none"
    return str(value) if value not in ("", None) else "none"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
