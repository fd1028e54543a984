"""Raster order: every token of a one-grid frame is predicted alone, from all tokens before it."""

import itertools

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid
from videoar.bits.bsq import code_of
from videoar.bits.corruption import CorruptionConfig, raster_forcing, teacher_forcing
from videoar.bits.residual import flatten_bits, quantize
from videoar.errors import UserError
from videoar.generator.attention import DenseAttend
from videoar.generator.conditioning import stack
from videoar.generator.flex import FlexAttend
from videoar.generator.visibility import SequenceIds, dense_mask

GRID = ScalePyramid(((2, 3),))
FRAMES, LENGTH = 4, 6
PROMPTS = ["a ball", "two paddles and a ball"]


@pytest.fixture
def lesson():
    latent = torch.randn(2, 8, FRAMES, 2, 3, generator=torch.Generator().manual_seed(0))
    return teacher_forcing(latent, GRID, order="raster")


def test_a_token_is_shown_the_one_before(lesson):
    latent = torch.randn(2, 8, FRAMES, 2, 3, generator=torch.Generator().manual_seed(0))
    bits = flatten_bits(quantize(latent, GRID).bits)
    assert torch.equal(lesson.targets, bits)
    assert not lesson.tokens[:, 0].any()
    assert torch.equal(lesson.tokens[:, 1:], code_of(bits)[:, :-1])


@pytest.mark.parametrize(
    ("window", "condition", "guided"), [*itertools.product([0, 1, 2], ["class", "bytes"], [False, True])]
)
@torch.no_grad()
def test_teacher_forcing_equals_a_call_a_token(make_generator, lesson, window, condition, guided):
    """Also when the first two frames are given, in one call each."""
    model = make_generator(order="raster", condition=condition, window=window, sinks=min(1, window))
    encoded, tokens = model.condition([0, 3] if condition == "class" else PROMPTS), lesson.tokens
    if guided:
        encoded, tokens = stack([encoded, model.null(2)]), tokens.repeat(2, 1, 1)
    forced = model(tokens, encoded, GRID, FRAMES)
    for given in (0, 2):
        cache, parts = model.new_cache(encoded, GRID, FRAMES), []
        for t, frame in enumerate(tokens.split(LENGTH, dim=1)):
            for inside in [slice(0, LENGTH)] if t < given else model.steps(GRID):
                parts.append(model.head(model.step(frame[:, inside], encoded, cache, GRID, t, inside)))
        cached = torch.cat(parts, dim=1)
        assert len(parts) == given + (FRAMES - given) * LENGTH
        assert torch.allclose(forced, cached, atol=2e-5), (forced - cached).abs().max()


@torch.no_grad()
def test_a_bit_changes_no_logit_of_its_own_token_or_before(make_generator, lesson):
    """Bits of token i reach the logits of i + 1 on, in its frame and beyond; the window hides what is older."""
    model = make_generator(order="raster", depth=1, window=1)
    before = model(lesson.tokens, [0, 1], GRID, FRAMES)
    for i in (0, 1, LENGTH - 1, LENGTH, 2 * LENGTH + 3):
        tokens = lesson.tokens.clone()
        tokens[:, i + 1] *= -1  # what token i + 1 is shown of token i
        moved = (model(tokens, [0, 1], GRID, FRAMES) != before).any(-1).any(0)
        shown_in = (i + 1) // LENGTH  # a frame sees itself and one before
        expected = [j > i and j // LENGTH <= shown_in + 1 for j in range(FRAMES * LENGTH)]
        assert moved.tolist() == expected


def test_flex_equals_dense():
    ids = SequenceIds.build(GRID, FRAMES, 3, order="raster")
    q, k, v = torch.randn(3, 2, 2, len(ids.frame), 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = FlexAttend(ids, batch=2, window=2).set(None, None)(0, q, k, v)
    mask = dense_mask(ids, ids, 2)
    assert torch.equal(mask[0, 0, 3 : 3 + LENGTH, 3 : 3 + LENGTH], torch.ones(LENGTH, LENGTH).tril().bool())
    assert torch.allclose(ours, DenseAttend(mask)(0, q, k, v), atol=1e-5)


def test_clear_errors(make_generator, pyramid):
    model, latent = make_generator(order="raster"), torch.randn(1, 8, 2, 3, 4)
    with pytest.raises(UserError, match="has 3 scales"):
        model(torch.zeros(1, 2 * pyramid.length, 8), [0], pyramid, 2)
    with pytest.raises(UserError, match="has 3 scales"):
        raster_forcing(latent, pyramid)
    with pytest.raises(UserError, match=r"corruption\.mode off, not inheritance"):
        raster_forcing(latent, ScalePyramid(((3, 4),)), CorruptionConfig())
    with pytest.raises(ValueError, match="order 'rows' is not one of scales, interleaved, interleaved_from_4, raster"):
        GeneratorConfig(order="rows")
