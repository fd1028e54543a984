"""Many videos: (condition, seed) jobs, sampled batch after batch. The one loop over conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from videoar.errors import UserError
from videoar.generator.config import GeneratorConfig
from videoar.sampling.request import Request

Job: TypeAlias = "tuple[int | str | None, int]"
"""The condition of one video (a class's name or number, a prompt, None) and its seed."""


def all_conditions(config: GeneratorConfig) -> list[int | str | None]:
    """Every condition that a model knows of itself: its classes, or None where it is unconditional.

    Raises:
        UserError: the model is conditioned on text.
    """
    if config.condition == "class":
        return list(config.class_names or range(config.num_classes))
    if config.condition == "none":
        return [None]
    raise UserError("this model is conditioned on text: it needs prompts")


def in_batches(jobs: Sequence[Job], asked: Request, size: int) -> Iterator[tuple[Sequence[Job], Request]]:
    """At most `size` jobs at a time, and `asked` with their conditions and seeds.

    A sample depends on its seed alone and on no other of the batch, so any size gives the same videos to round-off.
    """
    for start in range(0, len(jobs), size):
        part = jobs[start : start + size]
        yield part, replace(asked, condition=[value for value, _ in part], seed=[seed for _, seed in part])
