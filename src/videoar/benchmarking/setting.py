"""The clip and the models that a benchmark runs on."""

# B batch · T latent frames · D bits per token · h w latent grid

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from videoar.bits.pyramid import Order, ScalePyramid
from videoar.errors import UserError
from videoar.generator.config import GeneratorConfig
from videoar.generator.model import VideoAR
from videoar.tokenizer.config import TokenizerConfig
from videoar.tokenizer.model import VideoTokenizer

CLASSES = 101


@dataclass(frozen=True)
class Setting:
    """The clip and the models of a benchmark.

    Raises:
        UserError: an unknown preset, or a clip that the tokenizer does not take.
    """

    preset: str
    device: torch.device
    dtype: torch.dtype
    frames: int = 17
    size: tuple[int, int] = (128, 128)
    batch: int = 1
    guidance: str = "ucf101"
    depth: int | None = None
    """Blocks of the generator, fewer than the preset's where memory is short; None: the preset's."""
    order: Order = "scales"
    """`raster`: the next-token baseline, whose tokenizer has a single scale."""

    def __post_init__(self) -> None:
        GeneratorConfig.preset(self.preset)
        ratio, time = self.tokenizer_config.spatial_ratio, self.tokenizer_config.temporal_ratio
        if self.frames < 1 or (self.frames - 1) % time:
            raise UserError(f"{self.frames} frames are not 1 + {time}·n")
        if self.depth is not None and self.depth < 1:
            raise UserError(f"a generator needs at least one block, got depth {self.depth}")
        if self.batch < 1 or any(side % ratio or side < 1 for side in self.size):
            raise UserError(f"batch {self.batch}, {self.size} pixels: at least 1, and sides that {ratio} divides")

    @property
    def tokenizer_config(self) -> TokenizerConfig:
        """The tokenizer that belongs to the generator's preset."""
        return TokenizerConfig.preset("videoar" if self.preset.startswith("videoar") else self.preset)

    @property
    def pyramid(self) -> ScalePyramid:
        """The scales of a frame; the latent grid alone in raster order."""
        ratio = self.tokenizer_config.spatial_ratio
        height, width = self.size[0] // ratio, self.size[1] // ratio
        return ScalePyramid(((height, width),)) if self.order == "raster" else ScalePyramid.default(height, width)

    @property
    def latent_frames(self) -> int:
        """T, the clip's latent frames."""
        return 1 + (self.frames - 1) // self.tokenizer_config.temporal_ratio

    @property
    def shapes(self) -> str:
        """The clip in words, and the depth where it is not the preset's."""
        clip = f"{self.batch} x {self.frames}x{self.size[0]}x{self.size[1]}"
        return clip if self.depth is None else f"{clip}, depth {self.depth}"

    @property
    def meta(self) -> Setting:
        """The same on the meta device, where FLOPs are counted without computing."""
        return replace(self, device=torch.device("meta"))

    @property
    def tokens(self) -> int:
        """Video tokens of the batch."""
        return self.batch * self.pyramid.sequence_length(self.latent_frames)

    def labels(self) -> Tensor:
        """A class for every clip."""
        return torch.arange(self.batch, device=self.device) % CLASSES

    def latent(self) -> Tensor:
        """A random latent [B, D, T, h, w], float32."""
        D, T = self.tokenizer_config.latent_dim, self.latent_frames
        return torch.randn(self.batch, D, T, *self.pyramid.full, device=self.device)

    def video(self, dtype: torch.dtype | None = None) -> Tensor:
        """A random video [B, 3, T, H, W] in [-1, 1]."""
        return torch.rand(self.batch, 3, self.frames, *self.size, device=self.device, dtype=dtype or self.dtype) * 2 - 1

    @property
    def steps(self) -> int:
        """Transformer calls of a clip."""
        return self.latent_frames * len(self.pyramid.steps(self.order))

    @property
    def generator_config(self) -> GeneratorConfig:
        """The preset, class-conditional whatever it says: nothing to download."""
        config = GeneratorConfig.preset(self.preset, num_classes=CLASSES, condition="class")
        return replace(config, depth=self.depth or config.depth, order=self.order)

    def generator(self, dtype: torch.dtype) -> VideoAR:
        """The generator."""
        with torch.device(self.device):
            return VideoAR(self.generator_config).to(dtype)

    def tokenizer(self, dtype: torch.dtype) -> VideoTokenizer:
        """The tokenizer that belongs to the preset."""
        with torch.device(self.device):
            return VideoTokenizer(self.tokenizer_config).to(dtype)
