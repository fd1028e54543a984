"""A preset's name as what it stands for: all fields, so that whatever overrides one changes only that one.

    tokenizer: debug                         → {latent_dim: 16, channels: 16, …}
    tokenizer: {preset: debug, latent_dim: 24}   → {latent_dim: 24, channels: 16, …}

(The parser of configurations would replace the name by the first overriding field and take the dataclass's defaults for
the others: a model of the paper's size.)
"""

from __future__ import annotations

from typing import Any

from videoar.errors import UserError
from videoar.generator.config import PRESETS as GENERATORS
from videoar.generator.config import GeneratorConfig
from videoar.tokenizer.config import PRESETS as TOKENIZERS
from videoar.tokenizer.config import TokenizerConfig
from videoar.training.plain import plain

NAMES = {"tokenizer": tuple(TOKENIZERS), "generator": tuple(GENERATORS)}
"""The arguments of the modules that take a preset, and the presets there are."""


def preset_fields(argument: str, name: str) -> dict[str, Any]:
    """Every field of a preset, as plain data.

    Raises:
        UserError: an unknown preset.
    """
    if name not in NAMES[argument]:
        raise UserError(f"unknown {argument} preset {name!r}; there are {', '.join(NAMES[argument])}")
    kind: Any = TokenizerConfig if argument == "tokenizer" else GeneratorConfig
    return plain(kind.preset(name))


def expanded(argument: str, value: Any) -> Any:
    """`value` with the preset that it is, or names, written out; anything else as it is."""
    if isinstance(value, str) and value in NAMES[argument]:
        return preset_fields(argument, value)
    if isinstance(value, dict) and isinstance(value.get("preset"), str):
        return preset_fields(argument, value["preset"]) | {key: item for key, item in value.items() if key != "preset"}
    return value


def expand_model(model: Any, argument: str) -> Any:
    """A configuration's `model:` with the preset of `argument` written out."""
    if not isinstance(model, dict):
        return model
    out = {key: expanded(argument, value) if key == argument else value for key, value in model.items()}
    if isinstance(out.get("init_args"), dict):
        out["init_args"] = expand_model(out["init_args"], argument)
    return out
