"""Folders of videos: which files an evaluation reads, which real and generated ones belong together, and bad files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from videoar.data.files import VIDEO_SUFFIXES, is_text, walk
from videoar.data.folders import LeftOut, class_in, file_name_of, places, without_copies
from videoar.data.items import Source
from videoar.data.layout import BAD_FILES, read_bad_files
from videoar.data.lists import listed_videos
from videoar.data.sources import index_source
from videoar.errors import UserError
from videoar.evaluation.protocol import Protocol

Item = TypeVar("Item", str, tuple[str, str])
Out = TypeVar("Out")


@dataclass
class Skips:
    """Files that could not be used, with the reason; too many of them end the run.

    Args:
        limit: largest share of `expected` files that may be skipped.
    """

    expected: int
    limit: float
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Count one file; UserError when the share passes the limit."""
        self.reasons[name] = reason
        if len(self.reasons) > self.limit * self.expected:
            shown = "; ".join(f"{n}: {r}" for n, r in list(self.reasons.items())[:3])
            raise UserError(
                f"{len(self.reasons)} of {self.expected} videos cannot be used, more than {self.limit:.0%} "
                f"(--max-skipped): {shown}"
            )


class VideoFolder:
    """The videos of a folder and all its subfolders, or those that a list file names, in sorted order.

    A list file (`testlist01.txt`) has one path a line, relative to its own folder, perhaps followed by a class number.
    Copies (`without_copies`) and files that `videoar data check` has found bad are left out.

    Args:
        split: of a data set in a folder only what training calls so; `val` are the clips that it holds out.

    Raises:
        UserError: no folder, no video in it, or a listed file that is not there.
    """

    def __init__(self, path: str | Path, split: Literal["train", "val", "test"] | None = None) -> None:
        self.path = Path(path)
        if split is not None:
            items = index_source(Source(str(path))).splits[split]
            self.names = tuple(sorted(Path(item.path).relative_to(self.path).as_posix() for item in items))
            if not self.names:
                raise UserError(f"{path} has no clips of the split {split}")
            return
        if self.path.suffix == ".txt":
            self.names = listed_videos(self.path)
            self.path = self.path.parent
            return
        if not self.path.is_dir():
            raise UserError(f"no folder at {self.path}")
        every, left = walk(self.path, VIDEO_SUFFIXES), LeftOut(self.path)
        left.add("videos whose names are not UTF-8", *(p.relative_to(self.path) for p in every if not is_text(p)))
        single = without_copies([p for p in every if is_text(p)], left)
        found = {p.relative_to(self.path).as_posix() for p in single}
        bad = found & read_bad_files(self.path)
        left.add(f"files that {BAD_FILES} lists", *sorted(bad))
        left.log()
        if found == bad:
            raise UserError(f"no videos in {self.path} (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
        self.names = tuple(sorted(found - bad))

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, protocol: Protocol) -> tuple[str, ...]:
        """The names the protocol takes, sorted."""
        if protocol.videos is None or protocol.videos >= len(self.names):
            return self.names
        if protocol.select == "first":
            return self.names[: protocol.videos]
        return tuple(sorted(random.Random(protocol.seed).sample(self.names, protocol.videos)))

    def fingerprint(self, names: Sequence[str]) -> list[tuple[str, int, int]]:
        """(name, bytes, time of change) of files: changes when a file does."""
        stats = [(self.path / name).stat() for name in names]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats)]


def stem_of(name: str) -> str:
    """A file's path without its suffix: what pairs a generated video with a real one."""
    return name.rsplit(".", 1)[0]


def class_of(name: str, classes: Sequence[str]) -> int:
    """Which class a file belongs to, by a folder of its path or as `videoar sample`'s `<class>_<seed>`; -1: none."""
    if (label := class_in(PurePosixPath(name), classes)) is not None:
        return classes.index(label)
    stem = PurePosixPath(name).stem.rpartition("_")[0]
    return next((i for i, label in enumerate(classes) if stem == file_name_of(label)), -1)


def shared_classes(real: VideoFolder, fakes: Sequence[VideoFolder], protocol: Protocol) -> tuple[str, ...]:
    """The classes of the real videos, if every video of either side belongs to one of them; else one class for all."""
    found = places([PurePosixPath(name) for name in real.chosen(protocol)])
    classes = tuple(sorted({place[1] for place in found if place is not None and place[1] is not None}))
    names = [name for side in (real, *fakes) for name in side.chosen(protocol)]
    return ("",) if not classes or any(class_of(name, classes) < 0 for name in names) else classes


def readable(items: Sequence[Item], read: Callable[[Item], Out], skips: Skips) -> Iterator[Out]:
    """`read(item)` of every item; a bad file is counted in `skips` and left out."""
    for item in items:
        try:
            result = read(item)
        except (ValueError, OSError, RuntimeError) as error:  # decoders and unfit files; bugs pass through
            skips.add(item if isinstance(item, str) else str(item[0]), " ".join(str(error).split())[:200])
            continue
        yield result


def pair_names(real: Sequence[str], fake: Sequence[str]) -> list[tuple[str, str]]:
    """(real, fake) names whose paths without suffix agree.

    Raises:
        UserError: a file of one side has no twin on the other.
    """
    by_stem = [{stem_of(name): name for name in side} for side in (real, fake)]
    only_real, only_fake = by_stem[0].keys() - by_stem[1].keys(), by_stem[1].keys() - by_stem[0].keys()
    if not only_real and not only_fake:
        return [(by_stem[0][stem], by_stem[1][stem]) for stem in sorted(by_stem[0])]
    example = sorted(only_real or only_fake)[0]
    raise UserError(
        f"the files do not pair by name: {len(real)} real and {len(fake)} generated videos, "
        f"{len(only_real)} only real, {len(only_fake)} only generated, e.g. {example!r}"
    )
