"""What a run has logged, read back: the scalars of TensorBoard and CSV files."""

from __future__ import annotations

import csv
from pathlib import Path

Curve = dict[int, float]
"""Value of a scalar at each step."""


def read_scalars(folder: Path) -> dict[str, Curve]:
    """All scalars of all TensorBoard and CSV logs below a folder; of a step logged twice (a resumed run) the newer."""
    logs = [*folder.rglob("events.out.tfevents.*"), *folder.rglob("metrics.csv")]
    curves: dict[str, Curve] = {}
    for path in sorted(logs, key=lambda p: p.stat().st_mtime):
        read = _read_csv(path) if path.suffix == ".csv" else _read_events(path)
        for tag, curve in read.items():
            curves.setdefault(tag, {}).update(curve)
    return curves


def _read_csv(path: Path) -> dict[str, Curve]:
    """A log of Lightning's CSVLogger: one row a step, empty cells for what was not logged then."""
    curves: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for tag, cell in row.items():
                if cell and tag != "step" and row.get("step"):
                    curves.setdefault(tag, {})[int(float(row["step"]))] = float(cell)
    return curves


def _read_events(path: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
