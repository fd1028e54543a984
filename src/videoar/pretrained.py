"""Saving and loading models as safetensors + config.json: a local folder, a shipped model or the Hugging Face hub.

A folder holds one network, or `generator/` and `tokenizer/`, each with its own. Large weights are split into files with
an index, as everywhere on the hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, save_torch_state_dict, snapshot_download

from videoar.errors import UserError
from videoar.files import writing
from videoar.hub import model_card, publish
from videoar.shipped import shipped
from videoar.weights import (
    CONFIG,
    INDEX,
    SUMS,
    WEIGHTS,
    fitted,
    read_sums,
    read_weights,
    same_as_saved,
    write_sums,
)

HUB = "hf://"
HUB_OPTIONS = {"revision", "cache_dir", "token", "force_download", "local_files_only"}
log = logging.getLogger(__name__)


def config_from_dict(config_class: type, values: dict[str, Any], source: str = "config") -> Any:
    """Build a config dataclass from plain data that some version saved.

    `saved_without` of the class fills fields it did not have yet; fields of `saved_before` are passed over.

    Raises:
        UserError: keys that the dataclass does not have, or values it refuses; the message names `source`.
    """
    known = {field.name for field in fields(config_class)}
    values = {key: value for key, value in values.items() if key not in getattr(config_class, "saved_before", ())}
    if unknown := sorted(set(values) - known):
        raise UserError(f"{source}: {config_class.__name__} has no {', '.join(unknown)}")
    try:
        return config_class(**getattr(config_class, "saved_without", {}) | values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: {error}") from error


class Pretrained(PyTorchModelHubMixin):
    """Gives a model `save_pretrained`, `from_pretrained`, `push_to_hub` and `fingerprint`.

    A subclass is an `nn.Module` whose constructor takes one dataclass of plain data, kept as `self.config`, and that
    names the dataclass in `config_class`, and in `part` its subfolder of a folder with several networks.
    """

    config_class: ClassVar[type]
    part: ClassVar[str]
    config: Any

    def save_pretrained(  # the mixin takes any keyword
        self, save_directory: str | Path, max_shard_size: str = "5GB", *, push_to_hub: bool = False, **upload: Any
    ) -> str | None:
        """Write `config.json`, the weights and their checksums to a folder; each file appears whole or not at all.

        Args:
            max_shard_size: weights beyond it are split into `model-00001-of-0000N.safetensors`, … and an index.
            push_to_hub: also upload them, to `repo_id` or else the folder's name; further keywords as `push_to_hub`.

        Returns:
            The commit's address if it was uploaded.

        Raises:
            UserError: the disk is full or not writable, or the hub refuses.
            TypeError: keywords of an upload without one, or unknown ones.
        """
        if upload and not push_to_hub:
            raise TypeError(f"save_pretrained takes {', '.join(upload)} only with push_to_hub=True")
        folder = Path(save_directory)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
            try:
                self._save_pretrained(scratch, max_shard_size)
                written = {path.name for path in scratch.iterdir()}
                for path in sorted(scratch.iterdir()):
                    os.replace(path, folder / path.name)
                for stale in {*folder.glob("model*.safetensors"), folder / INDEX}:
                    if stale.name not in written:
                        stale.unlink(missing_ok=True)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return self.push_to_hub(upload.pop("repo_id", folder.resolve().name), **upload) if push_to_hub else None

    def push_to_hub(self, repo_id: str, **upload: Any) -> str:
        """Upload the model and a model card in one commit; returns its address.

        Args:
            upload: `private`, `token`, `commit_message`, `branch`, `create_pr`.

        Raises:
            UserError: the hub refuses.
        """
        name = type(self).__name__
        usage = f'from videoar import {name}\n\n{self.part} = {name}.from_pretrained("{repo_id}")'
        facts = {"parameters": f"{self.num_parameters():,}", "fingerprint": self.fingerprint()} | asdict(self.config)
        what = f"The {self.part} of a VideoAR model (arXiv 2601.05966)."
        card = model_card(repo_id.rpartition("/")[2], what, usage, facts)
        return publish(repo_id, self.save_pretrained, card, **upload)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device  # type: ignore[attr-defined]

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.parameters()).dtype  # type: ignore[attr-defined]

    def num_parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(weight.numel() for weight in self.parameters())  # type: ignore[attr-defined]

    def _save_pretrained(self, save_directory: Path, max_shard_size: str = "5GB") -> None:
        state = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}  # type: ignore[attr-defined]
        save_torch_state_dict(state, save_directory, max_shard_size=max_shard_size)
        config = {"model": type(self).__name__, **asdict(self.config)}
        (save_directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        write_sums(save_directory)

    @classmethod
    def from_pretrained(  # the mixin takes any keyword
        cls, pretrained_model_name_or_path: str | Path, *, dtype: torch.dtype | None = None, **hub: Any
    ) -> Self:
        """Load a model in eval mode from a folder, a shipped name such as `videoar-atari`, or the Hugging Face hub.

        The hub is asked for `hf://user/model`, and for `user/model` if there is no folder `user` here.

        Args:
            dtype: of the parameters; None: float32.
            hub: `revision`, `cache_dir`, `token`, `force_download`, `local_files_only`.

        Raises:
            TypeError: another keyword.
            UserError: a missing folder or file, a file that is no safetensors file, is truncated or damaged, a config
                of another model, or weights that do not fit it (with the keys) or are not finite.
        """
        if unknown := sorted(hub.keys() - HUB_OPTIONS):
            taken = ", ".join(("dtype", *sorted(HUB_OPTIONS)))
            raise TypeError(f"{cls.__name__}.from_pretrained takes no {', '.join(unknown)}; it takes {taken}")
        folder = cls._folder(pretrained_model_name_or_path, hub)
        if not (folder / CONFIG).is_file() and (folder / cls.part).is_dir():
            folder = folder / cls.part
        if not (folder / CONFIG).is_file():
            hint = "; videoar.load_models reads the folder of a run" if (folder / "checkpoints").is_dir() else ""
            raise UserError(f"{folder} holds no {CONFIG}: not a saved {cls.__name__}{hint}")
        config = cls._read_config(folder / CONFIG)
        model: Any = fitted(cls, config, read_weights(folder, cls.__name__), str(folder / WEIGHTS))  # type: ignore[type-var]
        return model.to(dtype).eval() if dtype is not None else model.eval()

    @classmethod
    def _folder(cls, name: str | Path, options: dict[str, Any]) -> Path:
        """The local folder of a name, downloaded if the hub has it."""
        folder, on_hub = Path(name), str(name).removeprefix(HUB)
        if folder.is_dir():
            return folder
        if folder.suffix == ".ckpt":
            hint = "videoar.load_models reads it, `videoar export` converts it"
            raise UserError(f"{folder} is a training checkpoint: {hint}")
        if (known := shipped_model(name)) is not None:
            return known
        owner, _, rest = on_hub.partition("/")
        plausible = rest and "/" not in rest and not owner.startswith((".", "~")) and owner
        local = not str(name).startswith(HUB) and (Path(owner).exists() or folder.suffix == ".safetensors")
        if not plausible or local:
            raise UserError(f"{name} is no folder with a saved {cls.__name__}; a model of the hub is {HUB}user/model")
        log.info("asking the Hugging Face hub for %s", on_hub)
        names = (CONFIG, "model*.safetensors", INDEX, SUMS)
        wanted = [f"{place}{file}" for place in ("", f"{cls.part}/") for file in names]
        try:
            return Path(snapshot_download(on_hub, allow_patterns=wanted, **options))
        except Exception as error:  # the hub raises many kinds; each means that the model cannot be had
            raise UserError(f"{name} is neither a local folder nor a model the hub gives: {error}") from error

    @classmethod
    def _read_config(cls, path: Path) -> Any:
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not readable JSON: {error}") from error
        if not same_as_saved(path, read_sums(path.parent)):
            log.warning("%s is not as it was saved: edited, or damaged", path)
        if not isinstance(values, dict) or values.pop("model", cls.__name__) != cls.__name__:
            raise UserError(f"{path} does not describe a {cls.__name__}")
        return config_from_dict(cls.config_class, values, str(path))

    def fingerprint(self, without: str = "\0") -> str:
        """Short sha256 of the weights and what they mean; models whose fingerprints agree compute the same function.

        Weights whose names begin with `without` are left out.
        """
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):  # type: ignore[attr-defined]
            if name.startswith(without):
                continue
            digest.update(name.encode())
            digest.update(value.detach().float().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def shipped_model(name: str | Path) -> Path | None:
    """The folder of a model that comes with videoar, such as `videoar-atari`; None if there is none of that name."""
    if not str(name).startswith("videoar-") or len(Path(name).parts) != 1:
        return None
    return shipped(f"assets/{name}")
