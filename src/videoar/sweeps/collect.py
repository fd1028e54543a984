"""The numbers of one child's row: the last value of a logged scalar, a number in a JSON file, the seconds of a step."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from videoar.errors import UserError

Curve = dict[int, float]
"""Value of a scalar at each step."""


def collect(folder: Path, sources: dict[str, dict[str, Any]], seconds: dict[str, float]) -> dict[str, float]:
    """Every number of `sources`, found below `folder`.

    Raises:
        UserError: a number that is missing or not finite.
    """
    curves = read_scalars(folder) if any("scalar" in source for source in sources.values()) else {}
    found = {}
    for name, source in sources.items():
        if "scalar" in source:
            value = _scalar(curves, source["scalar"], source.get("pick", "last"), folder)
        elif "json" in source:
            value = _json(folder / str(source["json"]), str(source.get("key", name)))
        else:
            value = seconds[source["seconds"]]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{name} is {value!r}, not a finite number")
        found[name] = value
    return found


def _scalar(curves: dict[str, Curve], tag: str, pick: str, folder: Path) -> float:
    if not curves.get(tag):
        there = ", ".join(sorted(curves)[:12]) or "none at all"
        raise UserError(f"no scalar {tag!r} in the logs below {folder}; there are {there}")
    curve = curves[tag]
    if pick == "last":
        return curve[max(curve)]
    return min(curve.values()) if pick == "min" else max(curve.values())


def _json(path: Path, key: str) -> Any:
    """A number in a JSON file by dotted key, list items by their index; of several files (`*.json`) in the newest."""
    path = max(path.parent.glob(path.name), key=lambda p: p.stat().st_mtime, default=path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    value = json.loads(path.read_text(encoding="utf-8"))
    for word in key.split("."):
        place: Any = int(word) if isinstance(value, list) and word.lstrip("-").isdigit() else word
        try:
            value = value[place]
        except (KeyError, IndexError, TypeError):
            there = f"; there are {', '.join(list(value)[:12])}" if isinstance(value, dict) else ""
            raise UserError(f"{path} has no {key!r} ({word!r} is missing{there})") from None
    return value


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
