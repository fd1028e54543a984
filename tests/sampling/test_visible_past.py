"""Eq. 5: a frame is conditioned on all scales of all earlier frames it sees. Every bit must be able to get through."""

import pytest
import torch

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.bits.bsq import code_of
from videoar.bits.corruption import teacher_forcing
from videoar.bits.residual import advance, context, flatten_bits
from videoar.sampling import sampler as sampling
from videoar.sampling.guidance import Guidance
from videoar.sampling.request import LatentRequest, SamplingOptions

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 4)))
D, FRAMES = 8, 4
CASES = [("every_scale", 0), ("every_scale", 1), ("every_scale", 2), ("first_scale", 0)]


def _model(temporal, window, depth=3):
    torch.manual_seed(0)
    settings = {"latent_dim": D, "width": 48, "depth": depth, "heads": 4, "num_classes": 2}
    model = VideoAR(GeneratorConfig(**settings, temporal_context=temporal, window=window)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.requires_grad_(False)


def _contexts(codes, temporal):
    """Codes [B, T, h, w, D] of every scale → contexts [B, L, F], differentiable in the codes."""
    B, T = codes[0].shape[:2]
    tokens, previous = [], torch.zeros(B, D, 1, *PYRAMID.full)
    for t in range(T):
        seen = torch.zeros_like(previous)
        for k in range(len(PYRAMID)):
            tokens.append(context(seen, previous, PYRAMID, k, temporal).flatten(2).mT)
            seen = advance(seen, codes[k][:, t : t + 1].movedim(-1, 1), PYRAMID)
        previous = seen
    return torch.cat(tokens, dim=1)


def _reached(temporal, window, depth, later):
    """Which bits [length, D] of frame 0 change some logit of frame `later` under teacher forcing."""
    bits = [torch.rand(1, FRAMES, h, w, D) > 0.5 for h, w in PYRAMID.grids]
    codes = [code_of(x).requires_grad_() for x in bits]
    logits = _model(temporal, window, depth)(_contexts(codes, temporal), [1], PYRAMID, FRAMES)
    logits[:, later * PYRAMID.length : (later + 1) * PYRAMID.length].square().sum().backward()
    return flatten_bits(tuple(code.grad[:, :1] != 0 for code in codes))[0]


@pytest.mark.parametrize(("temporal", "window"), CASES)
def test_every_bit_of_a_frame_reaches_the_next_under_teacher_forcing(temporal, window):
    reached = _reached(temporal, window, depth=3, later=1)
    assert reached[: PYRAMID.slices[-1].start].all()
    finest = reached[PYRAMID.slices[-1]]
    if temporal == "every_scale":
        assert finest.all()
    else:  # the paper's wording: what a resize to the first grid keeps, the two central cells of 3x4
        assert finest.all(dim=1).sum() == 2 and not finest.all()


@pytest.mark.parametrize("window", [1, 2])
def test_in_a_window_every_bit_of_every_shown_frame_is_reached(window):
    """One layer only, so that nothing comes through frames in between."""
    assert _reached("every_scale", window, depth=1, later=window).all()
    assert not _reached("every_scale", window, depth=1, later=window + 2).any()


@torch.no_grad()
@pytest.mark.parametrize(("temporal", "window"), CASES)
def test_every_bit_of_a_frame_reaches_the_next_while_sampling(monkeypatch, temporal, window):
    """The sampler's own loop with its draws replaced: sample i has bit i of frame 0 flipped, the last has none."""
    flipped = torch.eye(PYRAMID.length * D).bool().unflatten(1, (PYRAMID.length, D))
    first = (torch.rand(PYRAMID.length, D) > 0.5) ^ torch.cat([flipped, torch.zeros_like(flipped[:1])])
    batch, logits, answers = len(first), [], [first[:, s] for s in PYRAMID.slices]

    def draw(step_logits, *options):
        logits.append(step_logits)
        return answers.pop(0) if answers else torch.zeros_like(step_logits).bool()

    monkeypatch.setattr(sampling, "draw_bits", draw)
    options = SamplingOptions(Guidance.of("none"))
    model = _model(temporal, window)
    list(sampling.LatentSampler(model, LatentRequest([1] * batch, PYRAMID, 2, range(batch), options)).frames())
    second = torch.cat(logits[len(PYRAMID) :], dim=1)
    moved = (second[:-1] - second[-1:]).abs().amax((1, 2)).unflatten(0, (PYRAMID.length, D)) > 0
    if temporal == "every_scale":
        assert moved.all()
    else:
        assert moved[: PYRAMID.slices[-1].start].all() and not moved[PYRAMID.slices[-1]].all()


def test_the_contexts_here_are_those_of_training():
    latent = torch.randn(2, D, FRAMES, *PYRAMID.full)
    for temporal in ("first_scale", "every_scale"):
        lesson = teacher_forcing(latent, PYRAMID, temporal=temporal)
        bits = [lesson.targets.unflatten(1, (FRAMES, -1))[:, :, s].unflatten(2, g) for s, g in _scales()]
        assert torch.allclose(_contexts([code_of(x) for x in bits], temporal), lesson.tokens, atol=1e-6)


def _scales():
    return list(zip(PYRAMID.slices, PYRAMID.grids))
