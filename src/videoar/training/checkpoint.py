"""From a checkpoint or an exported folder to models, and from a checkpoint to an exported folder.

run.ckpt  ── load_models / load_tokenizer ──→  models          (averaged weights, if there are any)
run.ckpt  ── export ──→  out, or out/generator and out/tokenizer  (safetensors + config.json)
out/      ── load_models / load_tokenizer ──→  models
"""

from __future__ import annotations

import logging
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoar.data.files import atomic_folder
from videoar.errors import UserError
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.pretrained import config_from_dict, load_strict
from videoar.sampling.pairing import check_pair
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer

log = logging.getLogger(__name__)
_BROKEN = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, zipfile.BadZipFile)


def read_checkpoint(path: str | Path, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """A checkpoint's content, read weights-only: nothing in the file can run code.

    Raises:
        UserError: a missing file, a truncated one, or one that holds something else.
    """
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is truncated or no checkpoint of plain data: {reason}") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} holds no state_dict: not a training checkpoint")
    return content


def load_tokenizer(path: str | Path, ema: bool = True) -> VideoTokenizer:
    """The tokenizer of a .ckpt (of either kind of run), an exported folder, or a name; frozen, eval mode.

    Args:
        ema: of a tokenizer's run, take the averaged weights rather than the last ones.

    Raises:
        UserError: the path is missing, broken, or holds no tokenizer.
    """
    place = Path(path)
    if place.is_file():
        content = read_checkpoint(place, mmap=True)
        tokenizer = tokenizer_from(content, str(place), ema)
    else:
        tokenizer = VideoTokenizer.from_pretrained(path)
    return tokenizer.requires_grad_(False).eval()


def load_models(path: str | Path, ema: bool = True) -> tuple[VideoAR, VideoTokenizer]:
    """Generator and tokenizer of a generator's .ckpt, an exported folder, or a name; frozen, eval mode.

    Raises:
        UserError: the path is missing, broken, holds no generator, or its tokenizer does not belong to it.
    """
    place = Path(path)
    if place.is_file():
        content = read_checkpoint(place, mmap=True)
        if _kind(content, str(place)) != "generator":
            raise UserError(f"{place} is a checkpoint of a tokenizer; a generator's is needed")
        config = config_from_dict(GeneratorConfig, dict(content["generator_config"]), str(place))
        generator = VideoAR(config)
        load_strict(generator, _weights(content, "generator", ema), str(place))
        tokenizer = tokenizer_from(content, str(place))
    else:
        if place.is_dir() and not all((place / part).is_dir() for part in ("generator", "tokenizer")):
            raise UserError(f"{place} is neither a checkpoint nor a folder with generator/ and tokenizer/")
        generator, tokenizer = VideoAR.from_pretrained(path), VideoTokenizer.from_pretrained(path)
    check_pair(generator, tokenizer)
    return generator.requires_grad_(False).eval(), tokenizer.requires_grad_(False).eval()


def export(
    checkpoint: str | Path,
    out: str | Path,
    ema: bool = True,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "5GB",
) -> Path:
    """Write a checkpoint's models as safetensors + config.json; the folder appears whole or not at all.

    A tokenizer's run gives `out` itself, a generator's run `out/generator` and `out/tokenizer`.

    Args:
        ema: averaged weights rather than the last ones.
        overwrite: replace an `out` that is an exported model.
        dtype: of the stored weights; the tokenizer's fingerprint is that of the rounded ones.
        max_shard_size: weights beyond it are split into several files.

    Raises:
        UserError: a broken checkpoint, or an `out` that exists and may not be replaced.
    """
    content, out = read_checkpoint(checkpoint, mmap=True), Path(out)
    replaced = out.exists() and overwrite
    if replaced and not any((out / name).exists() for name in ("config.json", "generator", "tokenizer")):
        raise UserError(f"{out} is no exported model, so it is not overwritten")
    target = out.with_name(f".{out.name}.new") if replaced else out
    with atomic_folder(target) as folder:
        if _kind(content, str(checkpoint)) == "generator":
            generator, tokenizer = load_models(checkpoint, ema)
            tokenizer.to(dtype).save_pretrained(folder / "tokenizer", max_shard_size)
            generator.config.tokenizer_fingerprint = tokenizer.fingerprint()
            generator.to(dtype).save_pretrained(folder / "generator", max_shard_size)
        else:
            tokenizer_from(content, str(checkpoint), ema).to(dtype).save_pretrained(folder, max_shard_size)
    if replaced:
        shutil.rmtree(out)
        target.rename(out)
    return out


def pack_tokenizer(tokenizer: VideoTokenizer, config: dict[str, Any]) -> dict[str, Any]:
    """What a generator's checkpoint keeps of its frozen tokenizer: plain data."""
    return {"config": config, "weights": tokenizer.state_dict()}


def tokenizer_from(content: dict[str, Any], source: str, ema: bool = True) -> VideoTokenizer:
    """The tokenizer in the content of a checkpoint of either kind."""
    if _kind(content, source) == "generator":
        config, weights = content["tokenizer"]["config"], content["tokenizer"]["weights"]
    else:
        config, weights = content["tokenizer_config"], _weights(content, "tokenizer", ema)
    tokenizer = VideoTokenizer(config_from_dict(TokenizerConfig, dict(config), source))
    load_strict(tokenizer, weights, source)
    return tokenizer


def _kind(content: dict[str, Any], source: str) -> str:
    kind = content.get("videoar", {}).get("kind")
    if kind not in ("tokenizer", "generator"):
        raise UserError(f"{source} is not a checkpoint of videoar: it does not say whose weights it holds")
    return kind


def _weights(content: dict[str, Any], name: str, ema: bool) -> dict[str, Tensor]:
    """The network's weights in a checkpoint: last ones, with the averaged ones in their place if asked."""
    prefix = f"{name}."
    state = content["state_dict"]
    weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    averaged = content.get("ema", {}).get("weights", {}) if ema else {}
    return {key: averaged[key].to(value.dtype) if key in averaged else value for key, value in weights.items()}
