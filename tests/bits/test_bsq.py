import itertools
import math

import torch

from videoar.bits.bsq import bit_usage, bits_of, code_of, soft_bits


def test_codes_lie_on_the_unit_sphere_and_give_their_bits_back():
    bits = torch.rand(50, 12) > 0.5
    code = code_of(bits, torch.float64)
    assert torch.allclose(code.norm(dim=-1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(bits_of(code), bits)


def test_soft_bits_equal_the_softmax_over_all_codes():
    """The factorised probabilities against p(c|u) ∝ exp(τ⟨u, c⟩) written out over all 2^D codes."""
    D, tau = 5, 3.0
    x = torch.randn(7, D, dtype=torch.float64)
    unit = x / x.norm(dim=1, keepdim=True)
    corners = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)), dtype=torch.float64)
    weights = torch.softmax(tau * unit @ ((corners * 2 - 1) / math.sqrt(D)).T, dim=1)
    assert torch.allclose(soft_bits(x, 1, tau).double(), weights @ corners, atol=1e-6)


def test_bit_usage_is_one_for_fair_bits_and_zero_for_constant_ones():
    bits = torch.tensor([[True, True], [False, True]])
    assert torch.allclose(bit_usage(bits), torch.tensor([1.0, 0.0]), atol=1e-4)
