"""Every key of a training configuration: for `--help-all`, and for "did you mean" where one is misspelt."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from textwrap import shorten
from typing import Any, get_args, get_type_hints

from docstring_parser import parse_from_object


@dataclass(frozen=True)
class Key:
    """One value that can be set: `name` is dotted, without Lightning's `init_args`."""

    name: str
    type: str
    default: str
    doc: str


@cache
def keys_by_class() -> dict[str, list[Key]]:
    """The keys of both modules, of the data module and of Lightning's Trainer, by the class that takes them."""
    from lightning.pytorch import Trainer

    from videoar.data.datamodule import MixedDataModule
    from videoar.training import GeneratorModule, TokenizerModule

    roots = (("model", TokenizerModule), ("model", GeneratorModule), ("data", MixedDataModule), ("trainer", Trainer))
    return {kind.__name__: list(_keys(kind, section)) for section, kind in roots}


def reference() -> str:
    """The keys of model and data with type, default and meaning."""
    lines = []
    for name, keys in keys_by_class().items():
        if name != "Trainer":  # Lightning's own help has those
            lines += ["", f"keys of {name}:"]
        for key in keys if name != "Trainer" else ():
            lines.append(f"  --{key.name} {key.type}" + (f" = {key.default}" if key.default else ""))
            lines += [f"      {key.doc}"] if key.doc else []
    return "\n".join(lines)


def suggestion(message: str) -> str:
    """` (did you mean …?)` for a message about a key, class or preset that does not exist; else nothing."""
    for pattern in (
        r"^(?P<above>[\w.]+): Option '(?P<key>[\w.]+)' is not accepted",
        r"unrecognized arguments: --(?P<key>[\w.]+)",
        r"does not accept option '(?P<key>[\w.]+)'",
    ):
        if found := re.search(pattern, message):
            parts = found.groupdict()
            name = ".".join(filter(None, [parts.get("above"), parts["key"]])).replace("init_args.", "")
            return _meant(_close_keys(name))
    if found := re.search(r"no class ([\w.]+)", message):
        return _meant(get_close_matches(found[1].rsplit(".", 1)[-1], _class_names(), 2))
    return ""


def _meant(names: list[str]) -> str:
    return f" (did you mean {' or '.join(names)}?)" if names else ""


def _close_keys(name: str) -> list[str]:
    """Known keys that read like `name`: as a whole, or with the same last word somewhere else."""
    known = list(dict.fromkeys(key.name for keys in keys_by_class().values() for key in keys))
    sections = [*dict.fromkeys(key.split(".")[0] for key in known), "config", "ckpt_path", "seed_everything"]
    if "." not in name:
        return get_close_matches(name, sections, 1)
    section, rest = name.split(".", 1)
    if section not in sections:
        section = (get_close_matches(section, sections, 1) or [section])[0]
    whole = get_close_matches(f"{section}.{rest}", known, 2, 0.8)
    whole = [key for key in whole if not any(other.startswith(f"{key}.") for other in whole)]
    elsewhere = [key for key in known if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    return whole or elsewhere[:2]


def _class_names() -> list[str]:
    """Short names of the callbacks and loggers that a configuration may name."""
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    def below(kind: type[Any]) -> Iterator[type[Any]]:
        children: list[type[Any]] = kind.__subclasses__()
        for child in children:
            yield child
            yield from below(child)

    kinds: tuple[type[Any], ...] = (Callback, Logger)
    return [child.__name__ for kind in kinds for child in below(kind)]


def _keys(kind: Any, prefix: str) -> Iterator[Key]:
    """The arguments of a class, and of the dataclasses among them theirs."""
    docs = {name: p.description or "" for p in parse_from_object(kind).params for name in p.arg_name.split(", ")}
    hints = get_type_hints(kind if is_dataclass(kind) else kind.__init__)
    for name, default in _defaults(kind):
        hint = hints.get(name, Any)
        nested = [part for part in _parts(hint) if is_dataclass(part)]
        doc = shorten(" ".join(docs.get(name, "").split()), 160, placeholder=" …")
        yield Key(f"{prefix}.{name}", _type(hint), default, doc)
        for part in nested:
            yield from _keys(part, f"{prefix}.{name}")


def _defaults(kind: Any) -> Iterator[tuple[str, str]]:
    if is_dataclass(kind):
        for field in fields(kind):
            given = field.default_factory() if field.default_factory is not MISSING else field.default
            yield field.name, "" if given is MISSING else _text(given)
        return
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            yield name, "" if parameter.default is parameter.empty else _text(parameter.default)


def _text(value: Any) -> str:
    """A value as YAML has it."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _parts(hint: Any) -> list[Any]:
    """The plain types that a hint is made of."""
    inner = get_args(hint)
    return [part for item in inner for part in _parts(item)] if inner else [hint]


def _type(hint: Any) -> str:
    text = getattr(hint, "__name__", "") if isinstance(hint, type) and not get_args(hint) else str(hint)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", text).replace("NoneType", "null").replace("None", "null")
    return text.replace("Literal", "one of ")
