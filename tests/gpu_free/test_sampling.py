"""The sampling loop on the fake GPU: dtypes, and a host that waits for nothing."""

from contextlib import nullcontext

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.kernels.linear import Turned, plain
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions

GUIDED = SamplingOptions(Guidance("ucf101", prefix_strength=0.5))
SCALES, LOW = ScalePyramid(((1, 1), (2, 2), (3, 4))), torch.bfloat16


@pytest.mark.parametrize("way", ["autocast", "bfloat16"])
@pytest.mark.parametrize(("condition", "order"), [("class", "scales"), ("bytes", "scales"), ("class", "raster")])
@torch.no_grad()
def test_the_loop_never_waits_and_keeps_bfloat16(gpu, condition, order, way):
    values = [0, 3] if condition == "class" else ["a", "bird"]
    pyramid = SCALES if order == "scales" else ScalePyramid(((2, 3),))
    dtypes, original = set(), torch.nn.functional.scaled_dot_product_attention

    def seen(q, k, v, **rest):
        dtypes.update((q.dtype, k.dtype, v.dtype))
        return original(q, k, v, **rest)

    with gpu() as it, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
        torch.set_default_dtype(LOW if way == "bfloat16" else torch.float32)
        try:
            with torch.device("cuda"):
                model = VideoAR(GeneratorConfig.preset("debug", condition=condition, window=1, order=order)).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        with torch.autocast("cuda", LOW) if way == "autocast" else nullcontext():
            prefix = torch.zeros(2, model.config.latent_dim, 1, *pyramid.full, device="cuda")
            asked = LatentRequest(values, pyramid, 4, [0, 1], GUIDED, prefix)
            sampler = sampler_of(model)(model, asked)
            frames = list(sampler.frames())
            sampler.restart(asked)
            list(sampler.frames())
    assert it.waits == [] and len(frames) == 4 and all(bits.is_cuda for bits in frames[-1].bits)
    assert dtypes == {LOW} and {key.dtype for key in sampler.cache.keys} == {LOW}
    assert sampler.cache.linear is plain if way == "autocast" else isinstance(sampler.cache.linear, Turned)
