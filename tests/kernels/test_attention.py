"""Attention in blocks against torch's own call and against the definition in float64."""

import pytest
import torch
from torch.testing import assert_close

from videoar import GeneratorConfig, ScalePyramid, VideoAR, kernels
from videoar.generator.visibility import SequenceIds, dense_mask, draw_frame_keep
from videoar.kernels.attention import attention

PYRAMID, FRAMES, PREFIX = ScalePyramid.default(3, 4), 3, 2
ENDS = [PREFIX + PYRAMID.sequence_length(t + 1) for t in range(FRAMES)]


def operands(dtype):
    torch.manual_seed(0)
    return [torch.randn(2, 2, ENDS[-1], 16, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(3)]


def masks():
    ids = SequenceIds.build(PYRAMID, FRAMES, PREFIX)
    keep = draw_frame_keep(2, FRAMES, 0.5, torch.Generator().manual_seed(1))
    lengths = torch.tensor([1, 2])
    return {"all": dense_mask(ids, ids), "window": dense_mask(ids, ids, 1, 0, lengths, keep)}


def defined(q, k, v, mask):
    q, k, v = q.double(), k.double(), v.double()
    return (q @ k.transpose(-1, -2) / 4).masked_fill(~mask, float("-inf")).softmax(-1) @ v


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("name", ["all", "window"])
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)], ids=str
)
def test_values_and_gradients_are_the_definition_s(dtype, atol, name, trained):
    mask, ours, reference = masks()[name], operands(dtype), [x.detach().double() for x in operands(dtype)]
    reference = [x.requires_grad_() for x in reference]
    upstream = torch.randn(2, 2, ENDS[-1], 16, dtype=torch.float64)
    with torch.set_grad_enabled(trained):
        out, expected = attention(*ours, mask, ENDS), defined(*reference, mask)
    assert out.dtype == dtype
    assert_close(out.double(), expected, atol=atol, rtol=atol)
    if trained:
        gradients = torch.autograd.grad(out, ours, upstream.to(dtype))
        for gradient, wanted in zip(gradients, torch.autograd.grad(expected, reference, upstream)):
            assert_close(gradient.double(), wanted, atol=2 * atol, rtol=2 * atol)


def test_turned_off_it_is_torch_s():
    q, k, v = operands(torch.float32)
    mask = masks()["all"]
    with kernels.without("attention"):
        assert torch.equal(
            attention(q, k, v, mask, ENDS), torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        )


@pytest.mark.parametrize("window", [0, 1])
def test_the_generator_s_loss_and_gradients_stay(window):
    torch.manual_seed(2)
    model = VideoAR(GeneratorConfig.preset("debug", window=window))
    tokens = torch.randn(2, PYRAMID.sequence_length(FRAMES), model.config.context_features)
    keep = draw_frame_keep(2, FRAMES, 0.3, torch.Generator().manual_seed(3))

    def run():
        model.zero_grad()
        logits = model(tokens, [0, 1], PYRAMID, FRAMES, frame_keep=keep)
        logits.square().mean().backward()
        return logits.detach(), model.blocks[0].attention.qkv.weight.grad.clone()

    fast = run()
    with kernels.without("attention"):
        slow = run()
    for a, b in zip(fast, slow):
        assert_close(a, b, atol=1e-5, rtol=1e-4)
