"""The averaged weights: their recursion, their place in the network, and what they cost in memory."""

import weakref

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from videoar.planning.live import LiveMemory
from videoar.training.ema import EMA


def test_ema_follows_its_recursion_and_swaps_exactly():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    ema = EMA(0.5)
    ema.start(network)
    expected = network.weight.detach().double().clone()
    for n in range(6):
        with torch.no_grad():
            network.weight.add_(torch.randn(2, 3))
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * network.weight.detach().double()
    torch.testing.assert_close(ema.weights["weight"].double(), expected, rtol=1e-5, atol=1e-6)
    own, average = network.weight.detach().clone(), ema.weights["weight"].clone()
    ema.swap_in(network)
    assert torch.equal(network.weight, average) and ema.swapped_in
    ema.swap_in(network)  # a second time changes nothing
    assert torch.equal(network.weight, average)
    ema.swap_out(network)
    assert torch.equal(network.weight, own) and torch.equal(ema.weights["weight"], average) and not ema.swapped_in


def test_ema_goes_on_from_its_state():
    network = nn.Linear(3, 2)
    ema = EMA(0.9)
    ema.start(network)
    network.weight.data.add_(1)
    ema.update()
    again = EMA(0.9)
    again.load_state_dict(ema.state_dict())
    again.start(network)  # keeps what was loaded
    network.weight.data.add_(1)
    ema.update(), again.update()
    assert torch.equal(ema.weights["weight"], again.weights["weight"]) and again.updates == 2


def test_ema_of_low_precision_weights_is_float32():
    network = nn.Linear(3, 2).bfloat16()
    ema = EMA(0.9)
    ema.start(network)
    assert ema.weights["weight"].dtype == torch.float32
    ema.weights["weight"] += 1e-4
    average = ema.weights["weight"].clone()
    ema.swap_in(network)
    assert network.weight.dtype == torch.bfloat16
    ema.swap_out(network)
    assert torch.equal(ema.weights["weight"], average), "no bit of the average is lost in the network's precision"


def test_ema_refuses_a_decay_of_one():
    with pytest.raises(ValueError, match="1"):
        EMA(1.0)


def test_swapping_makes_no_third_copy_of_the_weights():
    """Beside the network's weights and their average there is one more tensor at a time."""
    layers, size = 8, 64 * 64 * 4
    network = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(layers)))
    ema = EMA(0.9)
    ema.start(network)
    for change in (ema.swap_in, ema.swap_out):
        with LiveMemory() as memory:
            change(network)
        assert memory.peak == (2 * layers + 1) * size


@pytest.fixture
def two_ranks(request):
    """This process as one of two ranks, of which the other is made up: collectives give what they got."""
    dist.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=2)
    yield request.param
    dist.destroy_process_group()


@pytest.mark.parametrize("two_ranks", [0, 1], indirect=True)
def test_a_sharded_average_is_gathered_tensor_by_tensor_and_kept_by_the_first_rank(two_ranks, monkeypatch):
    mesh, ema, alive, most = dist.init_device_mesh("cpu", (2,)), EMA(0.9), weakref.WeakSet(), []
    ema.weights = {str(i): distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)]) for i in range(5)}
    gather = DTensor.full_tensor

    def gathered(shard):
        full = gather(shard)
        alive.add(full)
        most.append(len(alive))
        return full

    monkeypatch.setattr(DTensor, "full_tensor", gathered)
    weights = ema.state_dict()["weights"]
    assert len(most) == 5, "every rank takes part"
    if two_ranks == 0:
        assert weights.keys() == ema.weights.keys() and {tuple(x.shape) for x in weights.values()} == {(4, 4)}
    else:
        assert weights == {} and max(most) <= 2, "one is let go when the next has come"
