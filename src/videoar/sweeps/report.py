"""Results of a sweep: one CSV row a child, a Markdown table with mean ± std over seeds, a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, log10
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from videoar.data.files import atomic_path
from videoar.figures import new_figure, save_figure
from videoar.sweeps.spec import Child, Sweep


@dataclass(frozen=True)
class Outcome:
    """How a child ended: `finished` with its numbers, or `failed` with those it has, the reason and its log's end."""

    child: Child
    state: str
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """The seeds of one setting: every metric's values, and how many seeds have finished."""

    group: str
    choice: dict[str, Any]
    values: dict[str, list[float]]
    seeds: int


def rows_of(sweep: Sweep, outcomes: Sequence[Outcome]) -> list[Row]:
    """One row a setting, in the order of the YAML; a seed that failed counts in the columns that it has."""
    rows = []
    for group in dict.fromkeys(child.group for child in sweep.children):
        mine = [o for o in outcomes if o.child.group == group]
        choice = next(child.choice for child in sweep.children if child.group == group)
        values = {m: [o.metrics[m] for o in mine if m in o.metrics] for m in sweep.metrics}
        rows.append(Row(group, choice, values, sum(o.state == "finished" for o in mine)))
    return rows


def spread(values: Sequence[float]) -> str:
    """`mean ± sample standard deviation` of the seeds, without ± for one, `–` for none."""
    if not values:
        return "–"
    middle = mean(values)
    if len(values) == 1:
        return number(middle)
    deviation = stdev(values)
    digits = 4 if not middle else max(0, 3 - floor(log10(abs(middle))))
    if deviation:
        digits = max(0, min(digits, 1 - floor(log10(deviation))))
    return f"{middle:.{digits}f} ± {deviation:.{digits}f}"


def number(value: float) -> str:
    """Four digits, without an exponent where that is short."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def markdown(sweep: Sweep, outcomes: Sequence[Outcome]) -> str:
    """The table, and what failed."""
    rows = rows_of(sweep, outcomes)
    axes = list(rows[0].choice) or ["setting"]
    lines = [f"# {sweep.title}", "", "| " + " | ".join([*axes, *sweep.metrics, "seeds"]) + " |"]
    lines.append("|" + "---|" * len(axes) + "--:|" * (len(sweep.metrics) + 1))
    for row in rows:
        cells = [str(row.choice.get(axis, row.group)).replace("|", "\\|") for axis in axes]
        lines.append(
            "| " + " | ".join([*cells, *(spread(row.values[m]) for m in sweep.metrics), str(row.seeds)]) + " |"
        )
    lines += ["", "Mean ± sample standard deviation over the seeds."]
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        lines += ["", "Failed:", "", *(f"- {outcome.child.name}: {outcome.error}" for outcome in failed)]
    return "\n".join(lines) + "\n"


def failures(outcomes: Sequence[Outcome]) -> str:
    """Each failed child with the reason and the end of its log."""
    text = ""
    for outcome in outcomes:
        if outcome.state == "failed":
            text += f"\n{outcome.child.name} failed: {outcome.error}\n"
            text += "".join(f"    {line}\n" for line in outcome.log)
    return text


def write_results(sweep: Sweep, outcomes: Sequence[Outcome]) -> list[Path]:
    """Write results.csv, results.md and, once there is a number, results.png; return their paths."""
    axes = list(sweep.children[0].choice)
    with atomic_path(sweep.out / "results.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["child", *axes, "seed", "state", *sweep.metrics, "error"])
        for o in outcomes:
            given = [o.child.choice[axis] for axis in axes]
            found = [o.metrics.get(metric, "") for metric in sweep.metrics]
            writer.writerow([o.child.name, *given, o.child.seed, o.state, *found, o.error])
    with atomic_path(sweep.out / "results.md") as path:
        path.write_text(markdown(sweep, outcomes), encoding="utf-8")
    written = [sweep.out / "results.csv", sweep.out / "results.md"]
    if any(outcome.metrics for outcome in outcomes):
        plot(sweep, rows_of(sweep, outcomes), sweep.out / "results.png")
        written.append(sweep.out / "results.png")
    return written


def plot(sweep: Sweep, rows: list[Row], target: Path) -> None:
    """One panel a metric: mean ± deviation and every seed, as lines where the grid is one numeric axis."""
    rows = [row for row in rows if any(row.values.values())]
    axes = [axis for axis in rows[0].choice if axis != "variant"]
    numeric = len(axes) == 1 and all(type(row.choice[axes[0]]) in (int, float) for row in rows)
    columns = min(3, len(sweep.metrics))
    lines = -(-len(sweep.metrics) // columns)
    figure = new_figure(4.6 * columns, 3.4 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel in panels:
        panel.set_visible(False)
    for metric, panel in zip(sweep.metrics, figure.axes):
        panel.set_visible(True)
        panel.set_title(metric)
        panel.grid(axis="y", alpha=0.3)
        (_lines if numeric else _points)(panel, rows, metric, axes)
    figure.suptitle(sweep.title)
    save_figure(figure, target, dpi=120)


def _points(panel: Any, rows: list[Row], metric: str, axes: list[str]) -> None:
    for i, row in enumerate(rows):
        values, colour = row.values[metric], f"C{i % 10}"
        if not values:
            continue
        panel.plot([i] * len(values), values, ".", color=colour, alpha=0.5)
        deviation = stdev(values) if len(values) > 1 else None
        panel.errorbar(i, mean(values), yerr=deviation, fmt="_", markersize=16, capsize=4, color=colour)
    panel.set_xticks(range(len(rows)), [row.group for row in rows], rotation=20, ha="right")
    panel.set_xlim(-0.5, len(rows) - 0.5)


def _lines(panel: Any, rows: list[Row], metric: str, axes: list[str]) -> None:
    for name in dict.fromkeys(row.choice.get("variant", "") for row in rows):
        found = [row for row in rows if row.choice.get("variant", "") == name and row.values[metric]]
        mine = sorted(found, key=lambda row: row.choice[axes[0]])
        where = [row.choice[axes[0]] for row in mine]
        errors = [stdev(r.values[metric]) if len(r.values[metric]) > 1 else 0.0 for r in mine]
        middle = [mean(row.values[metric]) for row in mine]
        panel.errorbar(where, middle, yerr=errors, capsize=3, marker="o", label=name or None)
        if name:
            panel.legend()
    panel.set_xlabel(axes[0])
    values = [row.choice[axes[0]] for row in rows]
    if min(values) > 0 and max(values) >= 8 * min(values):  # learning rates and the like
        panel.set_xscale("log")
