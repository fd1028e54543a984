"""Saving and loading models as safetensors + config.json: plain PyTorch, a local folder or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from videoar.errors import UserError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def config_from_dict(config_class: type, values: dict[str, Any], source: str = "config") -> Any:
    """Build a config dataclass from plain data.

    Raises:
        UserError: keys that the dataclass does not have, or values it refuses; the message names `source`.
    """
    known = {field.name for field in fields(config_class)}
    if unknown := sorted(set(values) - known):
        raise UserError(f"{source}: {config_class.__name__} has no {', '.join(unknown)}")
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: {error}") from error


class Pretrained(PyTorchModelHubMixin):
    """Gives a model `save_pretrained`, `from_pretrained`, `push_to_hub` and `fingerprint`.

    A subclass is an `nn.Module` whose constructor takes one dataclass of plain data, kept as `self.config`, and that
    names the dataclass in `config_class`.
    """

    config_class: ClassVar[type]
    config: Any

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> str | None:
        """Write `config.json` and `model.safetensors` to a folder; each file appears whole or not at all."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
        try:
            self._save_pretrained(scratch)
            for path in sorted(scratch.iterdir()):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return None

    def _save_pretrained(self, save_directory: Path) -> None:
        state = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}  # type: ignore[attr-defined]
        save_file(state, save_directory / WEIGHTS, metadata={"format": "pt"})
        config = {"model": type(self).__name__, **asdict(self.config)}
        (save_directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a model in eval mode from a folder, or from a hub name such as `user/model`.

        Keyword arguments: `revision`, `cache_dir`, `token` (hub), `dtype` (of the parameters, default as saved).

        Raises:
            UserError: a missing folder or file, a file that is no safetensors file or is truncated, a config of another
                model, or weights that do not fit it (with the keys).
        """
        dtype = kwargs.pop("dtype", None)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            config_path, weights_path = folder / CONFIG, folder / WEIGHTS
            for path in (config_path, weights_path):
                if not path.is_file():
                    raise UserError(f"{folder} holds no {path.name}: not a saved {cls.__name__}")
        elif folder.exists() or folder.is_absolute() or len(folder.parts) != 2 or str(folder).startswith("."):
            raise UserError(f"{folder} is no folder with a saved {cls.__name__}")
        else:
            config_path, weights_path = cls._download(str(pretrained_model_name_or_path), kwargs)
        model = cls(cls._read_config(config_path))
        model._load(weights_path)
        return model.to(dtype).eval() if dtype is not None else model.eval()  # type: ignore[attr-defined]

    @classmethod
    def _download(cls, name: str, options: dict[str, Any]) -> tuple[Path, Path]:
        try:
            return (
                Path(hf_hub_download(name, CONFIG, **options)),
                Path(hf_hub_download(name, WEIGHTS, **options)),
            )
        except Exception as error:  # the hub raises many kinds; each means that the model cannot be had
            raise UserError(f"{name} is neither a local folder nor a model the hub gives: {error}") from error

    @classmethod
    def _read_config(cls, path: Path) -> Any:
        try:
            values = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path} is not readable JSON: {error}") from error
        if not isinstance(values, dict) or values.pop("model", cls.__name__) != cls.__name__:
            raise UserError(f"{path} does not describe a {cls.__name__}")
        return config_from_dict(cls.config_class, values, str(path))

    def _load(self, path: Path) -> None:
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not a whole safetensors file: {error}") from error
        load_strict(self, state, str(path))  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """Short sha256 of the weights and what they mean; models whose fingerprints agree compute the same function."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):  # type: ignore[attr-defined]
            digest.update(name.encode())
            digest.update(value.detach().float().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def load_strict(model: torch.nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load a state dict whose keys and shapes must all fit.

    Raises:
        UserError: with up to five missing, unexpected and misshapen keys each.
    """
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    report = [
        f"{len(keys)} {what} ({', '.join(keys[:5])}{', …' if len(keys) > 5 else ''})"
        for what, keys in (("missing", missing), ("unexpected", extra), ("misshapen", misshapen))
        if keys
    ]
    if report:
        raise UserError(f"{source} does not fit this {type(model).__name__}: {'; '.join(report)}")
    model.load_state_dict(state)
