"""The twin of GroupNorm against torch's own: values, gradients and their gradients; twins off change only the time."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from videoar import TokenizerConfig, VideoTokenizer, kernels
from videoar.kernels.group_norm import _faster, _GroupNorm, group_norm


def leaves(shape, dtype, offset=0.0):
    """Channels-last input, weight and bias that want gradients."""
    torch.manual_seed(0)
    x = (torch.randn(shape, dtype=dtype) + offset).contiguous(memory_format=torch.channels_last)
    weight, bias = (torch.randn(shape[1], dtype=dtype) for _ in range(2))
    return [t.requires_grad_() for t in (x, weight, bias)]


def both(groups, x, weight, bias):
    """(values and gradients) of the twin and of torch."""
    upstream = torch.randn_like(x)
    results = []
    for run in (group_norm, F.group_norm):
        y = run(x, groups, weight, bias, 1e-6)
        results.append((y, *torch.autograd.grad(y, (x, weight, bias), upstream)))
    return results


@pytest.mark.parametrize("shape", [(5, 12, 6, 7), (3, 36, 40, 40), (1, 48, 2, 2)])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_gradients_are_torchs_in_float64(shape, width):
    x, weight, bias = leaves(shape, torch.float64, offset=3.0)
    groups = shape[1] // width
    assert _faster(x, groups)
    twin, plain = both(groups, x, weight, bias)
    assert torch.equal(twin[0], plain[0])
    assert_close(twin[1:], plain[1:], atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_gradients_in_lower_precision(dtype, atol):
    x, weight, bias = leaves((40, 32, 64, 64), dtype)  # more than one piece
    assert _faster(x, 16)
    twin, plain = both(16, x, weight, bias)
    assert torch.equal(twin[0], plain[0])
    for ours, theirs in zip(twin[1:], plain[1:]):
        assert ours.dtype == dtype and ours.stride() == theirs.stride()
        assert_close(ours / theirs.abs().max(), theirs / theirs.abs().max(), atol=atol / 10, rtol=0.02)


def test_gradient_and_gradient_of_the_gradient():
    inputs = leaves((2, 4, 3, 3), torch.float64)

    def run(x, weight, bias):
        return _GroupNorm.apply(x, weight, bias, 2, 1e-6)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_chosen_only_where_it_is_faster():
    x, _, _ = leaves((2, 32, 4, 4), torch.float32)
    assert _faster(x, 8) and not _faster(x, 4)  # groups of 4 and 8 channels
    assert not _faster(x.contiguous(), 8) and not _faster(x.detach(), 8)
    with torch.no_grad():
        assert not _faster(x, 8)


def step(model, video):
    """Loss and gradients of one training step."""
    model.zero_grad()
    rebuilt = model.decoder(model.quantize(model.encode(video), straight_through=True).latent)
    loss = F.l1_loss(rebuilt, video)
    loss.backward()
    return loss.detach(), [p.grad for p in model.parameters()]


def test_turning_twins_off_changes_only_the_time():
    torch.manual_seed(0)
    model = VideoTokenizer(TokenizerConfig.preset("debug"))
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    fast = step(model, video)
    with torch.no_grad():
        fast_latent = model.encode(video)
    with kernels.without(*kernels.NAMES):
        plain = step(model, video)
        with torch.no_grad():
            plain_latent = model.encode(video)
    assert torch.equal(fast[0], plain[0])
    assert_close(fast[1], plain[1], atol=1e-6, rtol=1e-4)
    assert_close(fast_latent, plain_latent, atol=1e-5, rtol=0)


def test_unknown_twin():
    with (
        pytest.raises(ValueError, match="no twin named nothing; there are attention, conv3d, group_norm, linear"),
        kernels.without("nothing"),
    ):
        pass
