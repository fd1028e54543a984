"""Cached latents: one safetensors file a clip, so that a generator trains without decoding or encoding video.

A file holds `latent` `[D, T', h, w]`; its metadata holds the caption and the fingerprint of the tokenizer. The class is
the folder, as for videos. `.npy` files of the same shape are read too.
"""

from pathlib import Path

import numpy as np
import torch

from videoar.data.files import atomic_path
from videoar.data.probe import UnreadableClip


def write_latent(path: str | Path, latent: torch.Tensor, caption: str = "", tokenizer: str = "") -> None:
    """Write one clip's latent `[D, T', h, w]`; `tokenizer` is `VideoTokenizer.fingerprint()`."""
    from safetensors.torch import save_file

    if latent.ndim != 4:
        raise ValueError(f"{path}: a latent must be [D, T', h, w], got {list(latent.shape)}")
    with atomic_path(path) as temporary:
        metadata = {"caption": caption, "tokenizer": tokenizer}
        save_file({"latent": latent.detach().cpu().contiguous()}, temporary, metadata=metadata)


def read_latent(path: str | Path) -> torch.Tensor:
    """One clip's latent `[D, T', h, w]`, in the type it was stored in. Raises `UnreadableClip`."""
    try:
        if Path(path).suffix == ".npy":
            latent = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            from safetensors.torch import load_file

            latent = load_file(path)["latent"]
    except KeyError as error:
        raise UnreadableClip(path, "no tensor `latent` in it") from error
    except Exception as error:  # safetensors and numpy raise their own and built-in types on bad files
        raise UnreadableClip(path, f"cannot read latent: {error}") from error
    if latent.ndim != 4 or not latent.is_floating_point():
        raise UnreadableClip(path, f"a latent must be float [D, T', h, w], got {latent.dtype} {list(latent.shape)}")
    return latent


def latent_tokenizer(path: str | Path) -> str:
    """The fingerprint of the tokenizer that made a latent; empty if unknown."""
    if Path(path).suffix != ".safetensors":
        return ""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        return (file.metadata() or {}).get("tokenizer", "")
