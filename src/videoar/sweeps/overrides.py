"""YAML and nested configurations: reading, dotted keys, merging."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from videoar.errors import UserError


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} → {"a": {"b": 1}}; keys may be dotted at every level."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        inner = nest(value) if isinstance(value, dict) else value
        for word in reversed(str(key).split(".")):
            inner = {word: inner}
        nested = merge(nested, inner)
    return nested


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`: mappings merge, everything else (lists too) is replaced.

    A preset is the mapping that it stands for: fields over `generator: debug` give `{preset: debug, …}`.
    """
    merged = dict(base)
    for key, value in over.items():
        before = {"preset": merged[key]} if is_preset(key, merged.get(key)) else merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def is_preset(key: str, value: Any) -> bool:
    """Whether a configuration's `key: value` names a preset of a model."""
    if key not in ("tokenizer", "generator") or not isinstance(value, str):
        return False
    from videoar.training.presets import NAMES  # loads torch, so only where a name asks for it

    return value in NAMES[key]


def dotted(key: str, base: dict[str, Any], where: str) -> None:
    """Check that a dotted key can be set in `base`: nothing on its way is a plain value.

    Raises:
        UserError: `a.b` where the base says `a: value`, and the value is no preset with fields to change.
    """
    inner: Any = base
    words = key.split(".")
    for i, word in enumerate(words[:-1]):
        inner = inner.get(word) if isinstance(inner, dict) else None
        if is_preset(word, inner):
            return
        if inner is not None and not isinstance(inner, dict):
            path = ".".join(words[: i + 1])
            raise UserError(f"{key} cannot be set: {path} is {inner!r} in {where}; write that value out as a mapping")


def checked_keys(given: Iterable[Any], known: set[str], what: str) -> None:
    """Refuse unknown keys."""
    unknown = [str(key) for key in given if key not in known]
    if unknown:
        raise UserError(f"{what} has no {', '.join(unknown)}; there are {', '.join(sorted(known)) or 'none'}")


def short_key(key: str, among: dict[str, Any]) -> str:
    """The fewest last words of a dotted key that tell it from the others."""
    words = key.split(".")
    for count in range(1, len(words)):
        tail = ".".join(words[-count:])
        if sum(other == tail or other.endswith("." + tail) for other in among) == 1:
            return tail
    return key


def plain_text(value: Any) -> str:
    """A grid's value as part of a name."""
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)


def fill(text: str, known: dict[str, Any]) -> str:
    """Replace {placeholders} by known values; {ckpt} stays until the child runs.

    Raises:
        UserError: an unknown placeholder, or one whose value is None: it must be given.
    """

    def replace(match: re.Match[str]) -> str:
        key = match[1]
        if key == "ckpt":
            return match[0]
        if key not in known:
            raise UserError(f"unknown placeholder {{{key}}} in {text!r}; there are {', '.join([*known, 'ckpt'])}")
        if known[key] is None:
            raise UserError(f"give {key}: --set {key}=VALUE")
        return str(known[key])

    return re.sub(r"\{([A-Za-z_]\w*)\}", replace, text)


def fill_all(value: Any, known: dict[str, Any]) -> Any:
    """`fill` in every string of nested data; one that is nothing but a placeholder becomes its value, a number say."""
    if isinstance(value, dict):
        return {key: fill_all(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_all(item, known) for item in value]
    if not isinstance(value, str):
        return value
    filled = fill(value, known)
    return known.get(value[1:-1], filled) if value == f"{{{value[1:-1]}}}" else filled
