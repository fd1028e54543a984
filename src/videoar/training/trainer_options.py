"""What the modules do themselves and a Trainer may not be asked for; every refusal names the key that does it."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder

from videoar.errors import UserError
from videoar.training.precision import check_precision

INSTEAD = {
    "gradient_clip_val": "clipping is the optimizers' own: set model.optim.clip (and model.discriminator_optim.clip)",
    "gradient_clip_algorithm": "clipping is the optimizers' own, by the norm: set model.optim.clip",
    "accumulate_grad_batches": "accumulation is the modules' own: set model.loop.accumulate",
}


def check_trainer(trainer: Trainer) -> None:
    """Refuse options that would do nothing, or harm, under manual optimisation.

    Raises:
        UserError: clipping, accumulation, Lightning's finders, or a precision that these losses cannot bear.
    """
    for name, nothing in (("gradient_clip_val", 0), ("gradient_clip_algorithm", None), ("accumulate_grad_batches", 1)):
        if (getattr(trainer, name) or nothing) != nothing:
            raise UserError(f"trainer.{name}: {INSTEAD[name]}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningRateFinder):
            raise UserError(
                "the learning-rate finder cannot steer manual optimisation: try values of model.optim.lr in a sweep"
                " (docs/sweeps.md)"
            )
        if isinstance(callback, BatchSizeFinder):
            raise UserError(
                "the batch-size finder cannot change a curriculum: set data.stage.batch_size; `videoar plan` says"
                " what fits"
            )
    check_precision(trainer.precision)
