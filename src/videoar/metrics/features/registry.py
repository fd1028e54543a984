"""Feature nets by name: `i3d:PATH`, `videomae[:MODEL]`, `atari[:FOLDER]`."""

from __future__ import annotations

from typing import Any

from videoar.errors import UserError
from videoar.metrics.features.base import FeatureNet
from videoar.randomness import stream_untouched

NETS = ("i3d", "videomae", "atari")


@stream_untouched()
def load_features(spec: str, resize: str | None = None, eps: float = 1e-3, download: bool = False) -> FeatureNet:
    """Load a feature net from `NAME` or `NAME:SOURCE`.

    Args:
        spec: `i3d:weights.pt` (TorchScript or state dict), `videomae:FOLDER_OR_MODEL_ID`, `atari` (the shipped one).
        resize: how videos reach the net's size; None is the net's own default.
        eps: batch-norm epsilon of an I3D state dict.
        download: allow `videomae` to fetch from the hub; nothing else ever downloads.

    Raises:
        UserError: unknown name, or weights that are not there.
    """
    name, _, source = spec.partition(":")
    options: dict[str, Any] = {} if resize is None else {"resize": resize}
    if name == "i3d":
        from videoar.metrics.features.i3d import load_i3d

        if not source:
            raise UserError("I3D weights are never fetched; give their file as i3d:PATH/i3d_torchscript.pt")
        return load_i3d(source, eps=eps, **options)
    if name == "videomae":
        from videoar.metrics.features.videomae import DEFAULT, load_videomae

        return load_videomae(source or DEFAULT, download=download, **options)
    if name == "atari":
        from videoar.metrics.features.atari import load_atari

        return load_atari(source or None, **options)
    raise UserError(f"unknown feature net {name!r}; choose one of {', '.join(NETS)} (as NAME or NAME:SOURCE)")
