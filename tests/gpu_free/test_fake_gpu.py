"""The fake GPU sees what a host would wait for, and nothing else."""

import pytest
import torch

from videoar.kernels.transfer import sent


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        ("read", lambda x: bool(x.sum().isfinite())),
        ("read", lambda x: x.sum().item()),
        ("fetch", lambda x: x.cpu()),
        ("send", lambda x: torch.zeros(3).to(x.device)),
        ("send", lambda x: torch.tensor([1, 2], device=x.device)),
        ("send", lambda x: torch.zeros(3).to(x.device, non_blocking=True)),  # from memory that is not pinned
        (None, lambda x: sent(torch.zeros(3), x.device) + x),
        (None, lambda x: torch.where(x > 0, x, x.new_zeros(())).sum()),
    ],
)
def test_what_the_host_waits_for(gpu, kind, job):
    with gpu() as it:
        x = torch.ones(3, device="cuda")
        it.waits.clear()
        job(x)
    assert [wait for wait, _ in it.waits] == ([kind] if kind else [])


def test_a_device_mismatch_is_an_error(gpu):
    with gpu(), pytest.raises(RuntimeError, match="device"):
        torch.ones(3, device="cuda") + torch.ones(3)
