"""What a data module holds and whether it suits a model, in words."""

import logging
from collections.abc import Sequence
from pathlib import Path

from videoar.data.curriculum import Curriculum
from videoar.data.folders import some
from videoar.data.items import Item, SourceIndex
from videoar.data.latents import latent_captions
from videoar.data.probe import UnreadableClip
from videoar.errors import UserError

log = logging.getLogger(__name__)
UNCONDITIONAL = "`model.generator.condition: none` trains without conditions"


def describe_source(index: SourceIndex) -> str:
    """One line: kind, clips of each split, classes, captions."""
    counts = ", ".join(f"{len(items)} {split}" for split, items in index.splits.items())
    classes = f"{len(index.class_names)} classes ({some(index.class_names)})" if index.class_names else "no classes"
    captions = sum(_has_caption(item) for item in index.splits["train"])
    return f"{index.name}: {index.kind} clips ({counts}), {classes}, {captions} captions"


def check_condition(condition: str, sources: Sequence[SourceIndex]) -> None:
    """Whether the clips have what a generator of this condition learns from; a warning if some have not.

    Raises `UserError` if none has: it would learn the null condition only, and its samples of a class or a prompt would
    be noise.
    """
    items = [(index, item) for index in sources for item in index.splits["train"]]
    labelled = sum(item.label is not None for _, item in items)
    if condition == "none":
        if labelled:
            log.info("condition none: the classes of %d clips are not used", labelled)
        return
    if condition == "class":
        have, what, missing = labelled, "classes", "a class"
        other = ", `bytes` or `text` learns from captions" if any(_has_caption(item) for _, item in items) else ""
    else:
        have = sum(_has_caption(item) or bool(item.label) or _stored_caption(index, item) for index, item in items)
        what, missing, other = "captions", "a caption", ", `class` learns from class folders" if labelled else ""
    if not have:
        raise UserError(
            f"condition {condition} needs {what}, and none of {len(items)} clips has one; {UNCONDITIONAL}{other}"
        )
    if have < len(items):
        log.warning(
            "%d of %d clips have no %s and train the null condition", len(items) - have, len(items), missing[2:]
        )


def unreached(curriculum: Curriculum, batches: int) -> str | None:
    """What to say of stages that a run of so many batches never reaches; None if it reaches all."""
    missed = [number for number, start in enumerate(curriculum.starts) if start >= batches]
    if not missed:
        return None
    first, last = missed[0], curriculum.stages[missed[-1]]
    which = f"stage {first + 1}" if len(missed) == 1 else f"stages {first + 1} to {missed[-1] + 1}"
    reached = curriculum.stages[: first or 1]
    images = ": it trains on images alone" if all(s.image_share == 1 or s.frames == 1 for s in reached) else ""
    return (
        f"the run ends at batch {batches} and never reaches {which} of {len(curriculum.stages)}, which begins at batch "
        f"{curriculum.starts[first]}; the last one has clips of {last.frames} frames{images}"
    )


def _has_caption(item: Item) -> bool:
    """A caption of its own: not just the name of its class."""
    return bool(item.captions) or item.caption not in ("", item.label)


def _stored_caption(index: SourceIndex, item: Item) -> bool:
    try:
        return index.kind == "latent" and Path(item.path).is_file() and bool(latent_captions(item.path))
    except UnreadableClip:  # training replaces and counts it
        return False
