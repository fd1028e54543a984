"""The numbers of one child's row: the last value of a logged scalar, a number in a JSON file, the seconds of a step."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from videoar.errors import UserError
from videoar.training.logs import Curve, read_scalars


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
