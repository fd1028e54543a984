"""Generators in raster order are sampled by the same functions, one call a token."""

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, TokenizerConfig, VideoAR, VideoTokenizer, generate
from videoar.bits.bsq import code_of
from videoar.bits.corruption import teacher_forcing
from videoar.bits.residual import flatten_bits, quantize
from videoar.errors import UserError
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import RasterSampler
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.sampling.sampler import LatentSampler

SIZE, GRID = (32, 48), ScalePyramid(((2, 3),))  # the debug tokenizer's ratio is 16
LENGTH = 6


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    config = TokenizerConfig.preset("debug")
    config.scales = [[2, 3]]
    return VideoTokenizer(config).eval()


@pytest.fixture(scope="module")
def generator(tokenizer):
    torch.manual_seed(1)
    settings = {"num_classes": 4, "order": "raster", "tokenizer_fingerprint": tokenizer.fingerprint()}
    model = VideoAR(GeneratorConfig.preset("debug", **settings)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def test_greedy_bits_are_those_of_teacher_forcing(generator, tokenizer):
    """What is sampled without randomness is what the model predicts when it is shown the sample."""
    calls = []
    sample = generate(
        generator, tokenizer, [1, 3], 17, SIZE, greedy=True, guidance="none", progress=lambda *a: calls.append(a)
    )
    assert sample.steps == 5 * LENGTH and calls[-1] == (30, 30)
    assert sample.video.shape == (2, 3, 17, *SIZE) and [b.shape for b in sample.bits] == [(2, 5, 2, 3, 16)]
    bits = flatten_bits(sample.bits)
    lesson = teacher_forcing(code_of(sample.bits[0]).movedim(-1, 1), GRID, order="raster")
    assert torch.equal(lesson.targets, bits)
    with torch.no_grad():
        logits = generator(lesson.tokens, [1, 3], GRID, 5)
    assert torch.equal(logits > 0, bits)
    assert 0.2 < bits.float().mean() < 0.8


@pytest.mark.parametrize("guidance", ["ucf101", "none", Guidance("constant", end=2.0, prefix_strength=0.7)])
def test_a_seed_fixes_the_sample_whatever_the_batch(generator, tokenizer, guidance):
    together = generate(generator, tokenizer, [0, 1, 2], 9, SIZE, seed=3, guidance=guidance)
    alone = generate(generator, tokenizer, [2], 9, SIZE, seed=5, guidance=guidance)
    other = generate(generator, tokenizer, [2], 9, SIZE, seed=6, guidance=guidance)
    assert torch.equal(flatten_bits(together.bits)[2], flatten_bits(alone.bits)[0])
    assert not torch.equal(flatten_bits(other.bits), flatten_bits(alone.bits))


def test_guidance_is_what_two_passes_give(generator, tokenizer):
    sample = generate(generator, tokenizer, [2], 9, SIZE, greedy=True, guidance=3.0)
    plain = generate(generator, tokenizer, [2], 9, SIZE, greedy=True, guidance="none")
    lesson = teacher_forcing(code_of(sample.bits[0]).movedim(-1, 1), GRID, order="raster")
    with torch.no_grad():
        shown, null = (generator(lesson.tokens, c, GRID, 3) for c in ([2], generator.null(1)))
    assert torch.equal(null + 3 * (shown - null) > 0, flatten_bits(sample.bits))
    assert not torch.equal(flatten_bits(plain.bits), flatten_bits(sample.bits))


def test_a_given_clip_is_continued(generator, tokenizer):
    """Given frames take a call each and come back as the tokenizer's bits; what follows depends on them."""
    clip = torch.rand(3, 5, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    options = {"seed": 1, "guidance": "none", "greedy": True}
    sample = generate(generator, tokenizer, [0], 13, SIZE, prefix=clip, **options)
    assert sample.steps == 2 + 2 * LENGTH
    given = quantize(tokenizer.encode(clip[None]), GRID).bits[0]
    assert torch.equal(sample.bits[0][:, :2], given)
    lesson = teacher_forcing(code_of(sample.bits[0]).movedim(-1, 1), GRID, order="raster")
    with torch.no_grad():
        logits = generator(lesson.tokens, [0], GRID, 4)
    assert torch.equal((logits > 0)[:, 2 * LENGTH :], flatten_bits(sample.bits)[:, 2 * LENGTH :])


def test_a_tokenizer_with_several_scales_is_refused(generator, tokenizer):
    several = VideoTokenizer(TokenizerConfig.preset("debug")).eval()
    model = VideoAR(GeneratorConfig.preset("debug", num_classes=4, order="raster")).eval()
    with pytest.raises(UserError, match="this pyramid has 2 scales"):
        generate(model, several, [0], 5, SIZE)
    with pytest.raises(ValueError, match="RasterSampler samples order raster, not scales"):
        RasterSampler(VideoAR(GeneratorConfig.preset("debug")), LatentRequest([0], GRID, 2, [0], SamplingOptions()))
    with pytest.raises(ValueError, match=r"LatentSampler samples order scales, interleaved, .*, not raster"):
        LatentSampler(model, LatentRequest([0], GRID, 2, [0], SamplingOptions()))
