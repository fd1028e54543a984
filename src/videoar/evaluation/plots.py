"""Pictures of metrics: drift over frames, accuracy of scales and FVD over training. matplotlib comes on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from videoar.data.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = {
    "sharpness": "sharpness\nmean |Laplacian|, 0-255",
    "contrast": "contrast\nstd of luma, 0-255",
    "saturation": "saturation\nmax − min channel, 0-255",
    "colour_shift": "colour shift\nfrom frame 1, 0-255",
    "motion": "motion\nmean |Δ|, 0-255",
    "psnr": "PSNR\ndB",
}


def _figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure (PNG, PDF or SVG, by suffix) under a temporary name, then rename it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return Path(path)


def drift_plot(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Quality against frame index: one panel a measure, one line a set of videos.

    Args:
        curves: set of videos → measure (`FrameDrift.compute`) → one value a frame.

    Raises:
        ValueError: nothing to draw.
    """
    measures = list(dict.fromkeys(name for measured in curves.values() for name in measured))
    if not measures:
        raise ValueError("no per-frame curves to draw")
    figure = _figure(7, 1.5 * len(measures) + 0.6)
    panels = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, measures):
        for label, measured in curves.items():
            if name in measured:
                panel.plot(range(1, len(measured[name]) + 1), measured[name], marker=".", label=label)
        panel.margins(y=0.15)
        if name != "psnr":
            top = max(value for measured in curves.values() for value in measured.get(name, ()))
            panel.set_ylim(0, 1.15 * top if top > 0 else 1)  # from 0, so that a small change looks small
        panel.set_ylabel(UNITS.get(name, name), fontsize=8)
        panel.grid(alpha=0.3)
    figure.suptitle("Drift over the frames of a video", fontsize=10)
    panels[-1].set_xlabel("frame")
    if len(curves) > 1:
        panels[0].legend(fontsize=8)
    return figure


def scale_accuracy_plot(steps: Sequence[int], accuracy: Sequence[Sequence[float]]) -> Figure:
    """Bit accuracy of every scale over training.

    Args:
        accuracy: [len(steps)][K], e.g. `BitScores.bits_per_scale` of every validation.

    Raises:
        ValueError: no steps, or another number of rows than steps.
    """
    if not steps or len(steps) != len(accuracy):
        raise ValueError(f"{len(accuracy)} rows of accuracies for {len(steps)} steps")
    figure = _figure(7, 4)
    panel = figure.subplots()
    for k, values in enumerate(zip(*accuracy), start=1):
        panel.plot(steps, values, marker=".", label=f"scale {k}")
    panel.axhline(0.5, color="grey", linestyle=":", label="chance")
    panel.set(xlabel="training step", ylabel="share of bits right")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, ncols=2)
    return figure


def fvd_plot(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Figure:
    """FVD over training, one line a run.

    Args:
        curves: run → (steps, FVD at each). Only runs with one protocol and equal counts belong in one picture.

    Raises:
        ValueError: no curves, or steps and values of different length.
    """
    if not curves:
        raise ValueError("no FVD curves to draw")
    figure = _figure(7, 4)
    panel = figure.subplots()
    for label, (steps, values) in curves.items():
        if len(steps) != len(values):
            raise ValueError(f"{label}: {len(values)} values for {len(steps)} steps")
        panel.plot(steps, values, marker=".", label=label)
    panel.set(xlabel="training step", ylabel="FVD", ylim=(0, None))
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    return figure
