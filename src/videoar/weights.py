"""Weights on their way from files into networks: damaged, foreign or boundless ones are refused before memory is taken.

file ── sums, CRC ──→ tensors ── names and shapes against a network without memory ──→ network ── finite? ──→ use

The safetensors format has no checksum, so a saved folder holds `SHA256SUMS`, which `sha256sum -c` reads as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.ranges import check_memory

CONFIG, WEIGHTS, INDEX, SUMS = "config.json", "model.safetensors", "model.safetensors.index.json", "SHA256SUMS"
log = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)


def affordable(network: Callable[[Any], Network], config: Any) -> Network:
    """The network of `config` with the weights it draws, once they are known to fit into this machine's memory.

    Raises:
        UserError: they do not.
    """
    with torch.device("meta"):
        planned = network(config)
    check_memory(sum(p.numel() * p.element_size() for p in planned.parameters()), f"{type(planned).__name__}'s weights")
    return network(config)


def fitted(network: Callable[[Any], Network], config: Any, state: Mapping[str, Any], source: str) -> Network:
    """The network of `config` with the weights `state`; memory is taken only once names and shapes agree.

    Nothing random is drawn: every weight comes from the state.

    Raises:
        UserError: a configuration no network can be built from, weights that do not fit it, or that are not finite.
        TypeError: a network with buffers that no file holds, which would be left as the memory happened to be.
    """
    try:
        with torch.device("meta"):
            model = network(config)
    except UserError:
        raise
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{source}: no network has this configuration: {error}") from error
    if unsaved := sorted({name for name, _ in model.named_buffers()} - model.state_dict().keys()):
        raise TypeError(f"{type(model).__name__} has buffers that no file holds: {', '.join(unsaved)}; compute them")
    check_fit(model, state, source)
    model.to_empty(device="cpu")
    model.load_state_dict(state)
    return model


def load_strict(model: nn.Module, state: Mapping[str, Any], source: str) -> None:
    """Load a state dict whose names and shapes must all fit, and whose values must be finite.

    Raises:
        UserError: with up to five missing, unexpected and misshapen keys each.
    """
    check_fit(model, state, source)
    model.load_state_dict(state)


def check_fit(model: nn.Module, state: Mapping[str, Any], source: str) -> None:
    """Raise UserError unless `state` holds finite, real tensors of exactly the model's names and shapes."""
    if not isinstance(state, Mapping):
        raise UserError(f"{source} holds no named tensors")
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shared = sorted(own.keys() & state.keys())
    misshapen = [
        f"{key} {_shape(state[key])} instead of {_shape(own[key])}"
        for key in shared
        if _shape(state[key]) != _shape(own[key])
    ]
    report = [
        f"{len(keys)} {what} ({', '.join(keys[:5])}{', …' if len(keys) > 5 else ''})"
        for what, keys in (("missing", missing), ("unexpected", extra), ("misshapen", misshapen))
        if keys
    ]
    if report:
        raise UserError(f"{source} does not fit this {type(model).__name__}: {'; '.join(report)}")
    check_values({key: state[key] for key in shared}, source)


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def check_values(state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError for tensors that are no plain numbers in memory (views larger than their memory), or not finite.

    A view with stride 0 states any shape at no cost to the file, and asks for the memory when it is copied.
    """
    for key, value in state.items():
        plain = value.layout == torch.strided and value.device.type != "meta" and not value.is_quantized
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{source}: {key} is no plain tensor")
        if not _finite(value.detach()):
            raise UserError(f"{source}: {key} holds values that are not finite (NaN or infinite)")


def _finite(value: Tensor) -> bool:
    if not value.numel() or not (value.is_floating_point() or value.is_complex()):
        return True
    real = torch.view_as_real(value) if value.is_complex() else value
    low, high = torch.aminmax(real if real.element_size() > 1 else real.float())  # one pass and no copy; NaN is both
    return bool(low.isfinite() & high.isfinite())


# ---- files ----------------------------------------------------------------------------------------------------------


def check_zip(path: str | Path) -> None:
    """Compare the content of a torch file with its checksums, which torch itself does not.

    Raises:
        UserError: not a torch file, truncated, or a bit of it has changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UserError(f"{path} is no torch file: it is compressed")
            damaged = archive.testzip()
    except UserError:
        raise
    except Exception as error:  # damaged bytes make zipfile raise many kinds
        raise UserError(f"{path} is truncated, damaged or no torch file: {error}") from error
    if damaged is not None:
        raise UserError(f"{path} is damaged: the checksum of {' '.join(damaged.split())} does not agree")


def read_torch(path: str | Path, legacy: bool = False, **how: Any) -> Any:
    """The content of a torch file, read weights-only (nothing in it can run code) and compared with its checksums.

    Args:
        legacy: take files of the format before zip archives, too, which have no checksums; many public weights are.
        how: more arguments of `torch.load`.

    Raises:
        UserError: no torch file, a truncated or damaged one, or one that holds more than plain data.
    """
    if not legacy or zipfile.is_zipfile(path):
        check_zip(path)
    try:
        return torch.load(path, **{"map_location": "cpu", **how}, weights_only=True)
    except Exception as error:  # what a foreign pickle raises has no end
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{path} is truncated or no torch file of plain data: {reason}") from error


def write_sums(folder: Path) -> None:
    """Write the sha256 of every file of a saved model into its `SHA256SUMS`."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in names))


def read_weights(folder: Path, kind: str) -> dict[str, Tensor]:
    """The state dict in `model.safetensors`, or in the files that the index names, checked against `SHA256SUMS`.

    Raises:
        UserError: a file is missing, damaged, or no safetensors file.
    """
    sums = read_sums(folder)
    names = [WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{folder / INDEX} is no index of weights: {error!r}") from error
    state: dict[str, Tensor] = {}
    for name in names:
        path = folder / str(name)
        if path.parent != folder or not path.is_file():
            raise UserError(f"{folder} holds no {path.name}: not a saved {kind}")
        if not same_as_saved(path, sums):
            raise UserError(f"{path} is damaged: its checksum is not the one in {SUMS}")
        try:
            state |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not a whole safetensors file: {error}") from error
    return state


def read_sums(folder: Path) -> dict[str, str]:
    """Name → sha256 as the folder's `SHA256SUMS` says; empty without one."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    try:
        pairs = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
        return {name.removeprefix("*"): digest for digest, name in pairs}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no list of checksums: {error}") from error


def same_as_saved(path: Path, sums: Mapping[str, str]) -> bool:
    """Whether a file is the one whose checksum is known, or none is known."""
    return path.name not in sums or _sha256(path) == sums[path.name]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
