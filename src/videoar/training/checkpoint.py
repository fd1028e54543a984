"""From a checkpoint or an exported folder to models, and from a checkpoint to an exported folder.

run.ckpt  ── load_models / load_tokenizer ──→  models          (averaged weights, if there are any)
run.ckpt  ── export ──→  out, or out/generator and out/tokenizer  (safetensors + config.json)
out/      ── load_models / load_tokenizer ──→  models
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.files import atomic_folder
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.pretrained import HUB, config_from_dict
from videoar.sampling.pairing import check_pair
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.weights import CONFIG, INDEX, SUMS, fitted, read_torch

README = "README.md"
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
log = logging.getLogger(__name__)
CHECKPOINTS = "checkpoints"
"""Where a run's folder keeps its checkpoints."""


def read_checkpoint(path: str | Path, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """A checkpoint's content, read weights-only (nothing in the file can run code) and compared with its checksums.

    Raises:
        UserError: a missing file, a truncated or damaged one, or one that holds something else.
    """
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}")
    return checked_content(read_torch(path, map_location=map_location, mmap=mmap), str(path))


def checked_content(content: Any, source: str) -> dict[str, Any]:
    """What was read from a checkpoint, if it is one.

    Raises:
        UserError: no mapping with a `state_dict` of tensors.
    """
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{source} holds no state_dict: not a training checkpoint")
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise UserError(f"{source}: its state_dict holds other things than named tensors")
    return content


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints directly in a folder, without those that are being written (or were, by a killed run)."""
    return [path for path in folder.glob("*.ckpt") if path.is_file() and not path.name.startswith(".")]


def newest_in(*folders: Path) -> Path | None:
    """The newest checkpoint directly in one of `folders`; None without any. Of two of one moment, last.ckpt."""
    found = {path for folder in folders for path in checkpoints_in(folder)}
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name == "last.ckpt"), default=None)


def model_place(path: str | Path) -> Path:
    """The path itself, or of a run's folder the newest checkpoint.

    Raises:
        UserError: a run's folder that has none yet.
    """
    place = Path(path)
    folder = place / CHECKPOINTS
    if not folder.is_dir():
        return place
    found = newest_in(folder)
    if found is None:
        raise UserError(f"{place} is the folder of a run that has no checkpoint yet")
    return found


def load_tokenizer(path: str | Path, ema: bool = True) -> VideoTokenizer:
    """The tokenizer of a .ckpt (of either kind of run), a run's or exported folder, or a name; frozen, eval mode.

    Args:
        ema: of a tokenizer's run, take the averaged weights rather than the last ones.

    Raises:
        UserError: the path is missing, broken, or holds no tokenizer.
    """
    place = model_place(path)
    if place.is_file():
        content = read_checkpoint(place, mmap=True)
        tokenizer = tokenizer_from(content, str(place), ema)
    else:
        tokenizer = VideoTokenizer.from_pretrained(_model_name(path))
    return tokenizer.requires_grad_(False).eval()


def load_models(path: str | Path, ema: bool = True) -> tuple[VideoAR, VideoTokenizer]:
    """Generator and tokenizer of a generator's .ckpt, a run's or exported folder, or a name; frozen, eval mode.

    Raises:
        UserError: the path is missing, broken, holds no generator, or its tokenizer does not belong to it.
    """
    place = model_place(path)
    if place.is_file():
        content = read_checkpoint(place, mmap=True)
        if _kind(content, str(place)) != "generator":
            raise UserError(f"{place} is a checkpoint of a tokenizer; a generator's is needed")
        config = config_from_dict(GeneratorConfig, _part(content, str(place), "generator_config"), str(place))
        generator = fitted(VideoAR, config, _weights(content, "generator", ema, str(place)), str(place))
        tokenizer = tokenizer_from(content, str(place))
    else:
        if place.is_dir() and not all((place / part).is_dir() for part in ("generator", "tokenizer")):
            raise UserError(f"{place} is neither a checkpoint nor a folder with generator/ and tokenizer/")
        name = _model_name(path)
        generator, tokenizer = VideoAR.from_pretrained(name), VideoTokenizer.from_pretrained(name)
    check_pair(generator, tokenizer)
    return generator.requires_grad_(False).eval(), tokenizer.requires_grad_(False).eval()


def export(
    checkpoint: str | Path,
    out: str | Path,
    ema: bool = True,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "5GB",
    tokenizer: str | Path | None = None,
) -> Path:
    """Write a checkpoint's models as safetensors + config.json; the folder appears whole or not at all.

    A tokenizer's run gives `out` itself, a generator's run `out/generator` and `out/tokenizer`.

    Args:
        ema: averaged weights rather than the last ones.
        overwrite: replace an `out` that is an exported model.
        dtype: of the stored weights; the tokenizer's fingerprint is that of the rounded ones.
        max_shard_size: weights beyond it are split into several files.
        tokenizer: what goes with a generator instead of the one it learned from: the same with a better decoder.

    Raises:
        UserError: a broken checkpoint, an `out` that exists and may not be replaced, or a tokenizer whose bits are
            others.
    """
    checkpoint, out = model_place(checkpoint), Path(out)
    content = read_checkpoint(checkpoint, mmap=True)
    replaced = out.exists() and overwrite
    if replaced:
        _check_exported(out)
    target = out.with_name(f".{out.name}.new") if replaced else out
    with atomic_folder(target) as folder:
        if _kind(content, str(checkpoint)) == "generator":
            generator, own = load_models(checkpoint, ema)
            coder = own if tokenizer is None else load_tokenizer(tokenizer)
            check_pair(generator, coder)
            coder.to(dtype).save_pretrained(folder / "tokenizer", max_shard_size)
            generator.config.tokenizer_fingerprint = coder.encoder_fingerprint()
            generator.to(dtype).save_pretrained(folder / "generator", max_shard_size)
        elif tokenizer is not None:
            raise UserError(f"{checkpoint} is a tokenizer itself: --tokenizer goes with a generator's")
        else:
            tokenizer_from(content, str(checkpoint), ema).to(dtype).save_pretrained(folder, max_shard_size)
    if replaced:
        _replace(out, target)
    return out


def _check_exported(out: Path) -> None:
    """Raise UserError unless `out` is an exported model and nothing else: what is replaced is deleted."""
    parts = [part for part in (out / "generator", out / "tokenizer") if part.is_dir() and not part.is_symlink()]
    folders = parts if parts else [out]
    own = {CONFIG, INDEX, SUMS, README}
    foreign = [
        path
        for folder in {out, *folders}
        for path in folder.iterdir()
        if path not in parts and not (path.is_file() and (path.name in own or _WEIGHTS.fullmatch(path.name)))
    ]
    if not out.is_dir() or out.is_symlink() or not all((folder / CONFIG).is_file() for folder in folders) or foreign:
        found = f"; it holds {foreign[0].relative_to(out)}" if foreign else ""
        raise UserError(f"{out} is no exported model and nothing else, so it is not overwritten{found}")


def _replace(out: Path, new: Path) -> None:
    """Put the folder `new` into the place of the exported model `out`, whose README stays."""
    for readme in (path for path in (out / README, *out.glob(f"*/{README}")) if path.is_file()):
        place = new / readme.relative_to(out)
        if place.parent.is_dir():
            shutil.copy2(readme, place)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    new.rename(out)
    shutil.rmtree(old)


def pack_tokenizer(tokenizer: VideoTokenizer, config: dict[str, Any]) -> dict[str, Any]:
    """What a generator's checkpoint keeps of its frozen tokenizer: plain data."""
    return {"config": config, "weights": tokenizer.state_dict()}


def tokenizer_from(content: dict[str, Any], source: str, ema: bool = True) -> VideoTokenizer:
    """The tokenizer in the content of a checkpoint of either kind."""
    if _kind(content, source) == "generator":
        packed = _part(content, source, "tokenizer")
        config, weights = _part(packed, source, "config"), _part(packed, source, "weights")
    else:
        config, weights = _part(content, source, "tokenizer_config"), _weights(content, "tokenizer", ema, source)
    return fitted(VideoTokenizer, config_from_dict(TokenizerConfig, config, source), weights, source)


def _kind(content: dict[str, Any], source: str) -> str:
    kind = _part(content, source, "videoar").get("kind") if "videoar" in content else None
    if kind not in ("tokenizer", "generator"):
        raise UserError(f"{source} is not a checkpoint of videoar: it does not say whose weights it holds")
    return kind


def _part(content: dict[str, Any], source: str, name: str) -> dict[str, Any]:
    """The mapping `name` in a checkpoint.

    Raises:
        UserError: there is none.
    """
    part = content.get(name)
    if not isinstance(part, dict):
        raise UserError(f"{source} is no whole checkpoint of videoar: its {name} is missing or no mapping")
    return dict(part)


def _weights(content: dict[str, Any], name: str, ema: bool, source: str) -> dict[str, Any]:
    """The network's weights in a checkpoint: last ones, with the averaged ones in their place if asked."""
    prefix = f"{name}."
    state = content["state_dict"]
    weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    if not ema or "ema" not in content:
        return weights
    averaged = _part(_part(content, source, "ema"), source, "weights")
    return {key: averaged.get(key, value) for key, value in weights.items()}


def _model_name(path: str | Path) -> str:
    """A model's folder, shipped name or name on the hub, as `from_pretrained` takes it; a mistyped path asks no hub.

    Raises:
        UserError: there is no such folder, and the name does not say that it is one of the hub's.
    """
    name = str(path)
    if Path(name).is_dir() or name.startswith((HUB, "videoar-")):
        return name
    raise UserError(f"no checkpoint or model at {name}; one on the Hugging Face hub is called {HUB}user/model")
