"""Bits of a token drawn in groups: each told the groups before, none told itself or what comes after."""

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.bits.bsq import code_of
from videoar.bits.residual import flatten_bits, quantize
from videoar.generator.head import BitHead, make_head
from videoar.losses.bitwise import bitwise_loss
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.sampling.sampler import LatentSampler

D, G = 8, 4


def _head():
    torch.manual_seed(0)
    head = make_head(48, D, G)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


@torch.no_grad()
def test_groups_one_by_one_give_the_logits_of_all_at_once():
    head, x, bits = _head(), torch.randn(2, 5, 48), torch.rand(2, 5, D) > 0.5
    state = head.begin(x)
    parts = [head.group(state, bits[..., : part.start], g) for g, part in enumerate(head.parts)]
    assert torch.allclose(torch.cat(parts, dim=-1), head(x, bits), atol=1e-5)
    with pytest.raises(ValueError, match="needs the true bits"):
        head(x)


@torch.no_grad()
def test_a_bit_moves_the_logits_of_later_groups_only():
    head, x, bits = _head(), torch.randn(1, 1, 48), torch.rand(1, 1, D) > 0.5
    before = head(x, bits)
    for bit in range(D):
        edited = bits.clone()
        edited[..., bit] ^= True
        moved = (head(x, edited) - before).abs()[0, 0] > 0
        later = torch.arange(D) // (D // G) > bit // (D // G)
        assert torch.equal(moved, later)


def test_one_group_is_the_plain_head_and_bad_groups_are_refused():
    assert isinstance(VideoAR(GeneratorConfig.preset("debug")).head, BitHead)
    with pytest.raises(ValueError, match="does not divide the 16 bits"):
        GeneratorConfig.preset("debug", bit_groups=3)


@pytest.mark.parametrize(("order", "groups"), [("scales", G), ("raster", G), ("interleaved", G), ("interleaved", 1)])
@torch.no_grad()
def test_sampled_bits_are_the_likely_ones_of_teacher_forcing(make_generator, contexts_of, order, groups):
    """Greedy and guided, with a given frame: what the sampler draws group by group is what the whole pass says."""
    pyramid = ScalePyramid(((3, 4),) if order == "raster" else ((1, 1), (2, 2), (5, 6)))
    model = make_generator(bit_groups=groups, order=order)
    options = SamplingOptions(Guidance.of(2.0), greedy=True)
    given = torch.randn(2, D, 1, *pyramid.full)
    frames = list(sampler_of(model)(model, LatentRequest([0, 3], pyramid, 3, [0, 1], options, given)).frames())
    latent = torch.cat([frame.latent for frame in frames], dim=2)
    bits = tuple(torch.cat(scale, dim=1) for scale in zip(*(frame.bits for frame in frames)))
    if order == "raster":
        tokens, flat = model.lesson(latent, pyramid).tokens, flatten_bits(bits)
    else:
        tokens, flat = contexts_of([code_of(scale) for scale in bits], pyramid, order=order)
    shown = model(tokens, [0, 3], pyramid, 3, bits=flat)
    null = model(tokens, model.null(2), pyramid, 3, bits=flat)
    guided = null + 2.0 * (shown - null)
    sampled = slice(pyramid.length, None)
    assert torch.equal((guided > 0)[:, sampled], flat[:, sampled])


def test_groups_learn_bits_that_go_together():
    """Eight bits that are all equal, heads or tails: alone each is a coin, in groups only the first is."""
    pyramid, losses = ScalePyramid(((2, 2),)), {}
    for groups in (1, D):
        torch.manual_seed(0)
        model = VideoAR(GeneratorConfig(latent_dim=D, width=32, depth=1, heads=2, num_classes=1, bit_groups=groups))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(80):
            latent = (torch.rand(16, 1, 1, 2, 2) > 0.5).float().expand(-1, D, -1, -1, -1) - 0.5
            lesson = model.lesson(latent, pyramid)
            logits = model(lesson.tokens, [0] * 16, pyramid, 1, bits=lesson.targets)
            loss = bitwise_loss(logits, lesson.targets, pyramid, 1).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[groups] = loss.item()
    assert losses[1] > 0.6, "no bit of a token says anything of another"
    assert losses[D] < 0.3, "all but the first group know"
    model.eval().requires_grad_(False)
    options = SamplingOptions(Guidance.of("none"))
    frame = next(LatentSampler(model, LatentRequest([0] * 16, pyramid, 1, range(16), options)).frames())
    drawn = quantize(frame.latent, pyramid).bits[0].flatten(0, -2)
    assert (drawn == drawn[:, :1]).float().mean() > 0.95
    assert 0.2 < drawn.float().mean() < 0.8
