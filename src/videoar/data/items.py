"""The words of a data set: a source (what the user names), its items (what is found), their index."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from videoar.data.files import IMAGE_SUFFIXES, LATENT_SUFFIXES, VIDEO_SUFFIXES
from videoar.errors import UserError
from videoar.ranges import COUNT, WEIGHT, Range

SourceKind = Literal["video", "image", "latent"]
SUFFIXES: dict[SourceKind, frozenset[str]] = {
    "video": VIDEO_SUFFIXES,
    "image": IMAGE_SUFFIXES,
    "latent": LATENT_SUFFIXES,
}
SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def split_of(name: str) -> str | None:
    """Which split a folder or an entry of a list means (Train, valid, …); None for any other name."""
    return next((split for split, names in _SPLIT_NAMES.items() if name.lower() in names), None)


@dataclass
class Source:
    """One data set of a mixture."""

    path: str
    """A folder, a .csv or .jsonl list, or tar shards (a folder of them, or a pattern like shards/*.tar)."""
    kind: Literal["auto", "video", "image", "latent"] = "auto"
    """What it holds; needed only where a folder holds both videos and images."""
    weight: float = 1.0
    """Share of the samples of its kind, relative to the other sources."""
    split: int = 1
    """Which official split of UCF-101 (1 to 3)."""
    holdout: float = 0.05
    """Share of the clips held out for validation where the data set has no split of its own."""
    manifest: str | None = None
    """Folder of manifest.csv and bad_files.csv, where `videoar data check --out` wrote them; None: the data set's."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise UserError("the path of a data set must not be empty")
        for name, allowed in (("weight", WEIGHT), ("split", Range(1, 3)), ("holdout", Range(0, 0.99, whole=False))):
            allowed.check(f"{self.path}: {name}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class Item:
    """One clip, image or latent. `frames` is a verified count; `captions` are all of them where there are several.

    A member of a tar shard has the path `shard.tar/key.mp4`; `offset` and `bytes` place it in the file.
    """

    path: str
    label: str | None = None
    caption: str = ""
    split: str | None = None
    frames: int | None = None
    fps: float = 0.0
    size: tuple[int, int] | None = None
    offset: int = 0
    bytes: int = 0
    block: int = 0
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Look at the numbers, which come from lists, manifests and shards that anybody wrote."""
        if self.frames is not None:
            COUNT.check(f"{self.path}: frames", self.frames)
        WEIGHT.check(f"{self.path}: fps", self.fps)
        for side in self.size or ():
            COUNT.check(f"{self.path}: a side of its size", side)


def captioned(item: Item, caption: str | Sequence[str]) -> Item:
    """The item with its caption, or with several of which training draws one; without any, its label is the caption.

    Raises `UserError` for a caption that is no text.
    """
    texts = [caption] if isinstance(caption, str) else caption
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{item.path}: a caption is a text or a list of texts, got {caption!r}")
    texts = tuple(text for text in texts if text.strip())
    first = texts[0] if texts else item.label or ""
    return replace(item, caption=first, captions=texts if len(texts) > 1 else ())


def short_names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of paths that tell them apart: names for a log, without this machine's folders."""
    parts = [Path(path).absolute().parts for path in paths]
    for depth in range(1, max(map(len, parts), default=0)):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)


@dataclass(frozen=True)
class SourceIndex:
    """All items of a source by split, and its class names in label order (empty: unlabelled)."""

    name: str
    kind: SourceKind
    splits: dict[str, list[Item]]
    class_names: tuple[str, ...]
