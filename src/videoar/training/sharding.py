"""FSDP2: the generator's weights shared out over ranks, with the numbers of one device."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh

from videoar.generator.model import VideoAR


def shard(network: VideoAR, mesh: DeviceMesh, precision: Any) -> None:
    """Shard every block, and the rest as one, over the ranks of `mesh`.

    Autocast decides about dtypes as it does on one device: the residual stream, modulations and rotations stay
    float32. The blocks' weights are gathered in bfloat16, which is what autocast makes of them.

    Args:
        precision: the Trainer's.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    low = torch.bfloat16 if precision == "bf16-mixed" else None
    as_given: dict[str, Any] = {"reduce_dtype": torch.float32, "cast_forward_inputs": False}
    for block in network.blocks:
        fully_shard(block, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=low, **as_given))
    fully_shard(network, mesh=mesh, mp_policy=MixedPrecisionPolicy(**as_given))
    register_fsdp_forward_method(network, "condition")  # gathers the rest, and comes before forward
