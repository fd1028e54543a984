"""Samples from items: decode only the frames of the clip, resize, crop; replace what cannot be read.

Everything random about a sample is a function of (seed, source, shape, position in the stream), never of the
worker that makes it. A sample holds uint8 pixels; the loader turns batches into [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from videoar.data.decoding import ClipDecoder, Decoded
from videoar.data.items import Item, SourceIndex, short_names
from videoar.data.latents import latent_captions, read_latent
from videoar.data.probe import UnreadableClip
from videoar.data.readers import read_image
from videoar.data.sampler import SampleRef
from videoar.data.shards import local_file
from videoar.data.transforms import TEMPORAL_MULTIPLE, clip_indices, crop, resize_to_cover
from videoar.errors import UserError
from videoar.ranges import AMOUNT, SECONDS, check_ranges

ATTEMPTS = 10


@dataclass
class Reading:
    """How clips are read and cut."""

    backend: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """Video reader. Files on which decord or torchcodec is not known to be right are read by PyAV all the same."""
    crop: Literal["random", "center"] = "center"
    """Where training clips are cut when their aspect ratio differs from the stage's."""
    start: Literal["random", "first"] = "random"
    """Which frames of a longer file training clips take."""
    flip: bool = False
    """Mirror every second training sample."""
    cache: bool = False
    """Keep decoded, resized clips in memory (once a worker): for data sets that fit there."""
    cache_gb: float = 4.0
    """Limit of the cache a worker; clips beyond it are decoded each time."""
    isolate: bool = False
    """Decode in a child process that is killed when it takes longer than `patience`; slower, for unchecked files."""
    patience: float = 30.0
    """Seconds before an isolated decoder is killed and its clip counts as unreadable."""

    def __post_init__(self) -> None:
        check_ranges(self, cache_gb=AMOUNT, patience=SECONDS)


class ClipDataset(Dataset):
    """`dataset[SampleRef] -> {"video" uint8 [3, T, h, w] | "latent" [D, T', h, w], "label", "caption", "path", …}`.

    The items of one split of several sources; only with `training` are they cut, mirrored and captioned at random. A
    sample that cannot be read is replaced by another of its source, or left empty where a certain clip of a file is
    wanted (`SampleRef.first`); what failed is in the sample's `faults`.
    """

    def __init__(
        self,
        sources: Sequence[SourceIndex],
        split: str,
        class_names: Sequence[str],
        stages: Sequence[Any],
        reading: Reading,
        seed: int = 0,
        training: bool = False,
    ) -> None:
        self.items: list[list[Item]] = [source.splits[split] for source in sources]
        self.kinds = [source.kind for source in sources]
        self.names = short_names([source.name for source in sources])
        self.numbers = {name: number for number, name in enumerate(class_names)}
        self.stages, self.reading, self.seed, self.training = stages, reading, seed, training
        self._decoder = ClipDecoder(reading.backend, reading.patience if reading.isolate else None)
        self._cache: dict[tuple[int, int, tuple[int, int]], Decoded] = {}
        self._cached_bytes = 0

    def __getitem__(self, ref: SampleRef) -> dict[str, Any]:
        faults: list[tuple[str, str]] = []
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([self.seed, ref.source, *ref.stream, attempt])
            number = ref.item if attempt == 0 else int(rng.integers(len(self.items[ref.source])))
            item = self.items[ref.source][number]
            try:
                sample = self._sample(item, number, ref, rng)
            except UnreadableClip as fault:
                faults.append((item.path, fault.reason))
                if ref.first is not None:
                    return {"source": ref.source, "faults": faults}
                continue
            return {**sample, **self._facts(item, ref, rng, sample), "source": ref.source, "faults": faults}
        path, reason = faults[-1]
        raise UserError(f"{ATTEMPTS} clips in a row cannot be used; the last one is {path}: {reason}")

    def _facts(self, item: Item, ref: SampleRef, rng: np.random.Generator, sample: dict[str, Any]) -> dict[str, Any]:
        captions = sample.pop("captions", ()) or item.captions or (item.caption,)
        chosen = int(rng.integers(len(captions))) if self.training else 0  # drawn last: it moves no cut
        label = -1 if item.label is None else self.numbers[item.label]
        facts = {"label": label, "caption": captions[chosen], "path": item.path}
        return facts if ref.first is None else facts | {"captions": captions, "first_frame": ref.first}

    def _sample(self, item: Item, number: int, ref: SampleRef, rng: np.random.Generator) -> dict[str, Any]:
        kind = self.kinds[ref.source]
        if kind == "latent":
            with local_file(item) as path:
                latent = _first_frames(read_latent(path), item, ref.frames)
                own = item.caption != (item.label or "")  # a text beside it, which goes before what it was made with
                return {"latent": latent, "captions": () if own else latent_captions(path)}
        random = self.training and self.reading.start == "random"
        where = rng.random(3) if random else np.array([0.0, *rng.random(2)])
        if not self.training or self.reading.crop == "center":
            where[1:] = 0.5
        frames = self._frames(item, number, ref, where[0])
        video = crop(frames, ref.size, (where[1], where[2]))
        if self.training and self.reading.flip and rng.random() < 0.5:
            video = video.flip(2)
        return {"video": video.permute(3, 0, 1, 2).contiguous()}

    def _frames(self, item: Item, number: int, ref: SampleRef, where: float) -> torch.Tensor:
        """The clip's frames, resized to cover the size, uint8 `[T, H, W, 3]`."""
        if self.kinds[ref.source] == "image":
            key = (ref.source, number, ref.size)
            if key not in self._cache:
                with local_file(item) as path:
                    decoded = Decoded(resize_to_cover(read_image(path), ref.size), 0.0)
                self._remember(key, decoded)
                return decoded.frames
            return self._cache[key].frames
        stage = self.stages[ref.stage]

        def pick(length: int, fps: float) -> np.ndarray:
            return clip_indices(length, ref.frames, stage.stride_for(fps), where, ref.first)

        if not self.reading.cache:
            return resize_to_cover(self._decoder.clip(item, pick).frames, ref.size)
        key = (ref.source, number, ref.size)
        if key not in self._cache:
            whole = self._decoder.clip(item, lambda length, fps: np.arange(length))
            decoded = Decoded(resize_to_cover(whole.frames, ref.size), whole.fps)
            self._remember(key, decoded)
        else:
            decoded = self._cache[key]
        try:
            return decoded.frames[pick(len(decoded.frames), decoded.fps)]
        except ValueError as error:
            raise UnreadableClip(item.path, error) from error

    def _remember(self, key: tuple[int, int, tuple[int, int]], decoded: Decoded) -> None:
        size = decoded.frames.numel()
        if self.reading.cache and self._cached_bytes + size <= self.reading.cache_gb * 1e9:
            self._cache[key] = decoded
            self._cached_bytes += size


def _first_frames(latent: torch.Tensor, item: Item, frames: int) -> torch.Tensor:
    """The latent frames of the first `frames` pixel frames; a latent cannot start later, its first frame is special."""
    need = 1 + (frames - 1) // TEMPORAL_MULTIPLE
    if latent.shape[1] < need:
        raise UnreadableClip(item.path, f"{latent.shape[1]} latent frames; clips of {frames} frames need {need}")
    return latent[:, :need]


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples of one shape -> a batch, without the empty ones; without clips if all are.

    Raises `UserError` if latents of different shapes meet.
    """
    accounts = {name: [sample[name] for sample in samples] for name in ("source", "faults")}
    samples = [sample for sample in samples if "path" in sample]
    if not samples:
        return accounts
    pixels = "video" if "video" in samples[0] else "latent"
    shapes = {tuple(sample[pixels].shape): sample["path"] for sample in samples}
    if len(shapes) > 1:
        raise UserError(f"clips of different shapes in one batch: {shapes}")
    names = ("caption", "path", "captions", "first_frame")
    return {
        pixels: torch.stack([sample[pixels] for sample in samples]),
        "label": torch.tensor([sample["label"] for sample in samples]),
        **{name: [sample[name] for sample in samples] for name in names if name in samples[0]},
        **accounts,
    }
