"""The networks behind VBench's dimensions, from files on this machine (or, when asked, from the hub).

Looked for in this order: the file VBench itself uses, in its cache folder (`weights`, default $VBENCH_CACHE_DIR or
~/.cache/vbench); the hub's local cache, through transformers or torch.hub; with `download=True`, the hub.
"""

# N frames · H W pixels · d feature width

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.kernels.transfer import sent
from videoar.metrics.features.base import file_sha256, weights_sha256
from videoar.metrics.vbench.base import Backbone
from videoar.weights import load_strict, read_torch

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAFT_FILE = "raft_large_C_T_V1-22a6c225.pth"


@dataclass(frozen=True)
class Weights:
    """Where weights may come from.

    Attributes:
        folder: a folder in the layout of VBench's cache; None: $VBENCH_CACHE_DIR, else ~/.cache/vbench.
        download: whether a hub may be asked for what is not on this machine.
    """

    folder: Path | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if self.folder is not None and not self.folder.is_dir():
            raise UserError(f"no folder of VBench weights at {self.folder}")

    def file(self, relative: str) -> Path | None:
        """The file at `relative` in the folder, or None."""
        root = self.folder or Path(os.environ.get("VBENCH_CACHE_DIR") or Path.home() / ".cache" / "vbench")
        return root / relative if (root / relative).is_file() else None

    def needed(self, relative: str, purpose: str) -> Path:
        """The same, or a UserError that says what is missing."""
        if path := self.file(relative):
            return path
        raise UserError(f"{purpose} needs {relative} in VBench's cache folder")


def _library(module: str, package: str, purpose: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(f"{purpose} needs {package} ({str(error).splitlines()[0]}): pip install {package}") from error


def _frozen(
    module: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor], batch: int = 32
) -> Callable[..., Tensor]:
    """`forward` over frames in batches, on the frames' device; the module is in no module tree."""
    module.eval().requires_grad_(False)

    def run(frames: Tensor) -> Tensor:
        module.to(frames.device)
        return torch.cat([forward(module, part) for part in frames.split(batch)])

    return run


def _scaled(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    centre, spread = sent(torch.tensor([mean, std]), frames.device).to(frames.dtype)[..., None, None]
    return (frames / 255 - centre) / spread


def clip_pixels(frames: Tensor, size: int = 224) -> Tensor:
    """CLIP's input from frames 0 … 255: short side to `size`, bicubic without antialias, centre crop, normalise."""
    height, width = frames.shape[-2:]
    short = min(height, width)
    target = (int(size * height / short), int(size * width / short))
    if target != (height, width):
        frames = F.interpolate(frames, size=target, mode="bicubic", align_corners=False)
    top, left = round((target[0] - size) / 2), round((target[1] - size) / 2)
    return _scaled(frames[..., top : top + size, left : left + size], CLIP_MEAN, CLIP_STD)


def dino_pixels(frames: Tensor, size: int = 224, patch: int = 16) -> Tensor:
    """DINO's input from frames 0 … 255: short side to `size`, bilinear without antialias, no crop, normalise.

    The right and bottom edge beyond a whole patch is cut off, which is what DINO's patch convolution ignores anyway.
    """
    height, width = frames.shape[-2:]
    short = min(height, width)
    target = (int(size * height / short), int(size * width / short))
    frames = F.interpolate(frames, size=target, mode="bilinear", align_corners=False)
    return _scaled(frames[..., : target[0] // patch * patch, : target[1] // patch * patch], IMAGENET_MEAN, IMAGENET_STD)


def _from_hub(model_class: str, source: str, weights: Weights, purpose: str, **options: Any) -> nn.Module:
    transformers = _library("transformers", "transformers", purpose)
    try:
        kind = getattr(transformers, model_class)
        return kind.from_pretrained(source, local_files_only=not weights.download, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{purpose}: {source} is neither in VBench's cache folder nor in the hub's local cache "
            "(download=True would fetch it)"
        ) from error


def dino(weights: Weights) -> Backbone:
    """DINO ViT-B/16: `run(frames) -> [N, 768]`, the class token after the final norm."""
    purpose = "subject consistency (DINO)"
    if path := weights.file("dino_model/dino_vitbase16_pretrain.pth"):
        timm = _library("timm", "timm", purpose)
        options = {"num_classes": 0, "dynamic_img_size": True, "checkpoint_path": str(path)}
        module = timm.create_model("vit_base_patch16_224.dino", pretrained=False, **options)
        run = _frozen(module, lambda net, frames: net(dino_pixels(frames)))
        return Backbone("DINO ViT-B/16 (timm)", run, sha256=file_sha256(path))
    module = _from_hub("ViTModel", "facebook/dino-vitb16", weights, purpose, add_pooling_layer=False)

    def forward(net: Any, frames: Tensor) -> Tensor:
        return net(pixel_values=dino_pixels(frames), interpolate_pos_encoding=True).last_hidden_state[:, 0]

    return Backbone("DINO ViT-B/16 (transformers)", _frozen(module, forward), sha256=weights_sha256(module))


def clip(name: str, weights: Weights, purpose: str) -> Backbone:
    """OpenAI's CLIP image tower, `name` = "ViT-B-32" or "ViT-L-14": `run(frames) -> [N, d]`, projected features."""
    if path := weights.file(f"clip_model/{name}.pt"):
        openai = _library("open_clip.openai", "open-clip-torch", purpose)
        module = openai.load_openai_model(str(path), precision="fp32", device="cpu")
        run = _frozen(module, lambda net, frames: net.encode_image(clip_pixels(frames)))  # type: ignore[operator]
        return Backbone(f"CLIP {name} (open_clip)", run, sha256=file_sha256(path))
    source = {"ViT-B-32": "openai/clip-vit-base-patch32", "ViT-L-14": "openai/clip-vit-large-patch14"}[name]
    module = _from_hub("CLIPVisionModelWithProjection", source, weights, purpose)
    run = _frozen(module, lambda net, frames: net(pixel_values=clip_pixels(frames)).image_embeds)
    return Backbone(f"CLIP {name} (transformers)", run, sha256=weights_sha256(module))


def aesthetic(weights: Weights) -> Backbone:
    """LAION's linear head on CLIP ViT-L/14: `run(frames) -> [N]`, 0 … 10."""
    purpose = "aesthetic quality (LAION's linear head)"
    path = weights.needed("aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth", purpose)
    tower = clip("ViT-L-14", weights, purpose)
    state = read_torch(path, legacy=True)
    weight = state.get("weight") if isinstance(state, dict) else None
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise UserError(f"{path} is no linear head")
    head = nn.Linear(weight.shape[1], 1)
    load_strict(head, state, str(path))
    score = _frozen(head, lambda net, features: net(F.normalize(features.float(), dim=-1)).squeeze(-1))
    name = f"LAION aesthetic v1 on {tower.name}"
    return Backbone(name, lambda frames: score(tower.run(frames)), sha256=file_sha256(path))


def musiq(weights: Weights) -> Backbone:
    """MUSIQ trained on SPAQ, through pyiqa (non-commercial licence): `run(frames) -> [N]`, 0 … 100."""
    purpose = "imaging quality (MUSIQ)"
    path = weights.needed("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth", purpose)
    module = _library("pyiqa.archs.musiq_arch", "pyiqa", purpose).MUSIQ(pretrained_model_path=str(path))

    def forward(net: nn.Module, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        if (longest := max(height, width)) > 512:
            size = (int(height * 512 / longest), int(width * 512 / longest))
            frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        return net(frames / 255).flatten()

    return Backbone("MUSIQ-SPAQ (pyiqa)", _frozen(module, forward, batch=1), sha256=file_sha256(path))


def raft_pixels(frames: Tensor) -> Tensor:
    """RAFT's input from frames 0 … 255: -1 … 1, edges repeated to sides divisible by 8, half of it on each side.

    (VBench's InputPadder in its default mode, `sintel`; an odd row or column goes to the bottom or right.)
    """
    missing_h, missing_w = -frames.shape[-2] % 8, -frames.shape[-1] % 8
    top, left = missing_h // 2, missing_w // 2
    return F.pad(frames / 127.5 - 1, (left, missing_w - left, top, missing_h - top), mode="replicate")


def raft(weights: Weights, updates: int = 20) -> Backbone:
    """RAFT trained on FlyingThings3D (torchvision's C_T_V1, the weights VBench uses): `run(a, b) -> [N, 2, H, W]`."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / RAFT_FILE
    path = weights.file(f"raft_model/{RAFT_FILE}") or (cached if cached.is_file() else None)
    if path is None and not weights.download:
        raise UserError(f"dynamic degree (RAFT) needs torchvision's {RAFT_FILE}, in {cached.parent} or VBench's cache")
    flow = _library("torchvision.models.optical_flow", "torchvision", "dynamic degree (RAFT)")
    if path is None:
        module = flow.raft_large(weights=flow.Raft_Large_Weights.C_T_V1)
    else:
        module = flow.raft_large(weights=None)
        load_strict(module, read_torch(path, legacy=True), str(path))
    module.eval().requires_grad_(False)

    def run(first: Tensor, second: Tensor) -> Tensor:
        if min(first.shape[-2:]) < 128:
            raise ValueError(f"RAFT needs frames of at least 128x128 pixels, got {tuple(first.shape[-2:])}")
        pair = [raft_pixels(frames) for frames in (first, second)]
        return module.to(first.device)(*pair, num_flow_updates=updates)[-1]

    digest = file_sha256(path) if path else weights_sha256(module)
    return Backbone("RAFT large, C_T_V1 (torchvision)", run, sha256=digest)
