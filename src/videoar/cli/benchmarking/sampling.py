"""Sampling as a benchmark: the (t, k) loop alone, and whole clips, plain or by a fast path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from videoar.callbacks.kernel_timing import Workload, nbytes
from videoar.cli.benchmarking.measure import Case, count_flops
from videoar.cli.benchmarking.setting import CLASSES, Setting
from videoar.generator.model import VideoAR
from videoar.sampling.generate import generate
from videoar.sampling.graphs import FrameGraphs
from videoar.sampling.guidance import Guidance
from videoar.sampling.sampler import LatentSampler, SamplingOptions
from videoar.tokenizer.model import VideoTokenizer


def sampling_cases(s: Setting, compiled: bool = False, graphs: bool = False) -> Iterator[Case]:
    """A whole clip: the (t, k) loop alone, and with decoding; guided as the setting says.

    Args:
        compiled: fuse the blocks of a step with torch.compile. graphs: replay CUDA graphs.
    """
    model, tokenizer = s.generator(s.dtype).eval(), s.tokenizer(s.dtype).eval()
    moved = _least_bytes(s, model.blocks)
    job = Sampling(s, model, tokenizer, FrameGraphs() if graphs else None)
    counted = Sampling(s.meta, s.meta.generator(s.dtype), s.meta.tokenizer(s.dtype))
    if compiled:
        model.compile_steps()
    way = "".join(["_compiled"] * compiled + ["_graphs"] * graphs)
    detail = f"{s.shapes}, {s.steps} steps, {s.tokens // s.batch} tokens, guidance {s.guidance}"
    run: dict[str, tuple[Callable[[], object], Callable[[], object], int]] = {
        "latents": (job.latents, counted.latents, moved),
        "clip": (job.clip, counted.clip, moved + nbytes(*tokenizer.decoder.parameters())),
    }
    for name, (timed, twin, traffic) in run.items():
        yield Case(
            "sampling", Workload(name + way, timed, count_flops(twin), traffic, detail), "clips", s.batch, s.dtype
        )


@dataclass
class Sampling:
    """What is timed."""

    setting: Setting
    model: VideoAR
    tokenizer: VideoTokenizer
    graphs: FrameGraphs | None = None

    def __post_init__(self) -> None:
        self.labels = [n % CLASSES for n in range(self.setting.batch)]
        self.options = SamplingOptions(Guidance.of(self.setting.guidance))

    def latents(self) -> object:
        """The (t, k) loop."""
        s = self.setting
        make = LatentSampler if self.graphs is None else self.graphs.sampler
        sampler = make(self.model, self.labels, s.pyramid, s.latent_frames, range(s.batch), self.options)
        return [frame.latent for frame in sampler.frames()]

    def clip(self) -> object:
        """The (t, k) loop and decoding."""
        s = self.setting
        sample = partial(generate, self.model, self.tokenizer, self.labels, s.frames, s.size, graphs=self.graphs)
        return sample(guidance=self.options.guidance)


def _least_bytes(s: Setting, blocks: nn.Module) -> int:
    """Weights once a step, and all visible keys and values of every step."""
    pyramid, config = s.pyramid, s.generator_config
    rows = s.batch * (2 if Guidance.of(s.guidance).guided else 1)
    ends = [t * pyramid.length + part.stop for t in range(s.latent_frames) for part in pyramid.slices]
    element = torch.empty(0, dtype=s.dtype).element_size()
    return s.steps * nbytes(*blocks.parameters()) + 2 * rows * config.width * config.depth * element * sum(ends)
