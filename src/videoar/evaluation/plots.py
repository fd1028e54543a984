"""Pictures of numbers: drift over the frames of a video, logged scalars over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from videoar.figures import new_figure

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
    figure = new_figure(7, 1.5 * len(measures) + 0.6)
    panels = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, measures):
        for n, (label, measured) in enumerate(curves.items()):
            if name in measured:  # one colour a set of videos, in all panels
                frames = range(1, len(measured[name]) + 1)
                panel.plot(frames, measured[name], marker=".", label=label, color=f"C{n % 10}")
        panel.margins(y=0.15)
        if name != "psnr":
            values = (value for measured in curves.values() for value in measured.get(name, ()))
            top = max((value for value in values if value == value), default=0.0)  # frame 1 has no motion
            panel.set_ylim(0, 1.15 * top if top > 0 else 1)  # from 0, so that a small change looks small
        panel.set_ylabel(UNITS.get(name, name), fontsize=8)
        panel.grid(alpha=0.3)
    figure.suptitle("Drift over the frames of a video", fontsize=10)
    panels[-1].set_xlabel("frame")
    if len(curves) > 1:
        panels[0].legend(fontsize=8)
    return figure


def curves_plot(
    runs: Mapping[str, Mapping[str, Mapping[int, float]]], tags: Mapping[str, Sequence[str]], columns: int | None = None
) -> Figure:
    """Scalars of runs over training, a panel each; validation with points.

    Args:
        runs: run → scalar → value at each batch (`training.logs.read_scalars`). tags: the scalars of each run.
        columns: panels side by side; None: all.

    Raises:
        ValueError: no scalar.
    """
    shown = [(run, tag) for run, names in tags.items() for tag in names]
    if not shown:
        raise ValueError("no scalars to draw")
    columns = columns or len(shown)
    lines = -(-len(shown) // columns)
    figure = new_figure(4 * columns, 3.2 * lines)
    for (run, tag), panel in zip(shown, figure.subplots(lines, columns, squeeze=False).flat):
        curve = runs.get(run, {}).get(tag, {})
        panel.plot(list(curve), list(curve.values()), linewidth=1, marker="." if tag.startswith("val") else "")
        panel.set(title=f"{run}: {tag.removeprefix('train/')}", xlabel="batches")
        if tag.rpartition("/")[2] in ("lr", "learning_rate") and min(curve.values(), default=0) > 0:
            panel.set_yscale("log")
        panel.grid(alpha=0.3)
    return figure
