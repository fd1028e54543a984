import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videoar.bits.packing import pack_bits, unpack_bits


@given(st.integers(1, 70), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 99))
def test_round_trip(D, shape, seed):
    bits = torch.rand(*shape, D, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack_bits(bits)
    assert packed.shape == (*shape, (D + 7) // 8) and packed.dtype == torch.uint8
    assert torch.equal(unpack_bits(packed, D), bits)


def test_order_of_bits():
    bits = torch.tensor([True, False, False, False, False, False, False, True, False, True])
    assert pack_bits(bits).tolist() == [129, 2]


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"bits must be bool, got torch\.int64"):
        pack_bits(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match=r"9 bits are 2 bytes uint8, got torch\.uint8 \[3, 1\]"):
        unpack_bits(torch.zeros(3, 1, dtype=torch.uint8), 9)
