"""What the modules do themselves and a Trainer may not be asked for; every refusal names the key that does it."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn

from videoar.errors import UserError
from videoar.ranges import COUNT, check_memory, check_ranges
from videoar.training.precision import check_precision

INSTEAD = {
    "gradient_clip_val": "clipping is the optimizers' own: set model.optim.clip (and model.discriminator_optim.clip)",
    "gradient_clip_algorithm": "clipping is the optimizers' own, by the norm: set model.optim.clip",
    "accumulate_grad_batches": "accumulation is the modules' own: set model.loop.accumulate",
}

PROCESS_BYTES = 5e8
"""What a process takes that has PyTorch and Lightning loaded."""
SHARDED = "as configs/hardware/fsdp.yaml does"


def check_trainer(trainer: Trainer, kind: str, fit: bool) -> None:
    """Refuse options that would do nothing, or harm, for a `kind`, tokenizer or generator, that trains if `fit`.

    Raises:
        UserError: clipping, accumulation, Lightning's finders, a precision that these losses cannot bear, a strategy
            that shards what it must not, a number that makes no sense, prediction with a generator, or, in a fit,
            nothing to train.
    """
    if kind == "generator" and trainer.state.fn == TrainerFn.PREDICTING:
        raise UserError("predict writes a tokenizer's latents; a generator samples: videoar sample --model …")
    check_ranges(trainer, log_every_n_steps=COUNT)
    for name in ("max_steps", "max_epochs", "limit_train_batches") if fit else ():
        if getattr(trainer, name) == 0:
            raise UserError(f"trainer.{name} must not be 0: there would be nothing to train")
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
    if isinstance(getattr(trainer, "accelerator", None), CPUAccelerator):
        check_memory(trainer.num_devices * PROCESS_BYTES, f"trainer.devices {trainer.num_devices}: as many processes")
    _check_strategy(trainer, kind)


def _check_strategy(trainer: Trainer, kind: str) -> None:
    strategy = trainer.strategy
    if isinstance(strategy, FSDPStrategy | DeepSpeedStrategy):
        name = type(strategy).__name__
        raise UserError(
            f"trainer.strategy: {name} hides the weights from their average: take ModelParallelStrategy, {SHARDED}"
        )
    if not isinstance(strategy, ModelParallelStrategy):
        return
    if kind == "tokenizer":
        raise UserError("trainer.strategy: a tokenizer is small and not sharded: take ddp (configs/hardware/ddp.yaml)")
    if strategy._tensor_parallel_size != 1:
        raise UserError(f"trainer.strategy: blocks are sharded, not split: set tensor_parallel_size to 1, {SHARDED}")
    if trainer.validate_loop.inference_mode:
        raise UserError(
            "trainer.inference_mode: validation swaps averaged weights into the shards, which inference mode forbids:"
            f" set it to false, {SHARDED}"
        )
