"""FeatureNet: a frozen network together with everything that must be told about it in a protocol."""

# B batch · T frames · H W pixels · d feature width

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.metrics.preprocess import check_video, resize_video


def file_sha256(path: str | Path) -> str:
    """sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_sha256(module: nn.Module) -> str:
    """sha256 of a module's parameters and buffers (names, shapes and bytes), for nets that come from no single file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def existing(path: str | Path, what: str) -> Path:
    """`path` if it is a file, else a UserError that says what was looked for."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{what}: no file at {path}")
    return path


@dataclass
class FeatureNet:
    """Maps videos [B, 3, T, H, W] in [-1, 1] to features [B, d]; a plain object, so metrics never store its weights.

    Attributes:
        name: how the net is called in reports.
        module: the network; moved to the device of its first input.
        forward: (module, resized video in [-1, 1]) → [B, d].
        dim: d.
        size, resize: what `resize_video` does first; `size=None` leaves the video as it is.
        min_frames: fewest frames the net can take.
        sha256: hash of the weights.
        details: whatever else distinguishes this net's numbers (batch-norm epsilon, layer, source).
    """

    name: str
    module: nn.Module
    forward: Callable[[nn.Module, Tensor], Tensor]
    dim: int
    size: tuple[int, int] | None
    resize: str
    min_frames: int
    sha256: str
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module.eval()
        for parameter in self.module.parameters():  # a TorchScript module has no requires_grad_ of its own
            parameter.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, video: Tensor) -> Tensor:
        """Features [B, d], float32.

        Raises:
            ValueError: bad range or shape, too few frames, or features that are not finite.
        """
        video = check_video(video)
        if video.shape[2] < self.min_frames:
            raise ValueError(f"{self.name} needs at least {self.min_frames} frames, got {video.shape[2]}")
        if self.size is not None:
            video = resize_video(video, self.size, self.resize)
        with torch.autocast(video.device.type, enabled=False):
            features = self.forward(self.module.to(video.device), video).float()
        if features.shape != (len(video), self.dim):
            raise ValueError(f"{self.name} gave features {tuple(features.shape)}, expected {(len(video), self.dim)}")
        if not features.isfinite().all():
            raise ValueError(f"{self.name} gave features that are not finite; are its weights right?")
        return features

    def card(self) -> dict[str, Any]:
        """What a protocol card says about the net."""
        return {
            "net": self.name,
            "dim": self.dim,
            "weights_sha256": self.sha256,
            "size": None if self.size is None else list(self.size),
            "resize": self.resize if self.size is not None else "none",
            **self.details,
        }
