"""Sampling one 17x128x128 clip (5 latent frames of 8x8): our 30 cached steps, the same without a cache, and raster
next-token decoding of the same latent grid with the same transformer.

    python -m pytest benchmarks/bench_sampling.py --benchmark-only                      # atari shape
    VIDEOAR_BENCH_PRESET=videoar-l VIDEOAR_BENCH_DTYPE=bfloat16 VIDEOAR_BENCH_ROUNDS=1 \
        python -m pytest benchmarks/bench_sampling.py -k plain                          # the paper's L: 2 GB, minutes

Weights are random: time does not depend on them. `extra_info` holds the transformer calls and tokens of each way.
"""

import os
from unittest.mock import patch

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.generator.conditioning import stack
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions

PRESET = os.environ.get("VIDEOAR_BENCH_PRESET", "atari")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = getattr(torch, os.environ.get("VIDEOAR_BENCH_DTYPE", "bfloat16" if DEVICE == "cuda" else "float32"))
ROUNDS = int(os.environ.get("VIDEOAR_BENCH_ROUNDS", "3" if DEVICE == "cuda" else "1"))
FRAMES, PYRAMID, RASTER = 5, ScalePyramid.default(8, 8), ScalePyramid(((8, 8),))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VideoAR(GeneratorConfig.preset(PRESET, num_classes=101)).to(DEVICE, DTYPE).eval()


def _synchronise():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _conditions(model, guided):
    condition = model.condition([7])
    return stack([condition, model.null(1)]) if guided else condition


@torch.inference_mode()
def next_frame_and_scale(model, guided, pyramid=PYRAMID):
    """Our sampler: one call for each (t, k)."""
    options = SamplingOptions(Guidance.of("ucf101" if guided else "none"))
    sampler = sampler_of(model)(model, LatentRequest([7], pyramid, FRAMES, [0], options))
    for _ in sampler.frames():
        pass
    _synchronise()
    return sampler.steps, FRAMES * pyramid.length


@torch.inference_mode()
def without_cache(model, guided):
    """The same (t, k) steps, each recomputing every token before it."""
    condition, steps = _conditions(model, guided), 0
    for t in range(FRAMES):
        tokens = torch.zeros(
            condition.batch, PYRAMID.sequence_length(t + 1), model.config.context_features, device=DEVICE, dtype=DTYPE
        )
        for _ in range(len(PYRAMID)):
            model(tokens, condition, PYRAMID, t + 1)
            steps += 1
    _synchronise()
    return steps, FRAMES * PYRAMID.length


def raster_next_token(model, guided):
    """One token a call in row-major order, same transformer and cache: the classic baseline."""
    with patch.object(model.config, "order", "raster"):
        return next_frame_and_scale(model, guided, RASTER)


@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
@pytest.mark.parametrize("way", [next_frame_and_scale, without_cache, raster_next_token], ids=lambda f: f.__name__)
def test_sampling(benchmark, model, way, guided):
    steps, tokens = benchmark.pedantic(way, args=(model, guided), rounds=ROUNDS, warmup_rounds=int(ROUNDS > 1))
    benchmark.extra_info.update(
        preset=PRESET, device=DEVICE, dtype=str(DTYPE), torch=torch.__version__, steps=steps, tokens=tokens
    )
