"""Cached latents: one safetensors file a clip, so that a generator trains without decoding or encoding video.

A file holds `latent` `[D, T', h, w]`; its metadata holds the captions and the fingerprint of the tokenizer. The class
is the folder, as for videos (`folders.folder_of_class`). `.npy` files of the same shape are read too.

A file may hold the `bits` of all scales instead, packed: 16 times smaller than the float32 latent at six scales of an
8x8 grid, and all that the decoder needs. Generators do not train from it: corrupted contexts (eq. 8) are requantised
from the residual that is left of the latent, which bits do not give back.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from videoar.bits.packing import pack_bits, unpack_bits
from videoar.bits.pyramid import ScalePyramid
from videoar.bits.residual import flatten_bits, unflatten_bits
from videoar.data.files import atomic_path
from videoar.data.probe import UnreadableClip


def write_latent(
    path: str | Path, latent: torch.Tensor, caption: str | Sequence[str] = "", tokenizer: str = ""
) -> None:
    """Write one clip's latent `[D, T', h, w]` and its caption or captions; `tokenizer` is that one's fingerprint."""
    from safetensors.torch import save_file

    if latent.ndim != 4:
        raise ValueError(f"{path}: a latent must be [D, T', h, w], got {list(latent.shape)}")
    with atomic_path(path) as temporary:
        metadata = _captions(caption) | {"tokenizer": tokenizer}
        save_file({"latent": latent.detach().cpu().contiguous()}, temporary, metadata=metadata)


def write_bits(
    path: str | Path,
    bits: tuple[torch.Tensor, ...],
    pyramid: ScalePyramid,
    caption: str | Sequence[str] = "",
    tokenizer: str = "",
) -> None:
    """Write one clip's bits, one bool `[1, T', h, w, D]` a scale, packed to D/8 bytes a token."""
    from safetensors.torch import save_file

    frames, D = bits[0].shape[1], bits[0].shape[-1]
    packed = pack_bits(flatten_bits(bits)[0]).cpu().contiguous()
    shape = json.dumps({"D": D, "frames": frames, "grids": pyramid.grids})
    with atomic_path(path) as temporary:
        save_file({"bits": packed}, temporary, metadata=_captions(caption) | {"tokenizer": tokenizer, "shape": shape})


def read_bits(path: str | Path) -> tuple[tuple[torch.Tensor, ...], ScalePyramid]:
    """One clip's bits and their pyramid, as `write_bits` got them. Raises `UnreadableClip`."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), "pt") as file:
            packed, shape = file.get_tensor("bits"), json.loads((file.metadata() or {})["shape"])
            pyramid = ScalePyramid(tuple(tuple(grid) for grid in shape["grids"]))
            return unflatten_bits(unpack_bits(packed, shape["D"])[None], pyramid, shape["frames"]), pyramid
    except Exception as error:  # safetensors raises its own and built-in types on bad files
        raise UnreadableClip(path, f"cannot read bits: {error}") from error


def read_latent(path: str | Path) -> torch.Tensor:
    """One clip's latent `[D, T', h, w]`, in the type it was stored in. Raises `UnreadableClip`."""
    try:
        if Path(path).suffix == ".npy":
            latent = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            from safetensors.torch import load_file

            content = load_file(path)
            if "bits" in content:
                raise UnreadableClip(path, "it holds bits; training a generator needs latents")
            latent = content["latent"]
    except UnreadableClip:
        raise
    except KeyError as error:
        raise UnreadableClip(path, "no tensor `latent` in it") from error
    except Exception as error:  # safetensors and numpy raise their own and built-in types on bad files
        raise UnreadableClip(path, f"cannot read latent: {error}") from error
    if latent.ndim != 4 or not latent.is_floating_point():
        raise UnreadableClip(path, f"a latent must be float [D, T', h, w], got {latent.dtype} {list(latent.shape)}")
    if not latent.isfinite().all():
        raise UnreadableClip(path, "it holds values that are not finite (NaN or infinite)")
    return latent


def latent_tokenizer(path: str | Path) -> str:
    """The fingerprint of the tokenizer that made a latent; empty if unknown. Raises `UnreadableClip`."""
    return _metadata(path).get("tokenizer", "")


def latent_captions(path: str | Path) -> tuple[str, ...]:
    """The captions of the clip that a latent was made of; empty if there were none. Raises `UnreadableClip`."""
    metadata = _metadata(path)
    try:
        captions = json.loads(metadata["captions"]) if "captions" in metadata else [metadata.get("caption", "")]
        return tuple(caption for caption in captions if caption.strip())
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableClip(path, f"its captions are no list of texts: {error}") from error


def _captions(caption: str | Sequence[str]) -> dict[str, str]:
    captions = [caption] if isinstance(caption, str) else list(caption)
    return {"caption": "".join(captions[:1]), "captions": json.dumps(captions)}


def _metadata(path: str | Path) -> dict[str, str]:
    if Path(path).suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    try:
        with safe_open(str(path), "pt") as file:
            return file.metadata() or {}
    except Exception as error:  # safetensors raises its own and built-in types on bad files
        raise UnreadableClip(path, f"cannot read latent: {error}") from error
