"""Which items suit which shape, and in which order held-out clips are shown."""

import logging
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from videoar.data.curriculum import Kind, Stage, nearest
from videoar.data.files import IMAGE_SUFFIXES
from videoar.data.folders import some
from videoar.data.items import Item, SourceIndex
from videoar.data.probe import UnreadableClip, frame_size
from videoar.data.sampler import Pool
from videoar.data.shards import local_file
from videoar.data.transforms import span
from videoar.errors import UserError

log = logging.getLogger(__name__)


def make_pools(stage: Stage, sources: Sequence[SourceIndex], name: str = "stage") -> dict[Kind, list[list[Pool]]]:
    """`pools[kind][shape][source]`: training items whose aspect ratio is nearest to the shape's.

    Clips whose verified length is too short for the stage are left out, which the log says with their number and the
    classes that have no others; `UserError` if a source has no others.
    """
    sizes = stage.sizes()
    pools: dict[Kind, list[list[Pool]]] = {"image": [[] for _ in sizes], "video": [[] for _ in sizes]}
    for source in sources:
        own: Kind = "image" if source.kind == "image" else "video"
        items = source.splits["train"]
        shapes = _shapes(items, sizes, source.kind == "latent")
        if source.kind == "video" and stage.image_share < 1:
            short = _too_short(source, items, stage)
            shapes[short] = -1
            _say_too_short(name, source, stage, short)
        blocks = np.array([item.block for item in items])
        for kind, rows in pools.items():
            for shape, row in enumerate(rows):
                chosen = np.flatnonzero(shapes == shape) if kind == own else np.array([], np.int64)
                row.append(Pool(chosen, blocks[chosen] if blocks.any() else None))
    return pools


def _shapes(items: Sequence[Item], sizes: Sequence[tuple[int, int]], latents: bool) -> np.ndarray:
    """Index of the nearest size for each item; files of unknown size are opened only if there is a choice."""
    if len(sizes) == 1 or latents:
        return np.zeros(len(items), np.int64)
    found = []
    for item in items:
        try:
            with local_file(item) as path:
                found.append(nearest(sizes, *(item.size or frame_size(path))))
        except UnreadableClip:
            found.append(0)  # it is replaced, counted and named when it is drawn
    return np.array(found)


def _too_short(source: SourceIndex, items: Sequence[Item], stage: Stage) -> np.ndarray:
    lengths = np.array([item.frames if item.frames is not None else -1 for item in items])
    needs = np.array([span(stage.frames, stage.stride_for(item.fps)) for item in items])
    short = (lengths >= 0) & (lengths < needs)
    if short.all():
        longest = int(lengths.argmax())
        raise UserError(
            f"{source.name}: every clip is too short; the longest, {items[longest].path}, has {lengths[longest]} "
            f"frames, and {stage.frames} at stride {stage.stride_for(items[longest].fps)} need {needs[longest]}"
        )
    return short


def _say_too_short(name: str, source: SourceIndex, stage: Stage, short: np.ndarray) -> None:
    if not short.any():
        return
    items = source.splits["train"]
    empty = {item.label for item in items} - {item.label for item, gone in zip(items, short, strict=True) if not gone}
    classes = f"; no clip is left of {len(empty)} classes: {some(sorted(map(str, empty)))}" if empty else ""
    wanted = f"{stage.frames} frames " + (f"at {stage.fps:g} fps" if stage.fps else f"at stride {stage.stride}")
    counts = f"left out {short.sum()} of {len(items)} clips, too short for {wanted}"
    log.warning("%s: %s: %s%s", name, source.name, counts, classes)


def held_out_order(sources: Sequence[SourceIndex], split: str, stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """(source, item) of a split, one of each class in turn; videos and latents, or images if there are only those.

    Clips that are known to be too short for a stage are left out, unless all are.
    """
    wanted = {source.kind for source in sources} - {"image"} or {"image"}
    classes: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for number, source in enumerate(sources):
        if source.kind in wanted:
            for place, item in enumerate(source.splits[split]):
                classes.setdefault((number, item.label or ""), []).append((number, place))
    order = [entry for row in zip_longest(*classes.values()) for entry in row if entry is not None]
    return [(n, place) for n, place in order if _long_enough(sources[n].splits[split][place], stages)] or order


def _long_enough(item: Item, stages: Sequence[Stage]) -> bool:
    if item.frames is None or Path(item.path).suffix.lower() in IMAGE_SUFFIXES:
        return True
    return all(item.frames >= span(stage.frames, stage.stride_for(item.fps)) for stage in stages)
