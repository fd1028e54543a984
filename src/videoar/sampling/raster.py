"""Sampling the next-token baseline (`GeneratorConfig.order: raster`): one transformer call a token, row by row."""

# B samples · R rows of a call · D bits · n tokens of a frame

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from videoar.bits.pyramid import Order
from videoar.generator.model import VideoAR
from videoar.sampling.guidance import guidance_scale
from videoar.sampling.sampler import LatentSampler


class RasterSampler(LatentSampler):
    """LatentSampler for generators in raster order; a frame of n tokens takes n calls.

    Guidance schedules run over the tokens of a frame as they do over its scales. The temperature is the first one.
    """

    orders: ClassVar[tuple[Order, ...]] = ("raster",)

    def _sample_frame(self, t: int, count: Callable[[], None] | None = None) -> tuple[Tensor, ...]:
        """All tokens of frame t; each call is shown the code of the token before, as `raster_forcing` does."""
        options, sampled, codes = self.options, [], []
        code = self.previous[..., -1, -1].mT  # [R, 1, D]; the generator puts its start token for the first of all
        for i, inside in enumerate(self.calls):
            features = self._call(code, t, inside)
            scale = guidance_scale(options.guidance, t, i, self.total, len(self.calls))
            bits, code = self._draw(features, inside, scale, options.temperature_of(0))
            sampled.append(bits)
            codes.append(code)
            if count is not None:
                count()
        self.seen.copy_(torch.cat(codes, dim=1).mT.reshape(self.seen.shape))
        return (torch.cat(sampled, dim=1).unflatten(1, self.pyramid.full)[:, None],)


def sampler_of(generator: VideoAR) -> type[LatentSampler]:
    """The class that samples this generator."""
    return RasterSampler if generator.config.order == "raster" else LatentSampler
