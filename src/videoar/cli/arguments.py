"""What is done to the words of a training command before Lightning's parser sees them.

- presets are written out, so that overrides change single fields of them (`training/presets.py`);
- whether `data:` is a data module of one's own is found out, because Lightning must know before it parses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from videoar.shipped import located
from videoar.training.presets import expand_model, expanded
from videoar.yaml_files import read_mapping, read_value


def prepared(arguments: list[str]) -> tuple[list[str], bool]:
    """The words for the parser, and whether the data module is one that `data:` names by its class.

    Raises:
        UserError: a --config that is no file or no YAML.
    """
    pairs = list(_options(arguments))
    configs = {value: read_mapping(value) for option, value in pairs if option == "--config" and value}
    argument = _kind(_class_of("model", pairs, configs))
    words = []
    for option, value in pairs:
        words += [option] if value is None else [option, _expanded(option, value, argument, configs)]
    return words, bool(_class_of("data", pairs, configs))


def _options(arguments: list[str]) -> Iterator[tuple[str, str | None]]:
    """(option, value) of `--option value` and `--option=value`; (word, None) of a word that stands alone."""
    rest = iter(arguments)
    pending: str | None = None
    for word in rest:
        if pending is not None and not word.startswith("--"):
            yield pending, word
            pending = None
            continue
        if pending is not None:
            yield pending, None
            pending = None
        if word.startswith("-") and not word.startswith("--"):
            word = "--config" + word[2:] if word.startswith("-c") else word
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
            yield (option, value) if not option.endswith("+") else (f"{option}={value}", None)
        elif word.startswith("--"):
            pending = word
        else:
            yield word, None
    if pending is not None:
        yield pending, None


def _kind(name: str) -> str:
    """Which module a class is, one of one's own included: `generator` or `tokenizer`."""
    if "." in name and not name.startswith("videoar."):
        module, _, own = name.rpartition(".")
        with suppress(ImportError):
            return getattr(getattr(import_module(module), own, None), "kind", "tokenizer")
    return "generator" if "GeneratorModule" in name else "tokenizer"


def _class_of(section: str, pairs: list[tuple[str, str | None]], configs: dict[str, dict[str, Any]]) -> str:
    """The class that `section` names, the last one given; "" for none."""
    found = ""
    for option, value in pairs:
        if option == "--config" and value in configs:
            given = configs[value].get(section)
            found = given if isinstance(given, str) else (given or {}).get("class_path", found)
        elif option in (f"--{section}", f"--{section}.class_path") and value is not None:
            given = read_value(value, option) if value.lstrip().startswith("{") else value
            found = given.get("class_path", found) if isinstance(given, dict) else str(given)
    return found


def _expanded(option: str, value: str, argument: str, configs: dict[str, dict[str, Any]]) -> str:
    """An option's value with presets written out; a file that holds one becomes its content."""
    if option == "--config":
        content = configs[value]
        new = content | {"model": expand_model(content["model"], argument)} if "model" in content else content
        return str(located(value)) if new == content else json.dumps(new)
    if option in (f"--model.{argument}", f"--model.init_args.{argument}"):
        given = read_value(value, option) if value.lstrip().startswith("{") else value
        new = expanded(argument, given)
        return value if new == given else json.dumps(new)
    return value
