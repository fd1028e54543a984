"""Where the repository's own configs and weights are, in a checkout or in an installed wheel."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from videoar.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def shipped(relative: str) -> Path:
    """The file or folder `relative` (e.g. `configs/evaluate`), from the checkout or from inside the package.

    Raises:
        UserError: this installation does not have it.
    """
    for root in (_PACKAGE, _PACKAGE.parents[1]):
        if (root / relative).exists():
            return root / relative
    raise UserError(f"this installation of videoar has no {relative}; give a path, or work from a checkout")


def located(path: str | Path) -> Path:
    """A config's path, or, for a `configs/…` that is not in the working folder, the one that comes with videoar."""
    place = Path(path)
    if place.exists() or place.parts[:1] != ("configs",):
        return place
    with suppress(UserError):
        return shipped(str(path))
    return place
