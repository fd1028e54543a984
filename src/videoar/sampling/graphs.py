"""CUDA graphs: all the work of one latent frame as one launch, recorded once and replayed for every later clip.

A step of the sampler is hundreds of small kernels. Launched one by one they take longer on the CPU than on the GPU.

    graphs = FrameGraphs()
    for labels in many:
        sample = generate(generator, tokenizer, labels, graphs=graphs)    # the first call records, the others replay
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch

from videoar.errors import UserError
from videoar.generator.conditioning import pad_prefix
from videoar.generator.model import VideoAR
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest
from videoar.sampling.sampler import LatentSampler


class FrameGraphs:
    """Samplers whose frames are recorded, one for each shape and setting that was asked for.

    Each holds its own KV cache and intermediate tensors; the last `keep` that were used stay. Prompts are padded to a
    multiple of `PREFIX` tokens, so that any prompts share few shapes. Weights are read where they were when a sampler
    was recorded, so they may change in place, but not move.

    Args:
        keep: samplers, at least 1.

    Raises:
        ValueError: keep below 1.
    """

    PREFIX = 64

    def __init__(self, keep: int = 4) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.keep = keep
        self._samplers: dict[Hashable, LatentSampler] = {}  # the one used last is the last
        self._pool: Any = None

    def sampler(self, generator: VideoAR, asked: LatentRequest) -> LatentSampler:
        """A sampler that records, or one of before, restarted for this clip."""
        encoded = pad_prefix(generator.condition(asked.condition), self.PREFIX)
        asked = replace(asked, condition=encoded)
        given = 0 if asked.prefix is None else asked.prefix.shape[2]
        padded = encoded.lengths is not None
        shape = (id(generator), tuple(encoded.tokens.shape), padded)
        key = (*shape, asked.pyramid, asked.frames, asked.options, given)
        sampler = self._samplers.pop(key, None)
        if sampler is not None:
            sampler.restart(asked)
        else:
            while len(self._samplers) >= self.keep:  # before the new one takes its memory
                del self._samplers[next(iter(self._samplers))]
            sampler = sampler_of(generator)(generator, asked, self.record)
        self._samplers[key] = sampler
        return sampler

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        """Run once and record: (what replays it, its result, whose memory every replay overwrites).

        `run` is called twice. It must read and write tensors that stay, and never wait for the GPU.

        Raises:
            UserError: no CUDA device.
        """
        if not torch.cuda.is_available():
            raise UserError("CUDA graphs need a CUDA device")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()  # libraries take their workspaces now, as they must not while recording
        torch.cuda.current_stream().wait_stream(stream)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = run()
        graph.replay()
        return graph.replay, result
