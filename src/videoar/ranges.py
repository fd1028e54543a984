"""What a count, a size, a rate or a seed may be: stated once, asked by options, configurations and Python calls.

FRAMES.check("frames", 0)            # UserError: frames must be a whole number from 1 to 100,000, got 0
parser.add_argument("--frames", type=FRAMES)      # the same, as an option's type
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from typing import Any

from videoar.errors import UserError


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; both ends belong to it unless `open_low`."""

    low: float
    high: float = math.inf
    whole: bool = True
    """Only integers."""
    open_low: bool = False
    """`low` itself is too low, as with a rate that must be positive."""

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.high == math.inf:
            return f"{kind} {'above' if self.open_low else 'of at least'} {self.low:,}"
        return f"{kind} {'above' if self.open_low else 'from'} {self.low:,} {'up ' * self.open_low}to {self.high:,}"

    def holds(self, value: Any) -> bool:
        """Whether a value is such a number (True and False are none)."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        finite = isinstance(value, int) or math.isfinite(value)  # a whole number may be too large for a float
        return finite and self.low <= value <= self.high and not (self.open_low and value == self.low)

    def check(self, name: str, value: Any) -> None:
        """Raise UserError unless `value` belongs to the range; the message names it `name`."""
        if not self.holds(value):
            raise UserError(f"{name} must be {self}, got {_shown(value)}")

    def __call__(self, text: str) -> Any:
        """An option's text as the number (for argparse)."""
        value: Any
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = text
        if not self.holds(value):
            raise argparse.ArgumentTypeError(f"must be {self}, got {_shown(text)}")
        return value


def check_ranges(owner: Any, **ranges: Range) -> None:
    """Raise UserError unless each named field of a configuration belongs to its range."""
    for name, allowed in ranges.items():
        allowed.check(name, getattr(owner, name))


def check_given(owner: Any, **ranges: Range) -> None:
    """`check_ranges` of those fields that are not None."""
    check_ranges(owner, **{name: allowed for name, allowed in ranges.items() if getattr(owner, name) is not None})


def check_memory(needed: float, what: str) -> None:
    """Raise UserError if `what` needs more bytes than this machine has memory."""
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > here:
        raise UserError(f"{what} need {needed / 1e9:,.0f} GB of memory, this machine has {here / 1e9:,.0f}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


WIDTH = Range(1, 65_536)
"""Channels, features and other widths of a layer."""
DEPTH = Range(1, 1_024)
"""Blocks, levels, scales."""
COUNT = Range(1, 100_000_000)
"""How many of a thing."""
INDEX = Range(0, 100_000_000)
"""How many of a thing, or none."""
FRAMES = Range(1, 100_000)
"""Frames of a clip."""
SIDE = Range(1, 16_384)
"""Pixels of a side."""
FPS = Range(0.1, 1_000, whole=False)
"""Frames a second."""
SECONDS = Range(0, 86_400, whole=False, open_low=True)
"""A time to wait, or a video's length: up to a day."""
SEED = Range(0, 2**32 - 1)
"""Seeds of random numbers; numpy's take no more."""
BATCH = Range(1, 65_536)
"""Samples in a batch."""
WORKERS = Range(1, 1_024)
"""Processes at once."""
LOADERS = Range(0, 1_024)
"""Processes that load data; 0: the training process itself."""
SHARE = Range(0, 1, whole=False)
"""A share or a probability."""
STRENGTH = Range(0, 1_000, whole=False)
"""Of a guidance; 0 is none."""
TEMPERATURE = Range(0, 100, whole=False, open_low=True)
"""Of a draw."""
AMOUNT = Range(0, 1e12, whole=False, open_low=True)
"""A positive quantity: gigabytes, operations a second, …"""
WEIGHT = Range(0, 1e12, whole=False)
"""How much one thing counts beside others; 0 switches it off. Also learning rates and largest norms."""
