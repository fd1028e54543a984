"""Progress of the commands: bars on a terminal, else a line now and then, so that a log file shows life."""

from __future__ import annotations

import sys
import time
from typing import Any, Self


class Jobs:
    """Shows how far named jobs are, on stderr; stdout holds results alone.

        with Jobs() as jobs:
            jobs.show("reconstructing", 3, 17)

    Args:
        seconds: without a terminal, the shortest time between two lines; what ends sooner says nothing.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(transient=True, console=Console(stderr=True))
            self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, what: str, done: int, total: int | None, text: str | None = None) -> None:
        """`done` of `total` (None: unknown) of the job `what`; `text` is shown instead of its name."""
        if self._bar is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total)
            self._bar.update(self._tasks[what], completed=done, total=total, description=text or what)
            return
        now = time.monotonic()
        if done <= self._done.get(what, 0):  # a job that begins anew
            self._began[what] = now
        self._done[what], began = done, self._began.setdefault(what, now)
        if now - self._said >= self.seconds:
            self._said = now
            place = f"{done}/{total}" if total else str(done)
            left = f", {round((now - began) / done * (total - done))} s left" if total and done and now > began else ""
            print(f"{text or what}: {place}{left}", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """A line that stays, above the bars."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
