"""Learning rates, parameter groups and clipping as pure functions; the EMA against its recursion."""

import math

import pytest
import torch
from torch import nn

from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.tokenizer.discriminator import DiscriminatorConfig, VideoDiscriminator
from videoar.training.optim import OptimConfig, clip_gradients, make_optimizer, numbered_by_place


def test_learning_rate_warms_up_and_falls_along_a_cosine():
    config = OptimConfig(lr=2.0, warmup=4, final=0.1)
    assert [config.lr_at(b, 104) for b in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert config.lr_at(4, 104) == 2.0
    assert config.lr_at(54, 104) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert config.lr_at(29, 104) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert config.lr_at(104, 104) == pytest.approx(0.2) == config.lr_at(1000, 104)


def test_own_total_wins_over_the_length_of_the_run():
    assert OptimConfig(lr=1.0, total=10).lr_at(10, 1000) == pytest.approx(0.0)


def test_constant_schedule_needs_no_length_but_a_cosine_does():
    assert OptimConfig(lr=1.0, schedule="constant").lr_at(10**9, None) == 1.0
    with pytest.raises(ValueError, match="cosine schedule needs a length"):
        OptimConfig().lr_at(0, None)


def test_the_warm_up_is_repeated_at_restarts_on_top_of_the_schedule():
    plain, config = OptimConfig(lr=2.0, warmup=4), OptimConfig(lr=2.0, warmup=4, restarts=[50])
    assert [config.lr_at(b, 104) for b in (0, 3, 20, 49)] == [plain.lr_at(b, 104) for b in (0, 3, 20, 49)]
    assert [config.lr_at(50 + i, 104) / plain.lr_at(50 + i, 104) for i in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    flat = OptimConfig(lr=1.0, warmup=4, schedule="constant", restarts=[50])
    assert [flat.lr_at(b, None) for b in (1, 10, 51, 60)] == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("bad", [{"lr": -1}, {"final": 2}, {"schedule": "linear"}, {"clip": -0.1}, {"warmup": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        OptimConfig(**bad)


def test_only_matrices_and_kernels_are_decayed():
    """Not embeddings, nor the blocks' offsets [6, C], nor a spectral norm's running vectors."""
    generator = VideoAR(GeneratorConfig.preset("debug"))
    optimizer = make_optimizer(generator, OptimConfig(weight_decay=0.3, betas=(0.8, 0.9)))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decayed = {name for name, p in generator.named_parameters() if decay[id(p)] == 0.3}
    layers = {name for name, module in generator.named_modules() if isinstance(module, nn.Linear)}
    assert decayed == {f"{name}.weight" for name in layers} and set(decay.values()) == {0.0, 0.3}
    assert len(decay) == len(list(generator.parameters()))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    critic = VideoDiscriminator(DiscriminatorConfig(channels=4, layers=2, temporal_layers=1, spectral_norm=True))
    names = {id(p): name for name, p in critic.named_parameters()}
    kernels, others = (
        {names[id(p)] for p in group["params"]} for group in make_optimizer(critic, OptimConfig()).param_groups
    )
    assert all(name.endswith("weight.original") for name in kernels) and len(kernels) == 4
    assert all("bias" in name or name.startswith("norms") for name in others)


def test_clipping_acts_on_the_joint_norm():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    assert clip_gradients([a, b], 0.0).item() == pytest.approx(7.0)
    assert torch.equal(b.grad, torch.tensor([6.0]))
    assert clip_gradients([a, b], 1.0).item() == pytest.approx(7.0)
    assert torch.cat([a.grad, b.grad]).norm().item() == pytest.approx(1.0, rel=1e-5)


def test_a_saved_state_numbers_parameters_by_their_place_and_loads_as_before():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    optimizer = make_optimizer(network, OptimConfig(lr=1e-2))
    network(torch.ones(4, 2)).square().sum().backward()
    optimizer.step()
    saved = numbered_by_place(optimizer.state_dict(), optimizer, network)
    for number, parameter in enumerate(network.parameters()):
        assert saved["state"][number]["exp_avg"] is optimizer.state[parameter]["exp_avg"]
    assert saved["param_groups"][0]["params"] == [0, 4], "the matrices"
    fresh = make_optimizer(network, OptimConfig(lr=1e-2))
    fresh.load_state_dict(saved)
    for parameter in network.parameters():
        assert torch.equal(fresh.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])
    other = numbered_by_place(optimizer.state_dict(), optimizer, torch.nn.Linear(2, 2))
    assert other["param_groups"][0]["params"] == [0, 1], "of an optimizer of something else"
