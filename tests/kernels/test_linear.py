"""Packed linear layers against torch's own, and samples with and without them."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer, generate, kernels
from videoar.kernels.linear import Packed, packed, plain


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("rows", [1, 2, 7, 128, 300])
@torch.no_grad()
def test_packed_is_plain(dtype, atol, rows):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 80, bias=False), nn.Linear(80, 24, bias=False)).to(dtype)
    apply = packed(model)
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert apply is plain, "a CPU without bfloat16 instructions has no such product"
        return
    assert isinstance(apply, Packed)
    for layer in model:
        x = torch.randn(2, rows, layer.in_features, dtype=dtype)
        assert_close(apply(layer, x), layer(x), atol=atol, rtol=0.02 if dtype == torch.bfloat16 else 1e-5)
        strided = torch.randn(2, layer.in_features, rows, dtype=dtype).transpose(1, 2)
        assert_close(apply(layer, strided), layer(strided), atol=atol, rtol=0.02 if dtype == torch.bfloat16 else 1e-5)


def test_only_where_it_is_right():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8))
    assert packed(model) is plain, "gradients are wanted"
    with torch.no_grad():
        assert packed(model.double()) is plain
        with kernels.without("linear"):
            assert packed(model.float()) is plain
        apply, x = packed(model), torch.randn(3, 8)
        assert torch.equal(apply(model[1], x), model[1](x)), "layers with a bias stay as they are"
        with torch.autocast("cpu", torch.bfloat16):
            assert apply(model[0], x).dtype == torch.bfloat16


def test_each_clip_is_sampled_with_the_weights_of_now():
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).eval()
    torch.manual_seed(1)
    model = VideoAR(GeneratorConfig.preset("debug")).eval()
    for _ in range(2):
        for parameter in model.parameters():
            parameter.data.normal_(std=0.15)  # what a version counter does not see
        fast = generate(model, tokenizer, [0, 3], frames=9, size=(32, 48), greedy=True)
        with kernels.without("linear"):
            slow = generate(model, tokenizer, [0, 3], frames=9, size=(32, 48), greedy=True)
        assert all(torch.equal(a, b) for a, b in zip(fast.bits, slow.bits))
