"""The entropy penalty: its ends, and that micro-batches, ranks and a resumed run make no difference."""

import math

import pytest
import torch

from videoar.bits.bsq import code_of, soft_bits
from videoar.losses.entropy import EntropyPenalty


def residuals(batch: int, frames: int = 3, bits: int = 8, seed: int = 0) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, bits, frames, side, side, generator=rng) for side in (1, 2, 4)]


def test_sure_and_balanced_bits_give_minus_one_and_constant_ones_zero():
    sure = [code_of(torch.rand(4000, 8, 1, 1, 1) > 0.5, dim=1)]
    assert EntropyPenalty(8, memory=0.0)(sure) == pytest.approx(-1, abs=0.01)
    constant = [code_of(torch.ones(100, 8, 1, 1, 1, dtype=torch.bool), dim=1)]
    assert EntropyPenalty(8, memory=0.0)(constant) == pytest.approx(0, abs=0.01)


def test_without_memory_it_is_the_batchs_own():
    scales, expected = residuals(4), []
    for x in scales:
        p = soft_bits(x, 1, 5.0).movedim(1, -1).flatten(0, -2)
        entropy = lambda q: -(q * q.log2() + (1 - q) * (1 - q).log2())  # noqa: E731
        expected.append(entropy(p).mean() - entropy(p.mean(0)).mean())
    found = EntropyPenalty(8, 5.0, memory=0.0)(scales)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_it_is_differentiable_at_saturation():
    x = (torch.randn(10, 8, 1, 1, 1) * 1e3).requires_grad_()
    EntropyPenalty(8)([x]).backward()
    assert torch.isfinite(x.grad).all()


def test_the_mean_runs_over_the_last_frames_only():
    penalty, ones = EntropyPenalty(2, 100.0, memory=30.0), torch.ones(10, 2, 1, 1, 1)
    penalty([ones])
    assert penalty.sums[0, 0] / penalty.weights[0, 0] == pytest.approx(1)
    penalty([-ones])
    fresh, old = 1 - math.exp(-10 / 30), (1 - math.exp(-10 / 30)) * math.exp(-10 / 30)
    assert penalty.sums[0, 0] / penalty.weights[0, 0] == pytest.approx(old / (old + fresh), abs=1e-5)
    state = penalty.eval().state_dict()
    before = {name: value.clone() for name, value in state.items()}
    penalty([ones])
    assert all(torch.equal(before[name], value) for name, value in penalty.state_dict().items())  # only training counts


def warmed(memory: float = 1e6) -> EntropyPenalty:
    """With a mean that a few frames more do not change."""
    penalty = EntropyPenalty(8, 5.0, memory)
    for seed in range(50):
        penalty([x + 0.5 for x in residuals(64, seed=seed)])
    return penalty


def gradient(penalty: EntropyPenalty, scales: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in scales]
    return list(torch.autograd.grad(penalty(leaves), leaves))


def test_micro_batches_add_up_to_the_joint_batch_and_a_clip_is_not_asked_to_differ_from_itself():
    """Two clips, one a micro-batch: gradients averaged are those of both at once. A batch's own mean gets it wrong."""
    scales = residuals(2, seed=99)
    for memory, alike in ((1e6, True), (0.0, False)):
        joint = gradient(warmed(memory), scales)
        parts = [gradient(warmed(memory), [x[i : i + 1] for x in scales]) for i in range(2)]
        close = [
            torch.allclose(torch.cat([first, second]) / 2, whole, rtol=1e-3, atol=1e-6)
            for first, second, whole in zip(*parts, joint)
        ]
        assert all(close) is alike


def test_the_running_mean_is_part_of_the_state():
    first = warmed(300.0)
    second = EntropyPenalty(8, 5.0, 300.0)
    second.load_state_dict(first.state_dict())
    scales = residuals(2, seed=7)
    assert torch.equal(first(scales), second(scales))
