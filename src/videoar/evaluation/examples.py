"""A few held-out clips to look at, and what a generator is asked for to make videos like them."""

# N clips · T frames · H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videoar.data.items import Item, Source
from videoar.data.readers import open_video
from videoar.data.sources import index_source
from videoar.data.transforms import fit
from videoar.errors import UserError
from videoar.generator.model import VideoAR


@dataclass(frozen=True)
class Clips:
    """The clips that all models get: videos [N, 3, T, H, W] in [-1, 1], and what each is called."""

    video: Tensor
    items: tuple[Item, ...]

    @property
    def names(self) -> list[str]:
        """The class of each, else its caption, else its file."""
        return [item.label or item.caption or Path(item.path).stem for item in self.items]


def read_clips(data: str | Path, count: int, frames: int, size: tuple[int, int], classes: Sequence[str] = ()) -> Clips:
    """The first frames of held-out clips, of each class in turn; of all clips where none is held out.

    Args:
        data: any data set of pixels that training takes, but no shards. size: (height, width), covered and cropped.
        classes: only clips of these, where there are any.

    Raises:
        UserError: no such data set, cached latents, or no clip of `frames` frames.
    """
    index = index_source(Source(str(data)))
    if index.kind not in ("video", "image"):
        raise UserError(f"{data} holds {index.kind}s; clips are compared as pixels")
    pools: dict[str, list[Item]] = {}
    held = index.splits.get("val") or index.splits["train"]
    for item in [item for item in held if item.label in classes] or held:
        pools.setdefault(item.label or "", []).append(item)
    videos: list[Tensor] = []
    items: list[Item] = []
    while len(items) < count and any(pools.values()):
        for pool in pools.values():
            if pool and len(items) < count:
                item = pool.pop(0)
                reader = open_video(item.path)
                if len(reader) >= frames:
                    videos.append(fit(reader.get(range(frames)), size))
                    items.append(item)
    if not items:
        raise UserError(f"no clip of {data} has {frames} frames; --frames takes shorter ones")
    return Clips(torch.stack(videos), tuple(items))


def conditions_of(generator: VideoAR, items: Sequence[Item]) -> list[str | None]:
    """What `generate` is asked for to get videos like these: their classes or captions, or nothing.

    A clip of a class that the model does not know gets one that it knows, one without a caption its file's name.
    """
    kind, known = generator.config.condition, list(generator.config.class_names or ())
    if kind == "none":
        return [None] * len(items)
    if kind == "class":
        return [item.label if item.label in known else known[i % len(known)] for i, item in enumerate(items)]
    return [item.caption or Path(item.path).stem for item in items]
