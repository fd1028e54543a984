"""I3D (Inflated Inception-v1, Kinetics-400), the feature net of the original FVD: 400 logits, averaged over time.

Two public weight files are understood: a TorchScript archive (StyleGAN-V's `i3d_torchscript.pt`, which carries its
own code) and a plain state dict (VideoGPT's `i3d_pretrained_400.pt`, loaded into the `I3D` below). Neither is fetched.
"""

# B batch · C channels · T frames · H W pixels

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.metrics.features.base import FeatureNet, existing, file_sha256
from videoar.weights import read_torch

Triple = tuple[int, int, int]
STYLEGANV_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
# name: channels of [1x1, 1x1 → 3x3, 1x1 → 3x3, pool → 1x1]
INCEPTION = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def same_padding(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad [B, C, T, H, W] with zeros as TensorFlow's "SAME" does: depends on the size, the smaller half in front."""
    pads: list[int] = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        total = max(k - (s if n % s == 0 else n % s), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU; "SAME" padding."""

    def __init__(
        self, c_in: int, c_out: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1), eps: float = 1e-3
    ):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(c_in, c_out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(c_out, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(same_padding(x, self.kernel, self.stride))))


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max pool with "SAME" padding; zeros are harmless, because inputs come after a ReLU."""
    return F.max_pool3d(same_padding(x, kernel, stride), kernel, stride)


class Inception(nn.Module):
    """Four branches, concatenated."""

    def __init__(self, c_in: int, channels: tuple[int, ...], eps: float):
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3 = channels
        cube = (3, 3, 3)
        self.b0 = Unit(c_in, b0, eps=eps)
        self.b1a, self.b1b = Unit(c_in, b1a, eps=eps), Unit(b1a, b1b, cube, eps=eps)
        self.b2a, self.b2b = Unit(c_in, b2a, eps=eps), Unit(b2a, b2b, cube, eps=eps)
        self.b3b = Unit(c_in, b3, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class I3D(nn.Module):
    """Video [B, 3, T, 224, 224] in [-1, 1], T ≥ 9 → logits [B, classes], averaged over time.

    Args:
        eps: of the batch norms. 1e-3 is the original TensorFlow graph; the VideoGPT / TATS / SEED-Voken numbers were
            made with 1e-5 on the same variances.
    """

    def __init__(self, classes: int = 400, eps: float = 1e-3):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), (2, 2, 2), eps)
        self.Conv3d_2b_1x1 = Unit(64, 64, eps=eps)
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3), eps=eps)
        self.classes = classes
        width = 192
        for name, channels in INCEPTION.items():
            self.add_module(name, Inception(width, channels, eps))
            width = channels[0] + channels[2] + channels[4] + channels[5]
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(width, classes, 1)})

    def forward(self, video: Tensor) -> Tensor:
        x = max_pool(self.Conv3d_1a_7x7(video), (1, 3, 3), (1, 2, 2))
        x = max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in INCEPTION:
            if name == "Mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, name)(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.logits["conv3d"](x).flatten(3).mean(3).mean(2)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _from_state_dict(path: Path, eps: float) -> I3D:
    state = read_torch(path, legacy=True)
    if not isinstance(state, dict) or "Conv3d_1a_7x7.conv3d.weight" not in state:
        raise UserError(
            f"{path} is neither a TorchScript archive nor an I3D state dict (no Conv3d_1a_7x7.conv3d.weight)"
        )
    net = I3D(classes=len(state["logits.conv3d.bias"]), eps=eps)
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit I3D: {str(error).splitlines()[-1].strip()}") from error
    return net


def _run_state_dict(module: nn.Module, video: Tensor) -> Tensor:
    return module(video)


def _run_torchscript(module: nn.Module, video: Tensor) -> Tensor:
    return module(video, rescale=False, resize=False, return_features=True)


def _run_torchscript_resizing(module: nn.Module, video: Tensor) -> Tensor:
    return module(video, rescale=False, resize=True, return_features=True)


def load_i3d(path: str | Path, resize: str = "direct", eps: float = 1e-3, size: int = 224) -> FeatureNet:
    """I3D from a TorchScript archive or a state dict, told apart by their content.

    Args:
        resize: see `preprocess.resize_frames`; "internal" leaves it to the archive's own code (StyleGAN-V, LARP).
        eps: batch-norm epsilon of a state dict (the archive has its own, 1e-3).

    Raises:
        UserError: no file, a file that is neither, or "internal" for a state dict, which has no code.
    """
    path = existing(path, "I3D weights (i3d_torchscript.pt or i3d_pretrained_400.pt)")
    digest = file_sha256(path)
    details: dict[str, Any] = {"file": path.name, "layer": "400 logits before softmax, mean over time"}
    if _is_torchscript(path):
        details |= {"kind": "torchscript", "known_file": digest == STYLEGANV_SHA256}
        module = torch.jit.load(str(path), map_location="cpu")
        if resize == "internal":
            details["resize_inside"] = True
            return FeatureNet("i3d", module, _run_torchscript_resizing, 400, None, resize, 9, digest, details)
        return FeatureNet("i3d", module, _run_torchscript, 400, (size, size), resize, 9, digest, details)
    if resize == "internal":
        raise UserError(f"{path} is a state dict without code; choose a features_resize other than 'internal'")
    details |= {"kind": "state_dict", "batch_norm_eps": eps}
    net = _from_state_dict(path, eps)
    return FeatureNet("i3d", net, _run_state_dict, net.classes, (size, size), resize, 9, digest, details)
