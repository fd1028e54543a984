"""A benchmark: every case of the chosen suites, timed beside the ceilings of this device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videoar import kernels
from videoar.benchmarking import timing
from videoar.benchmarking.measure import WIDE, Figure, ceilings, report, run_cases, save, table
from videoar.benchmarking.setting import Setting
from videoar.benchmarking.suites import SUITES
from videoar.benchmarking.timing import Roofline
from videoar.errors import UserError


@dataclass(frozen=True)
class Result:
    """What a benchmark measured.

    Attributes:
        ceilings: dtype → what the device reached on a matrix product and a copy.
        content: everything as plain data, with machine, versions and settings.
    """

    figures: list[Figure]
    ceilings: dict[str, Roofline]
    content: dict[str, Any]

    def table(self, width: int = WIDE) -> Any:
        """The figures as a rich table that fits a line of `width` characters."""
        return table(self.figures, self.ceilings, width)

    def save(self, folder: str | Path) -> Path:
        """Write the content as JSON, under a name of its own (`measure.save`)."""
        return save(self.content, folder)


def run_benchmark(
    setting: Setting,
    suites: Sequence[str] = tuple(SUITES),
    *,
    cases: Sequence[str] = (),
    without: Sequence[str] = (),
    budget: float = 2.0,
    cpu_time: bool = False,
) -> Result:
    """Time the cases of `suites`, in the order of SUITES.

    Args:
        cases: only these; empty: all. without: fast paths to turn off, of `kernels.NAMES`.
        budget: seconds a figure may take (3 to 30 repeats; one where a call takes five times as long).
        cpu_time: count CPU seconds of one thread, not wall clock, on a shared machine.

    Raises:
        UserError: no case of these suites has one of the given names.
    """
    timing.CPU_CLOCK = time.process_time if cpu_time else time.perf_counter
    if cpu_time:
        torch.set_num_threads(1)
    chosen = [name for name in SUITES if name in suites]
    roofs, figures = ceilings(setting.device), list[Figure]()
    with kernels.without(*without):
        for name in chosen:
            wanted = (case for case in SUITES[name](setting) if not cases or case.workload.name in cases)
            figures += run_cases(wanted, setting.device, roofs, budget)
    if not figures:
        raise UserError(f"no case of {', '.join(chosen)} is called {' or '.join(cases)}")
    settings = {"preset": setting.preset, "frames": setting.frames, "size": list(setting.size), "batch": setting.batch}
    settings |= {"guidance": setting.guidance, "depth": setting.depth, "steps": setting.steps}
    settings |= {"without": list(without), "threads": torch.get_num_threads()}
    return Result(figures, roofs, report(figures, roofs, setting.device, settings))
