"""Cases, ceilings and figures of a benchmark: what is timed, what the device can reach, how close we come."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from videoar.benchmarking.timing import (
    Roofline,
    Timing,
    Workload,
    flop_counter,
    machine,
    measure,
    measure_roofline,
    seconds_of,
)
from videoar.data.files import atomic_path
from videoar.provenance import commit, versions

log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        unit, amount: what a call makes and how many of them (clips, tokens, frames), for the rate.
        dtype: of the arithmetic; chooses the ceiling.
    """

    suite: str
    workload: Workload
    unit: str
    amount: float
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Figure:
    """A case's result.

    Attributes:
        flops, bytes: of one call; the bytes are the least it must move.
        of_matmul: share of the matrix product's FLOP/s in the same dtype (in training: the MFU); None without FLOPs.
        rate: units a second at the median.
        peak_mib: device memory above the weights' own; None where the device does not say.
    """

    suite: str
    dtype: str
    flops: float
    bytes: float
    timing: Timing
    of_matmul: float | None
    unit: str
    rate: float
    peak_mib: float | None


def ceilings(device: torch.device) -> dict[str, Roofline]:
    """Matrix product and copy of this device, now, in float32 and bfloat16."""
    return {name: measure_roofline(device, dtype) for name, dtype in DTYPES.items()}


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions of a call."""
    with torch.no_grad(), flop_counter() as counter:
        run()
    return counter.get_total_flops()


def run_case(case: Case, device: torch.device, roof: Roofline, budget_s: float) -> Figure:
    """Time one case after a warm-up: 3 to 30 repeats, as many as fit into about `budget_s` seconds; 1 for slow ones."""
    start = _reset_memory(device)
    warm = seconds_of(case.workload.run, device, repeats=1, warmup=0)[0]
    if warm < budget_s / 4 or device.type == "cuda":  # there the first call may compile or record
        warm = seconds_of(case.workload.run, device, repeats=1, warmup=1)[0]
    repeats = 1 if warm > 5 * budget_s else max(3, min(30, int(budget_s / max(warm, 1e-6))))
    timing = measure(case.workload, device, roof, repeats, warmup=0)
    peak = None if start is None else (torch.cuda.max_memory_allocated(device) - start) / 2**20
    of_matmul = timing.tflops / roof.tflops if case.workload.flops else None
    rate = case.amount / (timing.median_ms / 1e3)
    dtype = str(case.dtype).removeprefix("torch.")
    flops, moved = case.workload.flops, case.workload.bytes
    return Figure(case.suite, dtype, flops, moved, timing, of_matmul, case.unit, rate, peak)


def _reset_memory(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def run_cases(
    cases: Iterable[Case], device: torch.device, roofs: dict[str, Roofline], budget_s: float
) -> Iterator[Figure]:
    """Time cases one after the other; each is made only when its turn comes."""
    for case in cases:
        figure = run_case(case, device, roofs[str(case.dtype).removeprefix("torch.")], budget_s)
        log.info("%s %s: %.3g ms", case.suite, case.workload.name, figure.timing.median_ms)
        del case  # its model, before the next one is made
        yield figure


def report(
    figures: list[Figure], roofs: dict[str, Roofline], device: torch.device, settings: dict[str, Any]
) -> dict[str, Any]:
    """Everything as plain data."""
    place = machine(device, torch.float32)
    del place["dtype"]
    return {
        "machine": place | {"processor": _processor()},
        "versions": versions(),
        "commit": commit(),
        "settings": settings,
        "ceilings": {name: asdict(roof) for name, roof in roofs.items()},
        "figures": {f"{figure.suite}/{figure.timing.name}": plain(figure) for figure in figures},
    }


def plain(figure: Figure) -> dict[str, Any]:
    """A figure as plain data, the timing beside the rest."""
    values = asdict(figure)
    timing = values.pop("timing")
    return timing | values


def save(content: dict[str, Any], folder: str | Path) -> Path:
    """Write the report as JSON, named by device, torch, commit, preset, and a digest of the settings and cases.

    The same benchmark of the same commit replaces its file, another one never does.
    """
    device = content["machine"]["device"]
    if content["machine"]["cuda"] is None:
        device = f"cpu {content['machine']['processor']} {device.split(',')[-1]}"
    words = [device, f"torch {content['versions']['torch']}", content["commit"].removesuffix("+changes")[:8]]
    asked = json.dumps([content["settings"], sorted(content["figures"])], sort_keys=True, default=str)
    words += [str(content["settings"].get("preset", "")), sha256(asked.encode()).hexdigest()[:6]]
    name = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-").lower() for word in words if word)
    with atomic_path(Path(folder) / f"{name}.json") as path:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return Path(folder) / f"{name}.json"


def _processor() -> str:
    """The CPU's name, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    import platform

    return platform.processor() or platform.machine()


WIDE = 180
"""Characters a line from which the whole table fits."""


def table(figures: list[Figure], roofs: dict[str, Roofline], width: int = WIDE) -> Any:
    """One rich table: every figure beside what the device reached on a matrix product and a copy.

    Below WIDE characters (80 in a pipe) only what is read first; everything is in the JSON.
    """
    from rich.table import Table

    reached = "{}: matmul {:,.0f} GFLOP/s, copy {:,.0f} GB/s"
    title = " · ".join(reached.format(name, roof.tflops * 1e3, roof.gigabytes) for name, roof in roofs.items())
    shown = Table(title=title)
    if width < WIDE:
        return _narrow(shown, figures)
    for column in ("suite", "case", "dtype", "shapes"):
        shown.add_column(column)
    for column in ("median ms", "p10–p90", "rate", "GFLOP", "MB", "GFLOP/s", "of matmul", "of roofline", "peak MiB"):
        shown.add_column(column, justify="right")
    for f in figures:
        t = f.timing
        shown.add_row(
            f.suite, t.name, f.dtype, t.detail, f"{t.median_ms:.4g}", f"{t.low_ms:.4g}–{t.high_ms:.4g}",
            rate(f), f"{f.flops / 1e9:.4g}" if f.flops else "–", f"{f.bytes / 1e6:.4g}",
            f"{t.tflops * 1e3:,.0f}" if f.flops else "–", percent(f.of_matmul), percent(t.roofline_share),
            "–" if f.peak_mib is None else f"{f.peak_mib:,.0f}",
        )  # fmt: skip
    return shown


def _narrow(shown: Any, figures: list[Figure]) -> Any:
    for column in ("case", "dtype"):
        shown.add_column(column, no_wrap=True)
    for column in ("median ms", "rate", "matmul", "roofline"):
        shown.add_column(column, justify="right", no_wrap=True)
    for f in figures:
        t, dtype = f.timing, f.dtype.replace("bfloat", "bf").replace("float", "fp")
        of = percent(f.of_matmul), percent(t.roofline_share)
        shown.add_row(f"{f.suite}/{t.name}", dtype, f"{t.median_ms:.4g}", rate(f), *of)
    return shown


def rate(figure: Figure) -> str:
    """How many a second, in at most eight figures and letters and the unit: 3.142, 314.2, 31.42k."""
    many, prefix = (figure.rate / 1e3, "k") if figure.rate >= 1e4 else (figure.rate, "")
    return f"{many:.4g}{prefix} {figure.unit}/s"


def percent(share: float | None) -> str:
    """A share as text."""
    return "–" if share is None else f"{100 * share:.0f} %"
