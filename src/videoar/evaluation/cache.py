"""Moments of a real set on disk, keyed by everything they depend on: protocol, feature net, files, decoder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors.torch import load_file, save_file

from videoar.data.files import atomic_path
from videoar.evaluation.folders import VideoFolder
from videoar.evaluation.protocol import Protocol
from videoar.metrics.features.base import FeatureNet
from videoar.metrics.frechet import Moments
from videoar.provenance import versions


def default_cache() -> Path:
    """$XDG_CACHE_HOME/videoar/real, usually ~/.cache/videoar/real."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videoar" / "real"


class RealCache:
    """Where the moments of one real set under one protocol are kept.

    Args:
        folder: the cache; None: nothing is read or written.
    """

    def __init__(
        self,
        folder: Path | None,
        real: VideoFolder,
        names: tuple[str, ...],
        protocol: Protocol,
        net: FeatureNet,
        backend: str,
    ) -> None:
        facts = {
            "protocol": protocol.digest(),
            "features": net.card(),
            "folder": str(real.path.resolve()),
            "files": real.fingerprint(names),
            "decoder": [backend, versions()[backend if backend == "decord" else "av"]],
        }
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
        self.path = None if folder is None else folder / f"{self.key}.safetensors"

    def read(self) -> Moments | None:
        """The stored moments, or None."""
        if self.path is None or not self.path.is_file():
            return None
        stored = load_file(self.path)
        return Moments(stored["count"], stored["total"], stored["outer"])

    def write(self, moments: Moments) -> None:
        """Store moments."""
        if self.path is not None:
            tensors = {name: getattr(moments, name).cpu().contiguous() for name in ("count", "total", "outer")}
            with atomic_path(self.path) as path:
                save_file(tensors, path)
