"""Pieces of the page as HTML. Pictures and videos lie in it as data, so that the server gives out no files."""

# T frames · H W pixels

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from videoar.app.studio import Clips
from videoar.data.writers import write_mp4

STYLE = """
.va-head {display:flex; align-items:baseline; gap:.75rem; flex-wrap:wrap; padding:.25rem 0}
.va-head h1 {margin:0; font-size:1.6rem; letter-spacing:-.02em}
.va-head p {margin:0; color:var(--body-text-color-subdued)}
.va-grid {display:grid; gap:14px; grid-template-columns:repeat(auto-fill,minmax(var(--va-card),1fr))}
.va-card {margin:0; border-radius:12px; overflow:hidden; background:var(--background-fill-secondary);
  border:1px solid var(--border-color-primary)}
.va-card img,.va-card video {display:block; width:100%; image-rendering:pixelated; background:#0b1020}
.va-card figcaption {display:flex; justify-content:space-between; align-items:center; gap:8px; padding:7px 11px;
  font-size:.82rem; line-height:1.4; color:var(--body-text-color-subdued)}
.va-card figcaption b {color:var(--body-text-color); font-weight:600}
.va-card a {color:var(--link-text-color); text-decoration:none}
.va-bar {height:6px; border-radius:3px; background:var(--border-color-primary); overflow:hidden; margin:2px 0 12px}
.va-bar div {height:100%; background:var(--color-accent); transition:width .3s}
.va-note {font-size:.85rem; color:var(--body-text-color-subdued); margin:0 0 4px}
.va-empty {display:grid; place-items:center; min-height:300px; border:1px dashed var(--border-color-primary);
  border-radius:12px; color:var(--body-text-color-subdued); text-align:center; padding:2rem}
.va-curve {width:100%; height:auto; display:block}
.va-curve text {fill:var(--body-text-color-subdued); font-size:11px}
.va-curve .axis {stroke:var(--border-color-primary)}
.va-curve rect {fill:var(--color-accent)}
"""


def head(name: str, facts: Sequence[str]) -> str:
    """The title line."""
    return (
        f'<div class="va-head"><h1>VideoAR</h1><p>{escape(name)} · {" · ".join(map(escape, facts))}</p></div>'
        '<p class="va-note">Next frame, next scale: every frame is drawn coarse to fine, bit by bit.</p>'
    )


def empty(text: str) -> str:
    """What stands where videos will be."""
    return f'<div class="va-empty">{escape(text)}</div>'


def progress(done: int, total: int) -> str:
    """A bar and the count of frames."""
    share = round(100 * done / total)
    bar = f'<div class="va-bar"><div style="width:{share}%"></div></div>'
    return f'<p class="va-note">frame {done} of {total}</p>{bar}'


def pictures(clips: Clips, captions: Sequence[str]) -> str:
    """The newest frame of every video, while it is made."""
    cards = [_card(f'<img alt="{escape(c)}" src="{_png(clip[-1])}">', c, "…") for clip, c in zip(clips, captions)]
    return _grid(cards, _width(len(clips)))


def videos(clips: Clips, captions: Sequence[str], fps: float, card: int | None = None) -> str:
    """Looping videos, each with a link that saves it.

    Args:
        card: least width of one, in pixels of the page; None: by their number.
    """
    cards = []
    for clip, caption in zip(clips, captions):
        data, height, width = _mp4(clip, fps), *clip.shape[1:3]
        film = f'<video autoplay loop muted playsinline width="{width}" height="{height}" src="{data}"></video>'
        name = "".join(c if c.isalnum() else "_" for c in caption)[:60]
        cards.append(_card(film, caption, f'<a download="{name}.mp4" href="{data}">save</a>'))
    return _grid(cards, card or _width(len(clips)))


def curve(rows: list[list[float]], scales: Sequence[str]) -> str:
    """γ(t, k) as bars, a group a latent frame, a bar a scale."""
    width, height, left, below = 520, 120, 26, 18
    top = max(max(map(max, rows)), 1.0)
    slot = (width - left) / len(rows)
    bar = slot * 0.86 / len(rows[0])
    parts = [f'<line class="axis" x1="{left}" x2="{width}" y1="{height}" y2="{height}"/>']
    parts += [f'<text x="{left - 5}" y="{y}" text-anchor="end">{v:g}</text>' for v, y in ((top, 11), (0, height))]
    for t, row in enumerate(rows):
        x = left + slot * t + slot * 0.07
        parts.append(f'<text x="{x + slot * 0.43:.1f}" y="{height + 14}" text-anchor="middle">t = {t + 1}</text>')
        for k, value in enumerate(row):
            h = max(1.0, (height - 6) * value / top)
            said = f"frame {t + 1}, scale {scales[k]}: γ = {value:.2f}"
            parts.append(
                f'<rect x="{x + bar * k:.1f}" y="{height - h:.1f}" width="{bar * 0.86:.1f}" height="{h:.1f}" rx="1.5" '
                f'opacity="{0.45 + 0.55 * (k + 1) / len(row):.2f}"><title>{escape(said)}</title></rect>'
            )
    body = "".join(parts)
    note = '<p class="va-note">guidance γ(t, k): one group a latent frame, one bar a scale, coarse to fine</p>'
    label = f'role="img" aria-label="guidance from {min(map(min, rows)):g} to {top:g}"'
    return f'{note}<svg class="va-curve" viewBox="0 0 {width} {height + below}" {label}>{body}</svg>'


def _width(count: int) -> int:
    """Least width of a video, so that few are large."""
    return 280 if count <= 2 else 190


def _grid(cards: Sequence[str], card: int) -> str:
    return f'<div class="va-grid" style="--va-card:{card}px">{"".join(cards)}</div>'


def _card(content: str, caption: str, right: str) -> str:
    return f'<figure class="va-card">{content}<figcaption><b>{escape(caption)}</b>{right}</figcaption></figure>'


def _png(frame: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _mp4(clip: np.ndarray, fps: float) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_mp4(path, clip, fps)
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
