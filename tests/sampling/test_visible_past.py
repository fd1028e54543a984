"""Eq. 5: a frame is conditioned on all scales of all earlier frames it sees. Every bit must be able to get through."""

import itertools

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.bits.bsq import code_of
from videoar.bits.corruption import teacher_forcing
from videoar.bits.residual import flatten_bits, quantize
from videoar.sampling import sampler as sampling
from videoar.sampling.guidance import Guidance
from videoar.sampling.request import LatentRequest, SamplingOptions

PYRAMID = ScalePyramid(((1, 1), (2, 2), (5, 6)))
D, FRAMES = 8, 4
CASES = [
    ("every_scale", 0, "scales"),
    ("every_scale", 1, "scales"),
    ("every_scale", 2, "scales"),
    ("every_scale", 0, "interleaved"),
    ("every_scale", 1, "interleaved"),
    ("first_scale", 0, "scales"),
]


def _model(temporal, window, order="scales", depth=3):
    torch.manual_seed(0)
    settings = {"latent_dim": D, "width": 48, "depth": depth, "heads": 4, "num_classes": 2}
    model = VideoAR(GeneratorConfig(**settings, temporal_context=temporal, window=window, order=order)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.requires_grad_(False)


def _reached(contexts_of, temporal, window, order, depth, later):
    """Which bits [length, D] of frame 0 change some logit of frame `later` under teacher forcing."""
    bits = [torch.rand(1, FRAMES, h, w, D) > 0.5 for h, w in PYRAMID.grids]
    codes = [code_of(x).requires_grad_() for x in bits]
    tokens, _ = contexts_of(codes, PYRAMID, temporal, order)
    logits = _model(temporal, window, order, depth)(tokens, [1], PYRAMID, FRAMES)
    logits[:, later * PYRAMID.length : (later + 1) * PYRAMID.length].square().sum().backward()
    return flatten_bits(tuple(code.grad[:, :1] != 0 for code in codes))[0]


@pytest.mark.parametrize(("temporal", "window", "order"), CASES)
def test_every_bit_of_a_frame_reaches_the_next_under_teacher_forcing(contexts_of, temporal, window, order):
    reached = _reached(contexts_of, temporal, window, order, depth=3, later=1)
    assert reached[: PYRAMID.slices[-1].start].all()
    finest = reached[PYRAMID.slices[-1]]
    if temporal == "every_scale":
        assert finest.all()
    else:  # the paper's wording: what a resize to the first grid keeps, the two central cells of 5x6
        assert finest.all(dim=1).sum() == 2 and not finest.all()


@pytest.mark.parametrize("window", [1, 2])
def test_in_a_window_every_bit_of_every_shown_frame_is_reached(contexts_of, window):
    """One layer only, so that nothing comes through frames in between."""
    case = contexts_of, "every_scale", window, "scales"
    assert _reached(*case, depth=1, later=window).all()
    assert not _reached(*case, depth=1, later=window + 2).any()


@torch.no_grad()
@pytest.mark.parametrize(("temporal", "window", "order"), CASES)
def test_every_bit_of_a_frame_reaches_the_next_while_sampling(monkeypatch, temporal, window, order):
    """The sampler's own loop with its draws replaced: sample i has bit i of frame 0 flipped, the last has none."""
    flipped = torch.eye(PYRAMID.length * D).bool().unflatten(1, (PYRAMID.length, D))
    first = (torch.rand(PYRAMID.length, D) > 0.5) ^ torch.cat([flipped, torch.zeros_like(flipped[:1])])
    batch, logits, answers = len(first), [], [first[:, s] for s in PYRAMID.steps(order)]

    def draw(step_logits, *options):
        logits.append(step_logits)
        return answers.pop(0) if answers else torch.zeros_like(step_logits).bool()

    monkeypatch.setattr(sampling, "draw_bits", draw)
    options = SamplingOptions(Guidance.of("none"))
    model = _model(temporal, window, order)
    list(sampling.LatentSampler(model, LatentRequest([1] * batch, PYRAMID, 2, range(batch), options)).frames())
    second = torch.cat(logits[len(PYRAMID.steps(order)) :], dim=1)
    moved = (second[:-1] - second[-1:]).abs().amax((1, 2)).unflatten(0, (PYRAMID.length, D)) > 0
    if temporal == "every_scale":
        assert moved.all()
    else:
        assert moved[: PYRAMID.slices[-1].start].all() and not moved[PYRAMID.slices[-1]].all()


@pytest.mark.parametrize(
    ("temporal", "order"), [("first_scale", "scales"), ("every_scale", "scales"), ("every_scale", "interleaved")]
)
def test_the_contexts_here_are_those_of_training(contexts_of, temporal, order):
    latent = torch.randn(2, D, FRAMES, *PYRAMID.full)
    lesson, bits = teacher_forcing(latent, PYRAMID, temporal=temporal, order=order), quantize(latent, PYRAMID).bits
    tokens, flat = contexts_of([code_of(x) for x in bits], PYRAMID, temporal, order)
    assert torch.allclose(tokens, lesson.tokens, atol=1e-6) and torch.equal(flat, lesson.targets)


@torch.no_grad()
def test_every_bit_of_a_pass_reaches_the_next_pass(contexts_of):
    """Interleaved order: a bit of the finest scale's first pass moves some logit of its second."""
    bits = [torch.rand(1, 1, h, w, D) > 0.5 for h, w in PYRAMID.grids]
    first, second = PYRAMID.steps("interleaved")[-4:-2]
    model, (rows, columns) = _model("every_scale", 0, "interleaved"), PYRAMID.parts(2, "interleaved")[0]
    before = model(contexts_of([code_of(x) for x in bits], PYRAMID, order="interleaved")[0], [1], PYRAMID, 1)
    for place in itertools.product(range(5)[rows], range(6)[columns], range(D)):
        edited = bits[-1].clone()
        edited[0, 0][place] ^= True
        tokens, _ = contexts_of([code_of(x) for x in (*bits[:-1], edited)], PYRAMID, order="interleaved")
        moved = (model(tokens, [1], PYRAMID, 1) - before).abs().amax((0, 2)) > 0
        assert moved[second].any() and not moved[first].any()
