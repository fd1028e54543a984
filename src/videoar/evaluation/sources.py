"""Where the clips of an evaluation come from, as batches: pairs of files, generated files alone, or a model."""

# B batch · T frames · H W pixels

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videoar.evaluation.clips import Clip, read_clip, read_pair
from videoar.evaluation.folders import Skips, VideoFolder, pair_names, readable
from videoar.evaluation.models import ModelTwin
from videoar.evaluation.plan import Options
from videoar.evaluation.protocol import Protocol


@dataclass(frozen=True)
class Batch:
    """Clips of one shape and rate.

    Attributes:
        video: [B, 3, T, H, W] in [-1, 1], on the options' device.
        fps: their rate.
        names: their paths inside the folder.
        target: the real clips they should equal, or None.
    """

    video: Tensor
    fps: float
    names: list[str]
    target: Tensor | None = None


class Sources:
    """Reads batches under one protocol and keeps account of files that could not be used.

    Attributes:
        skips: one entry a pass.
    """

    def __init__(self, protocol: Protocol, options: Options) -> None:
        self.protocol, self.options = protocol, options
        self.skips: list[Skips] = []

    def files(self, folder: VideoFolder, real: bool) -> Iterator[Batch]:
        """The clips of one folder."""
        for (clips,) in self._joined(self._read(folder, real), len(folder.chosen(self.protocol)), real):
            yield Batch(*clips)

    def pairs(self, real: VideoFolder, fake: VideoFolder) -> Iterator[Batch]:
        """Generated clips with the real ones of the same name."""
        twins = {generated: original for original, generated in pair_names(real.names, fake.names)}
        items = [(twins[name], name) for name in fake.chosen(self.protocol)]
        skips = self._pass(len(items))
        clips = readable(items, lambda pair: read_pair(real, fake, pair, self.protocol, self.options.backend), skips)
        for target, generated in self._joined(clips, len(items), False):
            yield Batch(*generated, target[0])

    def model(self, real: VideoFolder, twin: ModelTwin) -> Iterator[Batch]:
        """Real clips with their reconstructions."""
        for ((target, fps, names),) in self._joined(self._read(real, True), len(real.chosen(self.protocol)), True):
            yield Batch(twin(target, names), fps, names, target)

    def skipped(self) -> dict[str, str]:
        """File → reason, of all passes."""
        return {name: reason for skips in self.skips for name, reason in skips.reasons.items()}

    def _pass(self, expected: int) -> Skips:
        self.skips.append(Skips(expected, self.options.max_skipped))
        return self.skips[-1]

    def _read(self, folder: VideoFolder, real: bool) -> Iterator[tuple[Clip]]:
        names = folder.chosen(self.protocol)
        skips = self._pass(len(names))
        backend = self.options.backend
        for clip in readable(names, lambda name: read_clip(folder, name, self.protocol, real, backend), skips):
            yield (clip,)

    def _joined(
        self, clips: Iterable[tuple[Clip, ...]], total: int, real: bool
    ) -> Iterator[tuple[tuple[Tensor, float, list[str]], ...]]:
        """One (video, fps, names) for each member of the tuples, batched."""
        done, device = 0, torch.device(self.options.device)
        for group in _grouped(clips, self.options.batch):
            yield tuple(
                (torch.cat([c.video for c in side]).to(device), side[0].fps, [c.name for c in side])
                for side in zip(*group)
            )
            done += len(group)
            bad = len(self.skips[-1].reasons) if self.skips else 0
            self.options.progress("real videos" if real else "generated videos", done + bad, total)


def _grouped(clips: Iterable[tuple[Clip, ...]], size: int) -> Iterator[list[tuple[Clip, ...]]]:
    """Neighbouring clips of equal shape and rate, at most `size` together."""
    group: list[tuple[Clip, ...]] = []
    for item in clips:
        if group and (len(group) == size or _kind(item) != _kind(group[0])):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _kind(item: Sequence[Clip]) -> list[tuple[torch.Size, float]]:
    return [(clip.video.shape, clip.fps) for clip in item]
