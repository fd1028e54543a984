"""A small video classifier for Atari clips: the offline default feature net where no I3D weights are at hand.

It is trained here (`python -m videoar.metrics.features.train_atari`) on two tasks at once, so that its features see
content AND motion: which game is played, and whether the frames run forwards, backwards, shuffled or not at all.
Its distances say nothing about natural video and are never comparable with I3D's; reports call them `atari`.
"""

# B batch · C channels · T frames · H W pixels

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videoar.data.files import atomic_path
from videoar.errors import UserError
from videoar.metrics.features.base import FeatureNet, existing, file_sha256
from videoar.shipped import shipped

ARRANGEMENTS = ("forwards", "backwards", "shuffled", "frozen")
SIZE = 128  # pixels a side


def _block(c_in: int, c_out: int, stride: tuple[int, int, int]) -> nn.Sequential:
    conv = nn.Conv3d(c_in, c_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(c_out), nn.ReLU(inplace=True))


class AtariFeatures(nn.Module):
    """Video [B, 3, T, 128, 128] in [-1, 1] → features [B, width], any T ≥ 1.

    Args:
        classes: names of the games, in label order.
        width: d, the feature width, even: half are means over space (what is there), half are maxima (small sprites).

    The input is joined by the difference of each frame from the one before (nothing, for the first), which makes
    motion visible to the first layer: sprites are a few pixels wide.
    """

    def __init__(self, classes: list[str], width: int = 128) -> None:
        super().__init__()
        self.classes = list(classes)
        stem = nn.Conv3d(6, 24, (1, 5, 5), (1, 4, 4), (0, 2, 2), bias=False)
        self.trunk = nn.Sequential(
            nn.Sequential(stem, nn.BatchNorm3d(24), nn.ReLU(inplace=True)),
            _block(24, 48, (1, 2, 2)),
            _block(48, 96, (2, 2, 2)),
            _block(96, width // 2, (1, 2, 2)),
        )
        self.game = nn.Linear(width, len(self.classes))
        self.arrangement = nn.Linear(width, len(ARRANGEMENTS))

    def forward(self, video: Tensor) -> Tensor:
        """Features: mean and maximum of the trunk's output over space, both averaged over time."""
        moved = F.pad(4 * video.diff(dim=2), (0, 0, 0, 0, 1, 0))
        x = self.trunk(torch.cat([video, moved], dim=1))
        return torch.cat([x.mean((3, 4)), x.amax((3, 4))], dim=1).mean(2)

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the game and of the arrangement of the frames."""
        return self.game(features), self.arrangement(features)

    def save(self, folder: str | Path, notes: dict[str, object]) -> None:
        """Write `model.safetensors` and `config.json` (classes, width and `notes`)."""
        folder = Path(folder)
        with atomic_path(folder / "model.safetensors") as path:
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, path)
        config = {"classes": self.classes, "width": self.game.in_features, **notes}
        with atomic_path(folder / "config.json") as path:
            path.write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> AtariFeatures:
        """The net of a folder written by `save`; a UserError if it is not one."""
        folder = Path(folder)
        config = json.loads(existing(folder / "config.json", "Atari feature net").read_text())
        state = load_file(existing(folder / "model.safetensors", "Atari feature net"))
        net = cls(config["classes"], config["width"])
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{folder} does not hold an Atari feature net: {str(error).splitlines()[0]}") from error
        return net


def _forward(module: nn.Module, video: Tensor) -> Tensor:
    return module(video)


def load_atari(folder: str | Path | None = None, resize: str = "short_side_crop_antialias") -> FeatureNet:
    """The shipped Atari feature net, or the one in `folder`."""
    folder = shipped("assets/atari-features") if folder is None else Path(folder)
    net = AtariFeatures.load(folder)
    details: dict[str, object] = {
        "kind": "classifier of Atari games trained in this repository",
        "classes": len(net.classes),
        "layer": "mean and maximum over space of the last convolution, averaged over time",
    }
    digest = file_sha256(folder / "model.safetensors")
    return FeatureNet("atari", net, _forward, net.game.in_features, (SIZE, SIZE), resize, 2, digest, details)


def frame_embedder(folder: str | Path | None = None) -> FeatureNet:
    """The same net on single frames (clips of one frame): a substitute for image embeddings that needs no download."""
    net = load_atari(folder)
    net.name, net.min_frames = "atari-frame", 1
    return net


def rearrange(video: Tensor, how: Tensor, generator: torch.Generator) -> Tensor:
    """Rearrange the frames of each clip [B, 3, T, H, W] as `how` [B] (index into ARRANGEMENTS) says."""
    frames = video.shape[2]
    rows = []
    for kind in how.tolist():
        order = torch.arange(frames)
        if ARRANGEMENTS[kind] == "backwards":
            order = order.flip(0)
        elif ARRANGEMENTS[kind] == "shuffled":
            order = torch.randperm(frames, generator=generator)
        elif ARRANGEMENTS[kind] == "frozen":
            order = torch.full_like(order, int(torch.randint(frames, (1,), generator=generator)))
        rows.append(order)
    index = torch.stack(rows).to(video.device)
    return video.gather(2, index[:, None, :, None, None].expand_as(video))
