"""Samples while a run validates: of the same classes or captions as a batch of data, in the run's precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from videoar.sampling.generate import generate_like
from videoar.sampling.guidance import Guidance


def sample_like(
    trainer: Trainer,
    module: Any,
    batch: dict[str, Any],
    like: Tensor,
    seed: int | Sequence[int],
    guidance: Guidance | float | str | None,
) -> Tensor:
    """One sample for each clip of `batch`, as long and large as `like` [B, 3, T, H, W]; float32 in [-1, 1].

    Every rank must call it, because a sharded generator samples with all of them.
    """
    with trainer.precision_plugin.val_step_context():  # as the validation step itself
        return generate_like(module.network, module.tokenizer, batch, like, seed, guidance)
