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
from videoar.generator.model import VideoAR
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest
from videoar.sampling.sampler import LatentSampler


class FrameGraphs:
    """Samplers whose frames are recorded, one for each shape and setting that was asked for.

    Each holds its own KV cache and intermediate tensors. Weights are read where they were when it was recorded, so they
    may change in place, but not move.
    """

    def __init__(self) -> None:
        self._samplers: dict[Hashable, LatentSampler] = {}
        self._pool: Any = None

    def sampler(self, generator: VideoAR, asked: LatentRequest) -> LatentSampler:
        """A sampler that records, or one of before, restarted for this clip."""
        encoded = generator.condition(asked.condition)
        asked = replace(asked, condition=encoded)
        given = 0 if asked.prefix is None else asked.prefix.shape[2]
        padded = encoded.lengths is not None
        shape = (id(generator), tuple(encoded.tokens.shape), padded)
        key = (*shape, asked.pyramid, asked.frames, asked.options, given)
        if key in self._samplers:
            self._samplers[key].restart(asked)
        else:
            self._samplers[key] = sampler_of(generator)(generator, asked, self.record)
        return self._samplers[key]

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
