import numpy as np
import pytest
import torch

from videoar import ScalePyramid
from videoar.bits.residual import context, decode_bits, flatten_bits, quantize, resize, unflatten_bits, walk

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 3), (4, 6)))


def _area(x, h, w):
    """Mean of the cells each output covers, in the definition of adaptive average pooling (float64)."""
    H, W = x.shape[-2:]
    out = np.zeros((*x.shape[:-2], h, w))
    for i in range(h):
        for j in range(w):
            rows = slice(i * H // h, -(-(i + 1) * H // h))
            columns = slice(j * W // w, -(-(j + 1) * W // w))
            out[..., i, j] = x[..., rows, columns].mean((-2, -1))
    return out


def _bilinear(x, h, w):
    """Bilinear interpolation with half-pixel centres and clamped borders (float64)."""

    def axis(n_in, n_out):
        at = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, n_in - 1), at - low

    (r0, r1, fr), (c0, c1, fc) = axis(x.shape[-2], h), axis(x.shape[-1], w)
    rows = x[..., r0, :] * (1 - fr)[:, None] + x[..., r1, :] * fr[:, None]
    return rows[..., c0] * (1 - fc) + rows[..., c1] * fc


def _slow_quantize(latent, grids):
    """Paper eq. 2 for one frame [D, H, W], written out."""
    D, H, W = latent.shape
    seen, bits, contexts = np.zeros_like(latent), [], []
    for h, w in grids:
        contexts.append(_bilinear(seen, h, w))
        code = np.where(_area(latent - seen, h, w) > 0, 1.0, -1.0) / np.sqrt(D)
        bits.append(code > 0)
        seen = seen + _bilinear(code, H, W)
    return seen, bits, contexts


def test_recursion_equals_the_paper_written_out_slowly():
    latent = torch.randn(2, 8, 3, 4, 6, dtype=torch.float64)
    quantized = quantize(latent, PYRAMID)
    empty = torch.zeros_like(latent)
    contexts = [context(s.before, empty, PYRAMID, s.scale) for s in walk(latent, PYRAMID)]
    for b in range(2):
        for t in range(3):
            seen, bits, shown = _slow_quantize(latent[b, :, t].numpy(), PYRAMID.grids)
            np.testing.assert_allclose(quantized.latent[b, :, t], seen, atol=1e-12)
            for k in range(len(PYRAMID)):
                np.testing.assert_array_equal(quantized.bits[k][b, t].movedim(-1, 0), bits[k])
                np.testing.assert_allclose(contexts[k][b, :8, t], shown[k], atol=1e-12)
                assert not contexts[k][b, 8:, t].any()


def test_quantisation_is_independent_for_every_frame():
    latent = torch.randn(1, 8, 4, 4, 6)
    whole = quantize(latent, PYRAMID)
    alone = quantize(latent[:, :, 2:3], PYRAMID)
    assert torch.equal(whole.latent[:, :, 2:3], alone.latent)


def test_bits_give_the_quantised_latent_back_and_flatten_is_reversible():
    quantized = quantize(torch.randn(2, 8, 3, 4, 6), PYRAMID)
    assert torch.equal(decode_bits(quantized.bits, PYRAMID), quantized.latent)
    flat = flatten_bits(quantized.bits)
    assert flat.shape == (2, PYRAMID.sequence_length(3), 8)
    for original, back in zip(quantized.bits, unflatten_bits(flat, PYRAMID, 3)):
        assert torch.equal(original, back)


def test_straight_through_passes_the_gradient_unchanged():
    latent = torch.randn(1, 8, 1, 4, 6, requires_grad=True)
    quantized = quantize(latent, PYRAMID, straight_through=True)
    weight = torch.randn_like(latent)
    (quantized.latent * weight).sum().backward()
    assert torch.equal(latent.grad, weight)
    assert torch.allclose(quantized.latent, quantize(latent, PYRAMID).latent, atol=1e-6)


def test_more_scales_leave_less():
    latent = torch.randn(4, 16, 2, 4, 6) * 0.25
    bits = quantize(latent, PYRAMID).bits
    errors = [(decode_bits(bits[:k], PYRAMID) - latent).square().mean().item() for k in range(1, 5)]
    assert errors[-1] < errors[0]


def test_wrong_grid_is_refused():
    with pytest.raises(ValueError, match="does not match"):
        quantize(torch.randn(1, 8, 1, 5, 5), PYRAMID)
    with pytest.raises(ValueError, match="tokens"):
        unflatten_bits(torch.zeros(1, 5, 8, dtype=torch.bool), PYRAMID, 2)


def test_resize_to_the_same_grid_is_the_same_tensor():
    x = torch.randn(1, 2, 3, 4, 5)
    assert resize(x, (4, 5), "area") is x
