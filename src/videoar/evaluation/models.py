"""A model measured on real clips in memory: reconstructions without a codec's loss, bit usage, bit accuracy."""

# B batch · T frames · D bits per token

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from videoar.bits.pyramid import ScalePyramid
from videoar.data.folders import class_in
from videoar.errors import UserError
from videoar.evaluation.protocol import Protocol
from videoar.generator.conditioning import batch_condition
from videoar.generator.model import VideoAR
from videoar.metrics.bits import BitAccuracy, CodebookUsage
from videoar.pretrained import shipped_model
from videoar.sampling.given import latent_frames
from videoar.sampling.request import Request
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.checkpoint import load_models, load_tokenizer, model_place, read_checkpoint

DEFAULT_SIZE = (128, 128)
"""Of clips for a tokenizer alone."""


class ModelTwin:
    """Gives every real clip its reconstruction, and watches the bits on the way.

    Args:
        tokenizer: eval mode.
        generator: also measures teacher-forced bit accuracy, without corruption. A clip's class is the first
            folder of its path that is called like one; clips of no known class get the null condition (always so for
            text conditions).
        name: what reports call the model.
    """

    def __init__(self, tokenizer: VideoTokenizer, generator: VideoAR | None = None, name: str = "model") -> None:
        self.tokenizer, self.generator, self.path = tokenizer, generator, name
        self.usage: CodebookUsage | None = None
        self.accuracy: BitAccuracy | None = None
        self.unlabelled = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the generator was trained at; a tokenizer alone knows none."""
        return self.generator.config.size if self.generator is not None else DEFAULT_SIZE

    def filled(self, protocol: Protocol) -> Protocol:
        """The protocol with a length and a size of clips where it leaves them open: what `generate` makes.

        Raises:
            UserError: it takes a number of frames that cannot be encoded.
        """
        protocol = protocol.shaped(Request.frames, self.size)
        latent_frames(self.tokenizer, protocol.frames or 0)
        return protocol

    @torch.no_grad()
    def __call__(self, video: Tensor, names: Sequence[str]) -> Tensor:
        """The reconstructions [B, 3, T, H, W] of real clips; `names` are their paths inside the folder."""
        self.tokenizer.to(video.device)
        latent = self.tokenizer.encode(video)
        codes = self.tokenizer.quantize(latent)
        if self.usage is None:
            self.usage = CodebookUsage(len(codes.pyramid), latent.shape[1]).to(video.device)
        self.usage.update(codes.bits)
        if self.generator is not None:
            self._teach(self.generator.to(video.device), latent, codes.pyramid, names)
        return self.tokenizer.decode(codes.latent).float()

    def _teach(self, generator: VideoAR, latent: Tensor, pyramid: ScalePyramid, names: Sequence[str]) -> None:
        frames = latent.shape[2]
        if self.accuracy is None or self.accuracy.pyramid != pyramid:
            if self.accuracy is not None:
                raise UserError("bit accuracy needs clips of one size; set size in the protocol")
            self.accuracy = BitAccuracy(pyramid, frames, latent.shape[1]).to(latent.device)
        lesson = generator.lesson(latent, pyramid)
        known = list(generator.config.class_names or ())
        found = [class_in(PurePosixPath(name), known) for name in names]
        labels = [known.index(label) if label is not None else -1 for label in found]
        self.unlabelled += labels.count(-1)
        condition = batch_condition(generator, {"label": torch.tensor(labels), "caption": [""] * len(labels)})
        logits = generator(lesson.tokens, condition, pyramid, frames, bits=lesson.targets)
        self.accuracy.update(logits, lesson.targets)

    def values(self) -> dict[str, float]:
        """What was seen: `bit_usage/…`, and with a generator `accuracy/…`."""
        out = self.usage.compute().scalars("bit_usage/") if self.usage else {}
        return out | (self.accuracy.compute().scalars("accuracy/") if self.accuracy else {})

    def card(self) -> dict[str, Any]:
        """What a protocol card says about the model."""
        card: dict[str, Any] = {"model": self.path, "tokenizer": self.tokenizer.fingerprint()}
        if self.generator is not None:
            card |= {"generator": self.generator.fingerprint(), "clips_without_class": self.unlabelled}
        return card


def load_twin(path: str | Path) -> ModelTwin:
    """The tokenizer of a checkpoint, a folder or a name, with the generator if it holds one.

    Raises:
        UserError: the path is missing, broken, or holds no tokenizer.
    """
    place = shipped_model(str(path)) or model_place(path)
    if place.is_file():
        has_generator = read_checkpoint(place, mmap=True).get("videoar", {}).get("kind") == "generator"
    else:
        has_generator = (place / "generator").is_dir()
    if not has_generator:
        return ModelTwin(load_tokenizer(path), name=str(path))
    generator, tokenizer = load_models(path)
    return ModelTwin(tokenizer, generator, str(path))
