"""Pictures of many videos for people: contact sheets and moving grids with names, frame numbers, a title and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videoar.data.fonts import font_for
from videoar.data.writers import Video, to_uint8

PAD = 2
"""Pixels between tiles, and around them."""
GAP = 14
"""Pixels between two columns of a contact sheet."""
TEXT = 14
LINE = 20
LETTERS = 22
"""Letters in a line of a row's label; longer ones take up to three lines."""


def contact_sheet(
    rows: Sequence[Sequence[Video]],
    frames: int = 4,
    labels: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    side: int = 96,
) -> np.ndarray:
    """Rows of videos -> one uint8 `[H, W, 3]` image; each video is shown as `frames` evenly spaced frames.

    Args:
        labels: one a row, at its left. columns: one a column of videos, above its frames, with their numbers from 1.
        side: small videos are enlarged by a whole factor until their shorter side has so many pixels.

    Raises:
        ValueError: nothing to show, or a wrong number of labels or columns.
    """
    videos = _enlarged(rows, side)
    picks = [[np.linspace(0, len(v) - 1, min(frames, len(v))).round().astype(int) for v in row] for row in videos]
    widest = [max((row[j] for row in picks if j < len(row)), key=len) for j in range(max(map(len, picks)))]
    numbers = [["frame " * (not k) + str(n + 1) for k, n in enumerate(pick)] for pick in widest] if columns else []
    sheet = _Sheet.of(videos, [len(pick) for pick in widest], labels, columns, title, numbers)
    canvas = sheet.canvas.copy()
    for i, row in enumerate(videos):
        for j, video in enumerate(row):
            for k, n in enumerate(picks[i][j]):
                sheet.put(canvas[None], i, j, k, video[n : n + 1])
    return canvas


def moving_grid(
    rows: Sequence[Sequence[Video]],
    labels: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    side: int = 96,
) -> np.ndarray:
    """Rows of videos -> one video, uint8 `[T, H, W, 3]`, for a GIF or mp4; shorter videos hold their last frame.

    Args and errors as in `contact_sheet`.
    """
    videos = _enlarged(rows, side)
    sheet = _Sheet.of(videos, [1] * max(map(len, videos)), labels, columns, title, [])
    length = max(len(video) for row in videos for video in row)
    canvas = np.repeat(sheet.canvas[None], length, axis=0)
    for i, row in enumerate(videos):
        for j, video in enumerate(row):
            sheet.put(canvas, i, j, 0, video[np.minimum(np.arange(length), len(video) - 1)])
    return canvas


def _enlarged(rows: Sequence[Sequence[Video]], side: int) -> list[list[np.ndarray]]:
    """Bytes [T, H, W, 3], all by the factor that the smallest needs."""
    cells = [[to_uint8(video) for video in row] for row in rows]
    flat = [video for row in cells for video in row]
    if not flat or not all(len(video) for video in flat):
        raise ValueError("nothing to show: no rows, or a video without frames")
    factor = max(1, -(-side // max(min(video.shape[1:3]) for video in flat)))
    return [[video.repeat(factor, 1).repeat(factor, 2) for video in row] for row in cells]


@dataclass(frozen=True)
class _Sheet:
    """Everything but the videos, and where those go."""

    canvas: np.ndarray
    tops: list[int]
    lefts: list[list[int]]

    def put(self, canvas: np.ndarray, i: int, j: int, k: int, frames: np.ndarray) -> None:
        """Lay frames [T, h, w, 3] into tile k of row i and column j of [T, H, W, 3]."""
        top, left = self.tops[i], self.lefts[j][k]
        canvas[:, top : top + frames.shape[1], left : left + frames.shape[2]] = frames

    @staticmethod
    def of(
        videos: list[list[np.ndarray]],
        tiles: list[int],
        labels: Sequence[str],
        columns: Sequence[str],
        title: str,
        numbers: Sequence[Sequence[str]],
    ) -> _Sheet:
        for what, given, wanted in (("labels", labels, len(videos)), ("columns", columns, len(tiles))):
            if given and len(given) != wanted:
                raise ValueError(f"{len(given)} {what} for {wanted} {what.replace('labels', 'rows')}")
        height, width = (max(v.shape[axis] for row in videos for v in row) + PAD for axis in (1, 2))
        names = [wrap(str(label), LETTERS)[:3] or [""] for label in labels]
        margin = max((int(_width(line)) for lines in names for line in lines), default=0) + (10 if labels else 0)
        top = PAD + LINE * (bool(title) + bool(columns) + bool(numbers))
        lefts, x = [], margin + PAD
        for j, count in enumerate(tiles):
            lefts.append([x + k * width for k in range(count)])
            room = int(_width(str(columns[j]))) + PAD if columns else 0
            x += max(count * width, room) + (GAP if max(tiles) > 1 else 0)
        right = x - (GAP if max(tiles) > 1 else 0)
        tops = [top + i * max(height, LINE * max(map(len, names), default=1)) for i in range(len(videos))]
        image = Image.new("RGB", (max(right, int(_width(title)) + 8), tops[-1] + height), "white")
        draw = ImageDraw.Draw(image)
        _write(draw, (margin + PAD, PAD), title)
        for j, column in enumerate(columns):
            _write(draw, (lefts[j][0], PAD + LINE * bool(title)), str(column))
        for j, texts in enumerate(numbers):
            for k, text in enumerate(texts):
                _write(draw, (lefts[j][k], top - LINE), text, "grey")
        for i, lines in enumerate(names):
            for n, line in enumerate(lines):
                _write(draw, (4, tops[i] + (height - LINE * len(lines)) // 2 + n * LINE), line)
        return _Sheet(np.asarray(image), tops, lefts)


def _width(text: str) -> float:
    path, shown = font_for(text)
    return ImageFont.truetype(str(path), TEXT).getlength(shown)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str = "black") -> None:
    path, shown = font_for(text)
    draw.text(at, shown, fill=colour, font=ImageFont.truetype(str(path), TEXT))
