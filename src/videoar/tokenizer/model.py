"""VideoTokenizer: pixels → latent → bits → latent → pixels (paper §4.1)."""

# B batch · T pixel frames 1 + ratio·n · T' latent frames 1 + n · H W pixels · h w latent grid · D bits

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from videoar.bits.pyramid import ScalePyramid
from videoar.bits.residual import Quantized, quantize
from videoar.errors import UserError
from videoar.pretrained import Pretrained
from videoar.tokenizer.blocks import Level
from videoar.tokenizer.config import TokenizerConfig
from videoar.tokenizer.decoder import Decoder
from videoar.tokenizer.encoder import Encoder
from videoar.tokenizer.layers import CHANNELS_LAST, Stream

__all__ = ["TokenizerConfig", "VideoTokenizer"]


class VideoTokenizer(nn.Module, Pretrained):
    """Causal 3D autoencoder with a multi-scale binary bottleneck; an image is a clip of one frame.

        latent = tokenizer.encode(video)         # [B, 3, T, H, W] in [-1, 1] → [B, D, T', h, w]
        codes = tokenizer.quantize(latent)       # .bits, one bool [B, T', h_k, w_k, D] a scale; .latent
        video = tokenizer.decode(codes.latent)   # [B, 3, T, H, W] in [-1, 1]

    Latent frame n depends on pixel frames ≤ ratio·n only, and its pixels on latent frames ≤ n only. Where gradients are
    wanted a clip passes at once. Else, on a CPU, one latent frame follows the other, which takes no longer, a fraction
    of the memory, and makes clips, streams and images agree to the bit. On an accelerator, where small pieces leave it
    idle, as many latent frames pass together as keep the widest activation below `PIECE_BYTES`.
    """

    PIECE_BYTES: ClassVar[int] = 2**30

    config_class: ClassVar[type] = TokenizerConfig
    part: ClassVar[str] = "tokenizer"

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.to(memory_format=CHANNELS_LAST)

    def encoder_fingerprint(self) -> str:
        """The fingerprint of what decides the bits; a decoder that is trained on against a held encoder keeps it."""
        return self.fingerprint(without="decoder.")

    def encode(self, video: Tensor) -> Tensor:
        """Video [B, 3, T, H, W] in [-1, 1] → latent [B, D, T', h, w], not yet quantised.

        Raises:
            ValueError: not five axes or three channels; T is not 1 + ratio·n; H or W not a multiple of the ratio.
        """
        self._check_video(video)
        ratio = self.config.temporal_ratio
        if video.shape[2] < 1 or (video.shape[2] - 1) % ratio:
            raise ValueError(f"a clip needs 1 + {ratio}n frames, got {video.shape[2]}")
        at_once = self._at_once(video, video.shape[-2:])
        if torch.is_grad_enabled() or video.shape[2] <= 1 + ratio * (at_once - 1):
            return self.encoder(video)
        stream, ends = Stream(), range(1 + ratio * (at_once - 1), video.shape[2] + ratio * at_once, ratio * at_once)
        pieces = (video[:, :, max(0, end - ratio * at_once) : end] for end in ends)
        return torch.cat([self.encoder(piece, stream) for piece in pieces], dim=2)

    def quantize(
        self, latent: Tensor, pyramid: ScalePyramid | None = None, straight_through: bool = False
    ) -> Quantized:
        """Latent [B, D, T', h, w] → bits of every scale and the quantised latent.

        Args:
            pyramid: the scales; None: this tokenizer's for that grid.
            straight_through: pass the gradient of the quantised latent on to `latent` unchanged.
        """
        return quantize(latent, pyramid or self._pyramid_of(*latent.shape[-2:]), straight_through)

    def decode(self, latent: Tensor) -> Tensor:
        """Latent [B, D, T', h, w] → video [B, 3, T, H, W], clamped to [-1, 1] (`decoder` alone does not clamp).

        Raises:
            ValueError: another shape, or no frame.
        """
        self._check_latent(latent)
        if latent.shape[2] < 1:
            raise ValueError("a latent needs at least one frame, got 0")
        ratio = self.config.spatial_ratio
        at_once = self._at_once(latent, (latent.shape[-2] * ratio, latent.shape[-1] * ratio))
        if torch.is_grad_enabled() or latent.shape[2] <= at_once:
            return self.decoder(latent).clamp(-1, 1)
        stream = Stream()
        return torch.cat([self.decoder(piece, stream).clamp(-1, 1) for piece in latent.split(at_once, dim=2)], dim=2)

    def _at_once(self, x: Tensor, size: Sequence[int]) -> int:
        """Latent frames that pass together, of videos or latents x whose frames have `size` pixels."""
        if torch.compiler.is_compiling():  # one graph of the whole clip
            return x.shape[2]
        if x.device.type == "cpu":
            return 1
        pixels = size[0] * size[1] * self.config.temporal_ratio // self.config.patch**2
        return max(1, self.PIECE_BYTES // (x.shape[0] * pixels * self.config.widths[0] * x.element_size()))

    def forward(self, video: Tensor) -> Tensor:
        """Video → bits → video (`reconstruct`); what hooks and torch.export see."""
        return self.reconstruct(video)

    def reconstruct(self, video: Tensor, pyramid: ScalePyramid | None = None) -> Tensor:
        """Video → bits → video."""
        return self.decode(self.quantize(self.encode(video), pyramid).latent.to(video.dtype))

    def pyramid(self, height: int, width: int) -> ScalePyramid:
        """The scales of a frame of `height` x `width` pixels."""
        self._check_size(height, width)
        return self._pyramid_of(height // self.config.spatial_ratio, width // self.config.spatial_ratio)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Encode a video that comes in chunks [B, 3, any T, H, W]; yields each latent frame as soon as it is complete.

        Together they are `encode` of the whole video bit for bit, while memory holds one chunk.

        Raises:
            ValueError: a chunk `encode` would refuse, or a video that ends between two latent frames.
        """
        stream, ratio = Stream(), self.config.temporal_ratio
        rest, frames, wanted = None, 0, 1
        for chunk in chunks:
            self._check_video(chunk)
            if rest is not None and rest[:, :, :0].shape != chunk[:, :, :0].shape:
                raise ValueError(f"a chunk of {list(chunk.shape)} follows chunks of {list(rest.shape)}")
            frames += chunk.shape[2]
            rest = chunk if rest is None else torch.cat([rest, chunk], dim=2)
            while rest.shape[2] >= wanted:
                yield self.encoder(rest[:, :, :wanted], stream)
                rest, wanted = rest[:, :, wanted:], ratio
            rest = rest.clone()
        if rest is not None and rest.shape[2]:
            raise ValueError(f"a video needs 1 + {ratio}n frames, got {frames}")

    @torch.no_grad()
    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode a latent that comes in chunks [B, D, any T', h, w]; yields the pixels of each latent frame, clamped.

        Together they are `decode` of the whole latent bit for bit, while memory holds one chunk.
        """
        stream = Stream()
        for chunk in latents:
            self._check_latent(chunk)
            for frame in chunk.split(1, dim=2):
                yield self.decoder(frame, stream).clamp(-1, 1)

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Trade time for memory in training: recompute residual blocks in the backward pass."""
        for module in self.modules():
            if isinstance(module, Level):
                module.checkpointing = enabled

    def _pyramid_of(self, h: int, w: int) -> ScalePyramid:
        if self.config.scales is None:
            return ScalePyramid.default(h, w)
        pyramid = ScalePyramid.from_sides(self.config.scales)
        if pyramid.full != (h, w):
            raise UserError(f"the configured scales end in a grid of {pyramid.full}, but the latent's is {(h, w)}")
        return pyramid

    def _check_video(self, video: Tensor) -> None:
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"a video must be [B, 3, T, H, W], got {list(video.shape)}")
        self._check_size(*video.shape[-2:])

    def _check_size(self, height: int, width: int) -> None:
        ratio = self.config.spatial_ratio
        if height % ratio or width % ratio or min(height, width) < ratio:
            raise ValueError(f"height and width must be multiples of {ratio}, got {height}x{width}")

    def _check_latent(self, latent: Tensor) -> None:
        if latent.ndim != 5 or latent.shape[1] != self.config.latent_dim:
            raise ValueError(f"a latent must be [B, {self.config.latent_dim}, T', h, w], got {list(latent.shape)}")
