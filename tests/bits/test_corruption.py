import pytest
import torch
import torch.nn.functional as F

from videoar import ScalePyramid
from videoar.bits.corruption import CorruptionConfig, flip_ratios, teacher_forcing
from videoar.bits.residual import flatten_bits, quantize

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 3), (4, 4)))
MODES = ["per_scale", "time_dependent", "inheritance"]


def _slow(latent, pyramid, config, rng, temporal):
    """Eq. 8 for every sample, frame and scale in turn, consuming the same random numbers."""
    B, D, T, H, W = latent.shape
    K = len(pyramid)
    draw = torch.rand(B, T, K, generator=rng)
    noise = [torch.rand(B, D, T, h, w, generator=rng) for h, w in pyramid.grids]
    tokens, targets = [], []
    for b in range(B):
        p_last, last_seen = 0.0, torch.zeros(1, D, H, W)
        for t in range(T):
            low, high = config.p_min + config.delta * t, config.p_max + config.delta * t
            p_frame = min(low + (high - low) * draw[b, t, K - 1].item(), 0.5)
            seen = torch.zeros(1, D, H, W)
            for k, grid in enumerate(pyramid.grids):
                p = p_frame
                if config.mode == "per_scale":
                    p = min(config.p_min + (config.p_max - config.p_min) * draw[b, t, k].item(), 0.5)
                elif config.mode == "inheritance" and t > 0 and k == 0:
                    p = p_last + max(min(high, 0.5) - p_last, 0) * draw[b, t, 0].item()
                shown = last_seen if temporal == "first_scale" and k == 0 else seen
                shown = F.interpolate(shown, grid, mode="bilinear", align_corners=False)
                if temporal == "every_scale":
                    shown = torch.cat([shown, F.interpolate(last_seen, grid, mode="area")], dim=1)
                tokens.append(shown[0].flatten(1).T)
                bits = F.interpolate(latent[b : b + 1, :, t] - seen, grid, mode="area") > 0
                targets.append(bits[0].flatten(1).T)
                flipped = bits ^ (noise[k][b, :, t] < p)
                code = (flipped.float() * 2 - 1) / D**0.5
                seen = seen + F.interpolate(code, (H, W), mode="bilinear", align_corners=False)
            p_last, last_seen = p_frame, seen
    length = T * pyramid.length
    return torch.cat(tokens).reshape(B, length, -1), torch.cat(targets).reshape(B, length, D)


@pytest.mark.parametrize("temporal", ["first_scale", "every_scale"])
@pytest.mark.parametrize("mode", MODES)
def test_vectorised_corruption_equals_the_slow_reference(mode, temporal):
    latent = torch.randn(3, 8, 4, 4, 4)
    config = CorruptionConfig(mode, p_min=0.05, p_max=0.3, delta=0.05)
    fast = teacher_forcing(latent, PYRAMID, config, torch.Generator().manual_seed(7), temporal=temporal)
    tokens, targets = _slow(latent, PYRAMID, config, torch.Generator().manual_seed(7), temporal)
    assert torch.equal(fast.targets, targets)
    assert torch.allclose(fast.tokens, tokens, atol=1e-6)


def test_zero_ratio_is_no_corruption_bit_for_bit():
    latent = torch.randn(2, 8, 3, 4, 4)
    plain = teacher_forcing(latent, PYRAMID)
    for mode in MODES:
        zero = teacher_forcing(latent, PYRAMID, CorruptionConfig(mode, 0.0, 0.0, 0.0), torch.Generator().manual_seed(1))
        assert torch.equal(zero.tokens, plain.tokens) and torch.equal(zero.targets, plain.targets)
    assert torch.equal(plain.targets, flatten_bits(quantize(latent, PYRAMID).bits))


def test_corrupted_paths_have_corrected_targets():
    """With flips, later targets differ from the clean bits, and following them still ends near the latent."""
    latent = torch.randn(8, 8, 2, 4, 4) * 0.3
    clean = teacher_forcing(latent, PYRAMID).targets
    config = CorruptionConfig("time_dependent", 0.3, 0.3, 0.0)
    corrected = teacher_forcing(latent, PYRAMID, config, torch.Generator().manual_seed(0)).targets
    first = PYRAMID.slices[0]
    assert torch.equal(clean[:, first], corrected[:, first])
    assert (clean != corrected).float().mean() > 0.05


def test_first_frame_context_is_empty_and_next_frames_start_from_the_last():
    latent = torch.randn(1, 8, 3, 4, 4)
    tokens = teacher_forcing(latent, PYRAMID).tokens
    seen = quantize(latent, PYRAMID).latent
    assert (tokens[:, 0] == 0).all()
    expected = F.interpolate(seen[:, :, 0], (1, 1), mode="bilinear", align_corners=False)[0, :, 0, 0]
    mean = seen[0, :, 0].mean((1, 2))
    assert torch.allclose(tokens[0, PYRAMID.length], torch.cat([torch.zeros(8), mean]), atol=1e-6)
    finest = PYRAMID.length + PYRAMID.slices[-1].start
    assert torch.equal(tokens[0, finest : 2 * PYRAMID.length, 8:], seen[0, :, 0].flatten(1).T)
    alone = teacher_forcing(latent, PYRAMID, temporal="first_scale").tokens
    assert torch.allclose(alone[0, PYRAMID.length], expected, atol=1e-6)
    assert torch.equal(alone[:, finest : 2 * PYRAMID.length], tokens[:, finest : 2 * PYRAMID.length, :8])


def test_ratios_ramp_over_frames_and_are_inherited():
    rng = torch.Generator().manual_seed(0)
    config = CorruptionConfig("inheritance", 0.0, 0.25, 0.01)
    p = flip_ratios(config, 20000, 6, 4, rng)
    assert (p[:, 1:, 0] >= p[:, :-1, -1]).all(), "the first scale starts above the previous frame's last"
    assert torch.equal(p[:, :, 1], p[:, :, 3]), "one ratio a frame beyond the first scale"
    ramp = 0.01 * torch.arange(6)
    assert torch.allclose(p[:, :, -1].mean(0), 0.125 + ramp, atol=0.005)
    assert (p[:, :, -1] >= ramp).all() and (p[:, :, -1] <= 0.25 + ramp).all()


def test_ratios_are_clipped_to_one_half():
    p = flip_ratios(CorruptionConfig("inheritance", 0.4, 0.5, 0.1), 100, 8, 3, torch.Generator().manual_seed(0))
    assert p.max() <= 0.5


@pytest.mark.parametrize("values", [{"p_min": 0.3, "p_max": 0.2}, {"p_max": 0.7}, {"delta": -1.0}, {"mode": "x"}])
def test_bad_values_are_refused(values):
    with pytest.raises(ValueError):
        CorruptionConfig(**values)
