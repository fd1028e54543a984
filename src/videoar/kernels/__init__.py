"""Opt-out twins of torch functions: the same result in less time, each where a measurement showed a gain.

A twin is on by default where its own test of device, dtype and layout says that it is faster. `without("name")` turns
it off by name, which changes only the time (`tests/kernels` compares).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("attention", "conv3d", "group_norm", "linear")
_off: set[str] = set()


def enabled(name: str) -> bool:
    """Whether the twin `name` may be used."""
    return name not in _off


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Use torch's own function instead of these twins inside the block.

    Raises:
        ValueError: a name that no twin has.
    """
    unknown = set(names) - set(NAMES)
    if unknown:
        raise ValueError(f"no twin named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    before = set(_off)
    _off.update(names)
    try:
        yield
    finally:
        _off.clear()
        _off.update(before)
