"""What the page does, without the page: sample in a stream, look at scales, pass a clip through the tokenizer.

Everything that a visitor may ask for has a bound here, and every refusal is a `UserError` that names no path.
"""

# B samples · T frames · H W pixels · K scales

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from videoar.bits.residual import decode_bits
from videoar.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videoar.data.index import known
from videoar.data.readers import Reader, open_video, read_image
from videoar.data.transforms import fit
from videoar.data.writers import to_uint8
from videoar.errors import UserError
from videoar.gallery.start import start_with_video
from videoar.metrics.pixels import frame_psnr
from videoar.ranges import SEED, STRENGTH, TEMPERATURE, Range
from videoar.sampling.generate import extend, sample_latents
from videoar.sampling.guidance import Guidance, guidance_scale
from videoar.sampling.request import Request
from videoar.sampling.streaming import decode_behind
from videoar.training.checkpoint import load_models

FPS = 8
"""Frames a second that clips are shown at."""
SHOT = 17
"""Frames of a shot; longer videos go on shot after shot."""
OVERLAP = 5
"""Frames of a shot, or of an uploaded clip, that the next frames go on from."""
VIDEOS, LONGEST = 6, 97
"""Most videos at once, and most frames of one."""
UPLOAD_BYTES, UPLOAD_FRAMES, UPLOAD_PIXELS = 20 * 2**20, 600, 1920 * 1920
"""Largest upload: of its file, its frames, and the pixels of a frame."""
REBUILT_FRAMES, REBUILT_SIDE = 49, 256
"""Frames of an uploaded clip that are reconstructed, and the longest side they are brought to."""

Bits = tuple[Tensor, ...]
Clips = list[np.ndarray]
"""Videos as files have them, uint8 [T, H, W, 3] each."""


@dataclass(frozen=True)
class Asked:
    """What a visitor has chosen.

    Attributes:
        condition: a class name or a prompt; None for a model without condition.
        number, frames: how many videos, and their length: 1 + 4n.
        guidance: a schedule's name or a number.
        start: an uploaded image or clip to go on from.
    """

    condition: str | None
    number: int = 1
    frames: int = SHOT
    seed: int = 0
    guidance: str = "none"
    temperature: float = 1.0
    start: str | None = None


@dataclass(frozen=True)
class View:
    """A sample while it is made: frames so far, and once it is whole its bits (none of an extended video)."""

    clips: Clips
    frames: int
    bits: Bits = ()


class Studio:
    """A model that visitors share; one of them computes at a time.

    Args:
        model: a shipped name, a folder or a checkpoint.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, model: str = "videoar-atari") -> None:
        self.name = model
        self.generator, self.tokenizer = load_models(model)
        self.config = self.generator.config
        self.size = self.config.size
        self._turn = Lock()

    @property
    def scales(self) -> list[str]:
        """The grids of a frame, as text."""
        return [f"{h}x{w}" for h, w in self.tokenizer.pyramid(*self.size).grids]

    def curve(self, guidance: str, frames: int) -> list[list[float]]:
        """γ(t, k) of a shot: one row a latent frame, one value a scale."""
        schedule = Guidance.of(guidance)
        T, K = 1 + (min(frames, SHOT) - 1) // self.tokenizer.config.temporal_ratio, len(self.scales)
        return [[guidance_scale(schedule, t, k, T, K) for k in range(K)] for t in range(T)]

    def request(self, asked: Asked) -> Request:
        """What is asked, checked, for the sampler.

        Raises:
            UserError: a value out of its bounds, or a start that is no image or clip, too large or too short.
        """
        Range(1, VIDEOS).check("the number of videos", asked.number)
        Range(1, LONGEST).check("the length", asked.frames)
        SEED.check("the seed", asked.seed)
        TEMPERATURE.check("the temperature", asked.temperature)
        guidance = Guidance.of(asked.guidance)
        STRENGTH.check("guidance", guidance.end)
        if self.config.condition != "none" and not asked.condition:
            raise UserError("choose a class" if self.config.condition == "class" else "write a prompt")
        prefix = None if asked.start is None else self._start(asked.start)
        if prefix is not None and prefix.shape[1] >= asked.frames:
            raise UserError(f"a start of {prefix.shape[1]} frames leaves nothing to sample in {asked.frames}")
        condition = [asked.condition if self.config.condition != "none" else None] * asked.number
        frames = min(asked.frames, SHOT)
        return Request(condition, frames, self.size, asked.seed, guidance, asked.temperature, prefix=prefix)

    @torch.no_grad()
    def sample(self, asked: Asked) -> Iterator[View]:
        """The videos after every latent frame, and at last with their bits.

        Raises:
            UserError: as `request`, or what the sampler refuses.
        """
        request = self.request(asked)
        kept: list[Tensor] = []
        bits: list[Bits] = []
        with self._taken():
            if asked.frames > SHOT:
                models, seconds = (self.generator, self.tokenizer), asked.frames / FPS
                parts = extend(*models, request, seconds=seconds, fps=FPS, overlap=OVERLAP)
            else:
                parts = self._shot(request, bits)
            for part in parts:
                kept.append(part)
                yield View(self._clips(kept), asked.frames)
        whole = tuple(torch.cat(scale, dim=1) for scale in zip(*bits))
        yield View(self._clips(kept), asked.frames, whole)

    def _shot(self, request: Request, bits: list[Bits]) -> Iterator[Tensor]:
        def latents() -> Iterator[Tensor]:
            for frame in sample_latents(self.generator, self.tokenizer, request).frames():
                bits.append(frame.bits)
                yield frame.latent

        return decode_behind(self.tokenizer, latents())

    @staticmethod
    def _clips(parts: list[Tensor]) -> Clips:
        return [to_uint8(clip) for clip in torch.cat(parts, dim=2)]

    @torch.no_grad()
    def scale_by_scale(self, bits: Bits, which: int) -> Clips:
        """Video `which` of a sample as its first scale tells it, its first two, … and all K."""
        Range(0, len(bits[0]) - 1).check("the video", which)
        own, pyramid = tuple(scale[which : which + 1] for scale in bits), self.tokenizer.pyramid(*self.size)
        with self._taken():
            latents = torch.cat([decode_bits(own[: k + 1], pyramid) for k in range(len(own))])
            return self._clips([self.tokenizer.decode(latents)])

    @torch.no_grad()
    def reconstruct(self, path: str) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """An uploaded clip and what the tokenizer makes of it, so far, with the mean PSNR of the frames in dB.

        Raises:
            UserError: no clip, or one that is too large.
        """
        with plain_names(path):
            reader = _open(path)
            video = self._small(reader.get(range(min(len(reader), REBUILT_FRAMES))))
        ratio = self.tokenizer.config.temporal_ratio
        frames = 1 + (video.shape[1] - 1) // ratio * ratio
        pieces, done = [], 0
        with self._taken():
            latents = self.tokenizer.encode_stream([video[None, :, :frames]])
            for piece in self.tokenizer.decode_stream(self.tokenizer.quantize(latent).latent for latent in latents):
                pieces.append(piece[0])
                done += piece.shape[2]
                rebuilt, original = torch.cat(pieces, dim=1), video[:, :done]
                psnr = frame_psnr(rebuilt[None], original[None]).mean().item()
                yield to_uint8(original), to_uint8(rebuilt), psnr

    def _small(self, frames: Tensor) -> Tensor:
        """uint8 [T, H, W, 3] → [3, T, h, w] whose sides the tokenizer takes, the longer one at most REBUILT_SIDE."""
        ratio, (height, width) = self.tokenizer.config.spatial_ratio, frames.shape[1:3]
        if self.tokenizer.config.scales is not None:  # such a tokenizer knows one grid only
            return fit(frames, self.size)
        shrink = min(1.0, REBUILT_SIDE / max(height, width))
        sides = [max(1, round(side * shrink / ratio)) * ratio for side in (height, width)]
        return fit(frames, (sides[0], sides[1]))

    def _start(self, path: str) -> Tensor:
        """An uploaded image, or the last frames of an uploaded clip, in the size of the videos."""
        with plain_names(path):
            suffix = Path(path).suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                return fit(read_image(path, UPLOAD_PIXELS), self.size)
            reader = _open(path)
            if len(reader) < OVERLAP:
                raise UserError(f"{Path(path).name} has {len(reader)} frames; a clip to go on from has {OVERLAP}")
            return start_with_video(path, OVERLAP, self.size)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """The model is for one visitor; others wait."""
        with self._turn:
            yield


def _open(path: str) -> Reader:
    """A reader of an uploaded clip that is not too large."""
    name, bytes_ = Path(path).name, Path(path).stat().st_size
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise UserError(f"{name} is no video; these are: {', '.join(sorted(VIDEO_SUFFIXES))}")
    if bytes_ > UPLOAD_BYTES:
        raise UserError(f"{name} has {bytes_ / 2**20:.0f} MB; at most {UPLOAD_BYTES >> 20} are taken")
    found = known(path)
    if found.length > UPLOAD_FRAMES or found.height * found.width > UPLOAD_PIXELS:
        size = f"{found.length} frames of {found.width}x{found.height}"
        raise UserError(f"{name} has {size}; at most {UPLOAD_FRAMES} frames of {UPLOAD_PIXELS:,} pixels are taken")
    return open_video(path)


@contextmanager
def plain_names(path: str) -> Iterator[None]:
    """Errors name the file as the visitor knows it, not where the server put it."""
    try:
        yield
    except ValueError as error:
        said = str(error).replace(str(Path(path)), Path(path).name).replace(str(Path(path).parent), "")
        raise UserError(said) from None
    except OSError:
        raise UserError(f"{Path(path).name} cannot be read") from None
