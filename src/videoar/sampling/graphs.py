"""CUDA graphs: all the work of one latent frame as one launch, recorded once and replayed for every later clip.

A step of the sampler is hundreds of small kernels. Launched one by one they take longer on the CPU than on the GPU.

    graphs = FrameGraphs()
    for labels in many:
        sample = generate(generator, tokenizer, labels, graphs=graphs)    # the first call records, the others replay
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from videoar.bits.pyramid import ScalePyramid
from videoar.errors import UserError
from videoar.generator.model import Labels, VideoAR
from videoar.sampling.raster import sampler_of
from videoar.sampling.sampler import LatentSampler, Progress, SamplingOptions


class FrameGraphs:
    """Samplers whose frames are recorded, one for each shape and setting that was asked for.

    Each holds its own KV cache and intermediate tensors. Weights are read where they were when it was recorded, so they
    may change in place, but not move.
    """

    def __init__(self) -> None:
        self._samplers: dict[Hashable, LatentSampler] = {}
        self._pool: Any = None

    def sampler(
        self,
        generator: VideoAR,
        condition: Labels,
        pyramid: ScalePyramid,
        frames: int,
        seeds: Sequence[int],
        options: SamplingOptions,
        prefix: Tensor | None = None,
        progress: Progress | None = None,
    ) -> LatentSampler:
        """A sampler that records, or one of before, restarted for this clip; arguments as of `LatentSampler`."""
        encoded = generator.condition(condition)
        given = 0 if prefix is None else prefix.shape[2]
        padded = encoded.lengths is not None
        key = (id(generator), tuple(encoded.tokens.shape), padded, pyramid, frames, options, given)
        if key in self._samplers:
            self._samplers[key].restart(encoded, seeds, prefix, progress)
        else:
            self._samplers[key] = sampler_of(generator)(
                generator, encoded, pyramid, frames, seeds, options, prefix, progress, self.record
            )
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
