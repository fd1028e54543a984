"""What a sweep shows: its plan before it runs; then a live table on a terminal, one line an event elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from videoar.sweeps.child import read_json, tail
from videoar.sweeps.report import Outcome, number
from videoar.sweeps.spec import Child, Sweep

LOOK_S = 1.0


def plan_text(sweep: Sweep) -> str:
    """The children, their commands and their override files."""
    lines = []
    for child in sweep.everything:
        lines += [f"# {child.name}", *child.commands()]
        if child.override:
            lines += [f"    {line}" for line in child.override_yaml().splitlines()]
    return "\n".join([*lines, f"{len(sweep.children)} children in {sweep.out}"]) + "\n"


class View:
    """States of all children. `with View(children, metrics) as view:` shows them while the block runs."""

    def __init__(self, children: list[Child], metrics: list[str]) -> None:
        self.names, self.metrics = [child.name for child in children], metrics
        self.state = dict.fromkeys(self.names, "waiting")
        self.note = dict.fromkeys(self.names, "")
        self.began: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.values: dict[str, dict[str, float]] = {}
        self.live: Any = None
        self._looked: dict[str, float] = {}

    def __enter__(self) -> View:
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(get_renderable=self.table, refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*error)

    def started(self, child: Child) -> None:
        """A child begins."""
        self.began[child.name] = time.monotonic()
        self._set(child.name, "started")

    def running(self, child: Child, folder: Path) -> None:
        """Look, about once a second, which step a child is at."""
        now = time.monotonic()
        if now - self._looked.get(child.name, 0.0) < LOOK_S:
            return
        self._looked[child.name] = now
        step = read_json(folder / "state.json").get("running")
        if step:
            self._set(child.name, str(step))
        if self.live is not None:
            self.note[child.name] = (tail(folder, 1) or [""])[0].rsplit("\r", 1)[-1][-100:]

    def ended(self, outcome: Outcome, state: str = "") -> Outcome:
        """A child is over; returns the outcome."""
        name = outcome.child.name
        self.took[name] = outcome.seconds or time.monotonic() - self.began.get(name, time.monotonic())
        self.values[name] = outcome.metrics
        shown = "  ".join(f"{metric} {number(value)}" for metric, value in outcome.metrics.items())
        self.note[name] = outcome.error
        self._set(name, state or outcome.state, outcome.error or shown)
        return outcome

    def _set(self, name: str, state: str, detail: str = "") -> None:
        """Note a state; without a terminal, print it if it is new."""
        if state != self.state[name] and self.live is None:
            place = f"[{self.names.index(name) + 1}/{len(self.names)}]"
            took = f" ({self.took[name]:.0f} s)" if name in self.took else ""
            print(f"{place} {name}: {state}{took}  {detail}".rstrip(), flush=True)
        self.state[name] = state

    def table(self) -> Any:
        """The live table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None)
        for column in ("child", "state", "time"):
            table.add_column(column)
        for metric in self.metrics:
            table.add_column(metric, justify="right")
        table.add_column("", overflow="ellipsis", no_wrap=True)
        colours = {"finished": "green", "finished before": "green", "failed": "red", "waiting": "dim"}
        for name in self.names:
            state = self.state[name]
            began = self.began.get(name)
            took = self.took.get(name, time.monotonic() - began if began is not None else 0.0)
            found = [number(value) for value in self.values.get(name, {}).values()] or [""] * len(self.metrics)
            colour = colours.get(state, "yellow")
            clock = f"{int(took) // 60}:{int(took) % 60:02}" if took else ""
            table.add_row(Text(name), Text(state, colour), clock, *found, Text(self.note[name]))
        return table
