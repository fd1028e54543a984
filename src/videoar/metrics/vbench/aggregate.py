"""VBench's total, quality and semantic score from per-dimension values (VBench scripts/constant.py).

normalised = (raw − min) / (max − min), not clipped      group = Σ w·normalised / Σ w
total = (4·quality + semantic) / 5
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videoar.errors import UserError


@dataclass(frozen=True)
class Scale:
    """How one dimension enters a total."""

    low: float
    high: float
    weight: float
    group: Literal["quality", "semantic"]


SCALES: dict[str, Scale] = {
    "subject_consistency": Scale(0.1462, 1.0, 1.0, "quality"),
    "background_consistency": Scale(0.2615, 1.0, 1.0, "quality"),
    "temporal_flickering": Scale(0.6293, 1.0, 1.0, "quality"),
    "motion_smoothness": Scale(0.706, 0.9975, 1.0, "quality"),
    "dynamic_degree": Scale(0.0, 1.0, 0.5, "quality"),
    "aesthetic_quality": Scale(0.0, 1.0, 1.0, "quality"),
    "imaging_quality": Scale(0.0, 1.0, 1.0, "quality"),
    "object_class": Scale(0.0, 1.0, 1.0, "semantic"),
    "multiple_objects": Scale(0.0, 1.0, 1.0, "semantic"),
    "human_action": Scale(0.0, 1.0, 1.0, "semantic"),
    "color": Scale(0.0, 1.0, 1.0, "semantic"),
    "spatial_relationship": Scale(0.0, 1.0, 1.0, "semantic"),
    "scene": Scale(0.0, 0.8222, 1.0, "semantic"),
    "appearance_style": Scale(0.0009, 0.2855, 1.0, "semantic"),
    "temporal_style": Scale(0.0, 0.364, 1.0, "semantic"),
    "overall_consistency": Scale(0.0, 0.364, 1.0, "semantic"),
}
QUALITY = tuple(name for name, scale in SCALES.items() if scale.group == "quality")


def normalise(dimension: str, raw: float) -> float:
    """A raw value on VBench's common scale; may leave [0, 1], as in VBench."""
    scale = SCALES[dimension]
    return (raw - scale.low) / (scale.high - scale.low)


@dataclass(frozen=True)
class VBenchScores:
    """Group scores in [0, 1]; None where dimensions of the group are missing (VBench itself would count them as 0)."""

    total: float | None
    quality: float | None
    semantic: float | None
    missing: tuple[str, ...]


def aggregate(raw: Mapping[str, float]) -> VBenchScores:
    """VBench's scores from raw values by dimension.

    Keys may have spaces for underscores. A score made with a substitute (`dimension@substitute`) is not VBench's
    number and counts as missing.

    Raises:
        ValueError: a name that is no dimension.
    """
    values = {name.replace(" ", "_"): value for name, value in raw.items() if "@" not in name}
    if unknown := sorted(set(values) - set(SCALES)):
        raise ValueError(f"not VBench dimensions: {', '.join(unknown)}")
    missing = tuple(name for name in SCALES if name not in values)
    groups: dict[str, float | None] = {}
    for group in ("quality", "semantic"):
        members = {name: scale.weight for name, scale in SCALES.items() if scale.group == group}
        if any(name in missing for name in members):
            groups[group] = None
        else:
            weighted = sum(weight * normalise(name, values[name]) for name, weight in members.items())
            groups[group] = weighted / sum(members.values())
    quality, semantic = groups["quality"], groups["semantic"]
    total = None if quality is None or semantic is None else (4 * quality + semantic) / 5
    return VBenchScores(total, quality, semantic, missing)


def read_results(folder: str | Path) -> dict[str, float]:
    """Raw values by dimension from the official suite's `*_eval_results.json` files, in `folder` or one level below.

    Raises:
        UserError: no folder, no result, or one dimension with two different values.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder of VBench results at {folder}")
    values: dict[str, float] = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        try:
            content: Any = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            continue  # …_full_info.json is a list of prompts
        for name, entry in content.items():
            name = name.replace(" ", "_")
            if name not in SCALES or not isinstance(entry, list) or not entry:
                continue
            value = float(entry[0])
            if values.setdefault(name, value) != value:
                raise UserError(f"{path}: {name} is {value}, but another result says {values[name]}")
    if not values:
        raise UserError(f"no VBench result ({{dimension: [average, …]}}) in {folder}")
    return values
