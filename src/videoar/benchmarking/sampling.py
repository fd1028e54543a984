"""Sampling as a benchmark: the (t, k) loop alone, and whole clips, plain or by a fast path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from videoar.benchmarking.measure import Case, count_flops
from videoar.benchmarking.setting import CLASSES, Setting
from videoar.benchmarking.timing import Workload, nbytes
from videoar.generator.model import VideoAR
from videoar.sampling.generate import generate
from videoar.sampling.graphs import FrameGraphs
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.tokenizer.model import VideoTokenizer


def sampling_cases(s: Setting, compiled: bool = False, graphs: bool = False) -> Iterator[Case]:
    """A whole clip: the (t, k) loop alone, and with decoding; guided as the setting says. Plain, also what VideoAR
    improves on: the loop of a next-token model of the same size.

    Args:
        compiled: fuse the blocks of a step with torch.compile. graphs: replay CUDA graphs.
    """
    way = "".join(["_compiled"] * compiled + ["_graphs"] * graphs)
    yield from _cases(s, {f"latents{way}": "latents", f"clip{way}": "clip"}, compiled, graphs)
    if not way:
        yield from _cases(replace(s, order="raster"), {"raster": "latents"})


def _cases(s: Setting, jobs: dict[str, str], compiled: bool = False, graphs: bool = False) -> Iterator[Case]:
    """Cases by name, each a method of `Sampling`."""
    model, tokenizer = s.generator(s.dtype).eval(), s.tokenizer(s.dtype).eval()
    job = Sampling(s, model, tokenizer, FrameGraphs() if graphs else None)
    counted = Sampling(s.meta, s.meta.generator(s.dtype), s.meta.tokenizer(s.dtype))
    if compiled:
        model.compile_steps()
    detail = f"{s.shapes}, {s.steps} steps, {s.tokens // s.batch} tokens, guidance {s.guidance}"
    for name, part in jobs.items():
        moved = _least_bytes(s, model.blocks) + (nbytes(*tokenizer.decoder.parameters()) if part == "clip" else 0)
        load = Workload(name, getattr(job, part), count_flops(getattr(counted, part)), moved, detail)
        yield Case("sampling", load, "clips", s.batch, s.dtype)


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
        make = sampler_of(self.model) if self.graphs is None else self.graphs.sampler
        sampler = make(self.model, LatentRequest(self.labels, s.pyramid, s.latent_frames, range(s.batch), self.options))
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
    ends = [t * pyramid.length + part.stop for t in range(s.latent_frames) for part in pyramid.steps(s.order)]
    element = torch.empty(0, dtype=s.dtype).element_size()
    return s.steps * nbytes(*blocks.parameters()) + 2 * rows * config.width * config.depth * element * sum(ends)
