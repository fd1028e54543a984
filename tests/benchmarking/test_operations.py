"""What the host launches, counted on fake CUDA tensors."""

import torch

from videoar.benchmarking.operations import count_operations, inference_operations
from videoar.benchmarking.setting import Setting


def test_views_and_work_are_counted_by_name():
    x = torch.ones(2, 3)
    found = count_operations(lambda: (x.t() @ x).relu())
    assert dict(found.names) == {"t": 1, "mm": 1, "relu": 1} and found.total == 3


def test_a_sampling_step_of_24_blocks_takes_at_most_1300_operations():
    two, three = (
        inference_operations(Setting("debug", torch.device("cuda"), torch.bfloat16, 9, (64, 64), depth=depth))
        for depth in (2, 3)
    )
    block = three["sampling step"] - two["sampling step"]
    assert 0 < block <= 48
    assert two["sampling step"] + 22 * block <= 1300
    assert three["encode"] == two["encode"] < 500 and three["decode"] == two["decode"] < 700
