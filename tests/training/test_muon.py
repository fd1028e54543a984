"""Muon against a singular value decomposition, which parameters it takes, and its state in a checkpoint."""

import copy
import math

import pytest
import torch
from torch import nn

from videoar.training.muon import Muon, orthogonalised
from videoar.training.optim import OptimConfig, make_optimizer


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonalised(matrix)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    inside = u.T @ found @ v.T
    torch.testing.assert_close(inside, torch.diag(inside.diag()), rtol=0, atol=1e-3)


def test_the_polynomial_is_the_usual_iteration():
    torch.manual_seed(0)
    matrix = torch.randn(6, 50)
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(orthogonalised(matrix), x, rtol=1e-3, atol=1e-4)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Unflatten(1, (4, 1, 1, 1)), nn.Conv3d(4, 8, 1))
    return nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 4), nn.LayerNorm(4), *conv)


def test_kernels_go_to_muon_and_all_else_to_adamw():
    model = network()
    optimizer = make_optimizer(model, OptimConfig(optimizer="muon", weight_decay=0.3))
    matrices = {id(p) for group in optimizer.param_groups if group["matrices"] for p in group["params"]}
    assert matrices == {id(model[1].weight), id(model[4].weight)}
    others = {
        id(p): group["weight_decay"]
        for group in optimizer.param_groups
        if not group["matrices"]
        for p in group["params"]
    }
    assert len(others) + len(matrices) == len(list(model.parameters()))
    assert others[id(model[0].weight)] == others[id(model[1].bias)] == 0.0


def test_an_update_has_adamws_size_and_taps_without_gradient_rest():
    kernel = nn.Parameter(torch.zeros(16, 8, 3, 3, 3))
    optimizer = Muon([{"params": [kernel], "matrices": True}], lr=0.1, weight_decay=0.0)
    kernel.grad = torch.zeros_like(kernel)
    kernel.grad[:, :, -1] = torch.randn(16, 8, 3, 3)
    optimizer.step()
    rms = kernel.detach().square().sum().div(16 * 216).sqrt()
    assert float(rms) == pytest.approx(0.1 * 0.2, rel=0.2)  # 16 singular values of about one, times 0.2·√216
    assert torch.equal(kernel[:, :, :-1], torch.zeros_like(kernel[:, :, :-1])) and kernel.grad is None


def test_weight_decay_is_decoupled():
    weight = nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([{"params": [weight], "matrices": True}], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 1 - 0.1 * 0.5))


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        rng = torch.Generator().manual_seed(step)
        tokens = torch.randint(5, (12,), generator=rng)
        model(tokens).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_saved_state_goes_on_exactly():
    config = OptimConfig(optimizer="muon", lr=0.02)
    whole = network()
    optimizer = make_optimizer(whole, config)
    descend(whole, optimizer, range(3))
    resumed, state = copy.deepcopy(whole), copy.deepcopy(optimizer.state_dict())
    descend(whole, optimizer, range(3, 6))
    again = make_optimizer(resumed, config)
    again.load_state_dict(state)
    descend(resumed, again, range(3, 6))
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b)


def test_it_learns():
    torch.manual_seed(0)
    target, model = nn.Linear(20, 10), nn.Linear(20, 10)
    optimizer = make_optimizer(model, OptimConfig(optimizer="muon", weight_decay=0.0))
    x = torch.randn(200, 20)
    losses = []
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 150)
        loss = (model(x) - target(x)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0] and math.isfinite(losses[-1])


def test_autocast_does_not_reach_the_iteration():
    """A step that a training step makes itself runs under its autocast; in bfloat16 the powers of G blow up."""
    torch.manual_seed(0)
    matrix = torch.randn(32, 300) @ torch.diag(torch.logspace(0, -3, 300))
    plain = orthogonalised(matrix)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(orthogonalised(matrix), plain)
        assert torch.equal(orthogonalised(matrix.T), plain.T)
