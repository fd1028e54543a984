"""YAML files that people write: a mapping, or one line that says which file and which line of it is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from videoar.errors import UserError
from videoar.shipped import located


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads 1e-4 as a number and refuses a key that is there twice.

    (YAML would take the later one in silence.)
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, ((key_node, _), key) in enumerate(zip(node.value, keys)):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} comes twice", key_node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_value(text: str, source: str) -> Any:
    """A value as YAML reads it: `--set steps=1e3` gives a number.

    Raises:
        UserError: the text is no YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{source}: {text[:60]!r} is no YAML: {' '.join(str(error).split())[:200]}") from error


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, perhaps one that comes with videoar (`located`); {} for an empty one.

    Raises:
        UserError: no file, not UTF-8, not YAML, a key that is there twice, or something else than a mapping.
    """
    place = located(path)
    if not place.is_file():
        raise UserError(f"no such file: {path}")
    try:
        value = yaml.load(place.read_bytes().decode("utf-8-sig"), _Loader)
    except UnicodeDecodeError as error:
        line = place.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, OSError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{path} holds {_kind(value)} where names and their values are needed")
    return value


def _kind(value: Any) -> str:
    return (
        "a list"
        if isinstance(value, list)
        else "keys that are no names"
        if isinstance(value, dict)
        else "a single value"
    )
