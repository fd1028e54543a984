"""Fonts for pictures: one that has the letters of a text, or a stated stand-in for those that none has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PLACES = (
    "/usr/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
)
WIDE = (
    "NotoSansCJK",
    "NotoSansSC",
    "SourceHanSans",
    "wqy",
    "DroidSansFallback",
    "unifont",
    "ArialUnicode",
    "PingFang",
    "msyh",
)
"""What files of fonts with Chinese, Japanese and Korean are called."""


def font_for(text: str) -> tuple[Path, str]:
    """A font file for `text`, and the text as it can be drawn with it.

    The first of VIDEOAR_FONT (a file), DejaVu Sans (Latin, Greek, Cyrillic, …; of matplotlib) and this machine's fonts
    with Chinese, Japanese and Korean that has every letter. Letters that none has become `U+6CB3`.
    """
    found = list(_files())
    for path in found:
        if all(ord(letter) in _letters(path) for letter in text):
            return path, text
    has = _letters(found[0])
    return found[0], "".join(letter if ord(letter) in has else f"U+{ord(letter):04X} " for letter in text).rstrip()


def _files() -> Iterator[Path]:
    import matplotlib

    if given := os.environ.get("VIDEOAR_FONT"):
        yield Path(given)
    yield Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    yield from _wide_fonts()


@cache
def _wide_fonts() -> tuple[Path, ...]:
    """Fonts of this machine for Chinese, Japanese and Korean."""
    folders = [Path(place).expanduser() for place in PLACES]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*.[to]t[fc]"))]
    return tuple(path for path in files if any(name.lower() in path.name.lower() for name in WIDE))


@cache
def _letters(path: Path) -> frozenset[int]:
    """The code points that a font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(path)).get_charmap())
