"""Configurations as plain data, fit for a weights-only checkpoint, and back."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any


def plain(value: Any) -> Any:
    """Plain data (dict, list, str, numbers) from dataclasses and tuples."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def from_plain(config_class: type, value: Any) -> Any:
    """A config dataclass from itself, from plain data (a checkpoint's hyper-parameters), or, for None, its defaults."""
    if value is None:
        return config_class()
    if not isinstance(value, dict):
        return value
    return config_class(**{k: v for k, v in value.items() if k not in getattr(config_class, "saved_before", ())})
