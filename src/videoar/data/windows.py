"""What is read outside training: the clips of validation and test, and for `videoar predict` all clips of all files."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from videoar.data.curriculum import Stage
from videoar.data.folders import some
from videoar.data.index import known
from videoar.data.items import Item, SourceIndex
from videoar.data.probe import UnreadableClip
from videoar.data.shards import local_file
from videoar.data.transforms import span
from videoar.ranges import BATCH, INDEX, check_given

log = logging.getLogger(__name__)
Window = tuple[int, int, int]
"""Source, item, first frame of the file."""


@dataclass
class Evaluation:
    """Validation and test: always the same clips, from the middle of the frame and the start of the file.

    Prediction: all clips of all files, one after the other.

    Their shape is that of the training stage in force, or of the last stage outside training.
    """

    clips: int | None = 64
    """Validation clips over all processes, spread over the classes; None: all that are held out."""
    batch_size: int | None = None
    """Clips a batch; None: the first stage's."""
    predict: Literal["train", "val", "test"] = "train"
    """What `videoar predict` runs over."""
    predict_every: int | None = None
    """Frames of a file from one predicted clip to the next; None: they follow each other, 0: only the first."""

    def __post_init__(self) -> None:
        check_given(self, clips=INDEX, batch_size=BATCH, predict_every=INDEX)


def windows(sources: Sequence[SourceIndex], split: str, stage: Stage, every: int | None) -> list[Window]:
    """All clips of the files of a split; `every` frames of the file from one to the next, 0: only the first.

    With None they follow each other without overlap. What remains at the end of a file is left out, as are files that
    are too short, which the log counts. Lengths that no manifest knows are read from the files; of a file that cannot
    be read the first clip is listed, so that whoever reads it finds out.
    """
    wanted = {source.kind for source in sources} - {"image"} or {"image"}
    found: list[Window] = []
    files, short = 0, []
    for number, source in enumerate(sources):
        if source.kind not in wanted:
            log.info("%s: left out, images among videos", source.name)
            continue
        for place, item in enumerate(source.splits[split]):
            starts = _starts(item, stage, every) if source.kind == "video" else range(1)
            found += [(number, place, first) for first in starts]
            files += bool(starts)
            if not starts:
                short.append(item.path)
    if short:
        log.warning("left out %d files, too short for %d frames: %s", len(short), stage.frames, some(short))
    log.info("%d clips of %d frames in %d files", len(found), stage.frames if "image" not in wanted else 1, files)
    return found


def _starts(item: Item, stage: Stage, every: int | None) -> range:
    """First frames of the clips of a video."""
    try:
        length, fps = _length(item)
    except UnreadableClip:
        return range(1)
    need = span(stage.frames, stage.stride_for(fps))
    last = length - need
    return range(0, last + 1, need if every is None else every or length + 1)


def _length(item: Item) -> tuple[int, float]:
    if item.frames is not None:
        return item.frames, item.fps
    with local_file(item) as path:
        found = known(path)
    return found.length, found.fps
