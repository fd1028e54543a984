"""The perceptual term of the tokenizer's objective, on each frame (paper §4.1), and one without weights.

    lpips_vgg | lpips_alex    LPIPS (lpips package): its calibrated layers ship with the package, the backbone does not
    multiscale_gradient       edges and motion at several sizes: no network, nothing to download
    none                      switched off

Nothing is downloaded here. The backbone comes from `weights_path` or from torchvision's cache.
"""

# B batch · T frames · N = B·T frames of a batch · C channels · H W pixels

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.randomness import stream_untouched
from videoar.weights import read_torch

PerceptualName = Literal["lpips_vgg", "lpips_alex", "multiscale_gradient", "none"]
MIN_SIDE = 32
_CACHED = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
_BACKBONE = {"vgg": "vgg16", "alex": "alexnet"}


def perceptual_loss(name: PerceptualName, weights_path: str | None = None) -> nn.Module | None:
    """The perceptual term of that name, or None for `none`.

    Raises:
        ValueError: an unknown name.
    """
    if name == "none":
        return None
    if name == "multiscale_gradient":
        return MultiscaleGradient()
    if name in ("lpips_vgg", "lpips_alex"):
        return Perceptual("vgg" if name == "lpips_vgg" else "alex", weights_path)
    raise ValueError(f"unknown perceptual loss {name!r}: lpips_vgg, lpips_alex, multiscale_gradient or none")


def _check(video: Tensor, other: Tensor) -> None:
    """Two videos [B, C, T, H, W] that can be compared.

    Raises:
        ValueError: shapes that differ, or frames below 32 pixels, where the deepest features are empty. They
            are not enlarged silently: a run at that size should choose another loss.
    """
    if video.shape != other.shape:
        raise ValueError(f"perceptual loss of two shapes: {tuple(video.shape)} and {tuple(other.shape)}")
    if min(video.shape[-2:]) < MIN_SIDE:
        raise ValueError(
            f"the perceptual loss needs frames of at least {MIN_SIDE}x{MIN_SIDE} pixels,"
            f" got {video.shape[-2]}x{video.shape[-1]}; use perceptual_net: none"
        )


class Perceptual(nn.Module):
    """LPIPS (arXiv 1801.03924) of two videos, frame by frame; a scalar. Float32 whatever the autocast says.

    The network is built at the first call, is frozen, and is not a submodule: it enters no checkpoint and no
    optimizer. Channel norms have their epsilon inside the square root, so an all-zero feature has a finite
    gradient (the lpips package's own forward gives NaN there).

    Args:
        net: backbone, `vgg` (the usual choice for training) or `alex`.
        weights_path: state_dict file of torchvision's backbone; None: torchvision's cache.
    """

    def __init__(self, net: Literal["vgg", "alex"] = "vgg", weights_path: str | None = None) -> None:
        super().__init__()
        if net not in _CACHED:
            raise ValueError(f"unknown LPIPS backbone {net!r}: choose vgg or alex")
        self.net = net
        self.weights_path = weights_path
        self._built: dict[torch.device, nn.Module] = {}  # a plain dict: nn.Module does not register what is in it

    def extra_repr(self) -> str:
        return f"net={self.net}, weights_path={self.weights_path}"

    @torch.inference_mode(False)  # training may go on with what a validation has built
    def network(self, device: torch.device) -> Any:
        """The frozen network on `device`, built on first use.

        Raises:
            UserError: the backbone's weights are missing or unreadable.
        """
        if device not in self._built:
            self._built[device] = _build_lpips(self.net, _backbone_file(self.net, self.weights_path)).to(device)
        return self._built[device]

    def forward(self, video: Tensor, target: Tensor) -> Tensor:
        """LPIPS of [B, 3, T, H, W] in [-1, 1] against another, meaned over frames."""
        with torch.autocast(video.device.type, enabled=False):
            _check(video, target)
            x_NCHW, y_NCHW = (x.float().transpose(1, 2).flatten(0, 1) for x in (video, target))
            network = self.network(video.device)
            x_features = network.net(network.scaling_layer(x_NCHW))
            y_features = network.net(network.scaling_layer(y_NCHW))
            distance = torch.zeros((), device=video.device)
            for x, y, calibrated in zip(x_features, y_features, network.lins):
                distance = distance + calibrated((_unit(x) - _unit(y)).square()).mean()
            return distance


def _unit(x_NCHW: Tensor, eps: float = 1e-10) -> Tensor:
    """Features divided by their norm over channels, epsilon inside the root."""
    return x_NCHW * torch.rsqrt(x_NCHW.square().sum(1, keepdim=True) + eps)


def _backbone_file(net: str, weights_path: str | None) -> Path:
    """Where the backbone's weights lie, or an error that says how to get them and what works without."""
    path = Path(weights_path) if weights_path else Path(torch.hub.get_dir()) / "checkpoints" / _CACHED[net]
    if not path.is_file():
        name = _BACKBONE[net]
        raise UserError(
            f"LPIPS needs torchvision's {name} weights, and {path} does not exist. Fetch them once with"
            f" `python -c \"import torchvision; torchvision.models.{name}(weights='DEFAULT')\"`, give their"
            " path as perceptual_weights, or choose `perceptual_net: multiscale_gradient` (needs no download)"
        )
    return path


@stream_untouched()
def _build_lpips(net: str, backbone: Path) -> nn.Module:
    """The lpips package's network, its calibrated layers, and the backbone's weights from a file; frozen."""
    import lpips  # heavy, and only needed by this loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision with arguments it has deprecated
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    weights = read_torch(backbone, legacy=True)
    if not isinstance(weights, dict):
        raise UserError(f"{backbone} is not a torchvision {_BACKBONE[net]} state dict: it holds no named tensors")
    slices = [getattr(network.net, f"slice{i}") for i in range(1, network.net.N_slices + 1)]
    for part in slices:  # submodules keep the index they have in torchvision's `features`
        prefixed = {key: weights.get(f"features.{key}") for key in part.state_dict()}
        missing = [f"features.{key}" for key, value in prefixed.items() if value is None]
        if missing:
            raise UserError(f"{backbone} is not a torchvision {_BACKBONE[net]} state dict: {missing[0]} is missing")
        part.load_state_dict(prefixed)
    return network.requires_grad_(False).eval()


class MultiscaleGradient(nn.Module):
    """L1 distance of differences along height, width and time at several frame sizes; a scalar. Needs no weights.

    It is not perceptual: it only makes lost edges and lost motion as expensive as lost brightness, at each size,
    which keeps small reconstructions from blurring and small things moving. Use it where LPIPS' backbone cannot
    be had, and do not compare its value with LPIPS.

    Args:
        levels: how often the frames are halved (fewer if a side would fall below 4 pixels).
    """

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"multiscale_gradient needs at least 1 level, got {levels}")
        self.levels = levels

    def extra_repr(self) -> str:
        return f"levels={self.levels}"

    def forward(self, video: Tensor, target: Tensor) -> Tensor:
        """The distance of [B, 3, T, H, W] from another video, meaned over levels."""
        with torch.autocast(video.device.type, enabled=False):
            _check(video, target)
            error = video.float() - target.float()  # differences and means are linear: one pyramid is enough
            axes = (2, 3, 4) if error.shape[2] > 1 else (3, 4)
            terms = []
            for _ in range(self.levels):
                terms.append(torch.stack([error.diff(dim=axis).abs().mean() for axis in axes]).sum())
                if min(error.shape[-2:]) < 8:
                    break
                error = F.avg_pool3d(error, (1, 2, 2))
            return torch.stack(terms).mean()
