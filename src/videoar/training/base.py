"""What both training modules share: a batch counter, accumulation, clipping, skipped steps, learning rates, EMA.

Optimisation is manual, because the tokenizer has two optimizers. Everything that Lightning would do around a
step is therefore here, in the open. Two counters are easily confused:

    batches_seen    training batches, saved in the checkpoint; every schedule of ours reads it
    global_step     Lightning's: optimizer steps of the main network; max_steps and every_n_train_steps read
    it
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from videoar import __version__
from videoar.data.transforms import check_range
from videoar.errors import UserError
from videoar.ranges import COUNT, SEED, check_ranges
from videoar.training.checkpoint_io import save_when_due
from videoar.training.ema import EMA, gathered, placed_like
from videoar.training.optim import OptimConfig, batches_of, clip_gradients, numbered_by_place, set_lr
from videoar.training.plain import from_plain, plain
from videoar.training.reporting import ReportingModule
from videoar.training.schedulers import own_schedulers, remember_shares, step_schedulers
from videoar.training.skipped import SkippedSteps
from videoar.training.trainer_options import check_trainer
from videoar.weights import check_values


@dataclass
class LoopConfig:
    """How a run steps; the same for both modules.

    Raises:
        UserError: accumulate below 1, or no seed.
    """

    accumulate: int = 1
    """Batches whose gradients are averaged into one step; the last window of an epoch may be shorter."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which validation, sampling and export use."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: much less memory, about a third more time."""
    compile: bool = False
    """Compile the networks' parts in place (torch.compile); keys of the checkpoint stay the same."""
    seed: int = 0
    """Seed of everything random in a training step; with the batch counter and the rank it fixes every draw."""

    def __post_init__(self) -> None:
        check_ranges(self, accumulate=COUNT, seed=SEED)


class TrainingModule(ReportingModule):
    """Base of TokenizerModule and GeneratorModule. Subclasses name their main network and what kind they are."""

    kind: ClassVar[Literal["tokenizer", "generator"]]

    def __init__(self, loop: LoopConfig | dict[str, Any] | None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.loop = from_plain(LoopConfig, loop)
        self.ema = EMA(self.loop.ema_decay)
        self._open_gradients: dict[str, Tensor] = {}

    @property
    def network(self) -> nn.Module:
        """The network that is averaged, validated and exported."""
        raise NotImplementedError

    # ---- one optimizer step -----------------------------------------------------------------------------------

    def window(self, batch_idx: int) -> tuple[int, bool]:
        """(batches in this batch's accumulation window, is this its last); a window never crosses an epoch's end."""
        start = batch_idx - batch_idx % self.loop.accumulate
        left = self.trainer.num_training_batches - start
        size = int(min(self.loop.accumulate, left)) if left > 0 else self.loop.accumulate
        return size, batch_idx + 1 == start + size

    def descend(self, name: str, loss: Tensor, optimizer: Optimizer, config: OptimConfig, batch_idx: int) -> None:
        """Backward; at the end of the accumulation window also clip, check and step.

        A step whose gradients are not finite changes no weight; it is counted and logged.
        """
        size, last = self.window(batch_idx)
        with self._reducing(last):
            self.manual_backward(loss / size)
        if not last:
            return
        norm = clip_gradients((p for group in optimizer.param_groups for p in group["params"]), config.clip)
        self._norm = norm if name == self.kind else self._norm
        own = own_schedulers(self.trainer, optimizer)
        if not own:
            set_lr(optimizer, config.lr_at(self.batches_seen, self.run_length()))
        self._step(name, optimizer, norm.isfinite())
        step_schedulers(own, "step", self.global_step)
        optimizer.zero_grad()

    @contextmanager
    def _reducing(self, last: bool) -> Iterator[None]:
        """DDP averages gradients once a window; FSDP in every pass of it, lest each rank keep the whole of them."""
        without: Any = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        with nullcontext() if last else without():
            yield

    def _step(self, name: str, optimizer: Optimizer, finite: Tensor) -> None:
        """One step, if `finite`. Fused AdamW is told so on the device, and the host need not wait for the answer."""
        inner: Any = getattr(optimizer, "optimizer", optimizer)
        self.skipped.add(name, finite)
        fused = type(inner) is AdamW and all(group["fused"] for group in inner.param_groups)
        if not fused and not bool(finite):
            return
        inner.found_inf = (~finite).float() if fused else None
        if name == self.kind:
            optimizer.step()  # Lightning's wrapper: counts as a global step
            self.ema.update()
        else:  # not through the wrapper, else max_steps and every_n_train_steps would count this optimizer too
            self.trainer.strategy.optimizer_step(inner, closure=lambda: None, model=self)
        del inner.found_inf

    def run_length(self) -> int | None:
        """Batches of the whole run, as the Trainer's max_steps or max_epochs say; None if it has no end."""
        trainer = self.trainer
        lengths = []
        if trainer.max_steps not in (-1, None):
            lengths.append(batches_of(trainer.max_steps, self.loop.accumulate, trainer.num_training_batches))
        if trainer.max_epochs not in (-1, None) and trainer.num_training_batches != float("inf"):
            lengths.append(int(trainer.max_epochs * trainer.num_training_batches))
        return min(lengths) if lengths else None

    def rng(self, device: torch.device | str | None = None) -> torch.Generator:
        """A random generator that only (seed, batches_seen, rank) decide, so that resuming is exact."""
        words = np.random.SeedSequence([self.loop.seed, self.batches_seen, self.global_rank]).generate_state(2)
        return torch.Generator(device or self.device).manual_seed(int(words[0]) << 31 ^ int(words[1]))

    def mean_over_ranks(self, x: Tensor) -> Tensor:
        """The mean of a detached tensor over all ranks."""
        return self.trainer.strategy.reduce(x.detach().clone(), reduce_op="mean") if self._trainer else x

    # ---- Lightning's hooks ------------------------------------------------------------------------------------

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check values where reading them costs nothing: before the batch goes to the device."""
        if isinstance(batch, dict):
            check_range(batch)
        return batch

    def configure_callbacks(self) -> list[Callback]:
        """No callbacks. The first hook that Lightning calls: here its Trainer is looked at, before it judges itself."""
        check_trainer(self.trainer, self.kind, self.trainer.state.fn == "fit")
        return []

    def on_train_start(self) -> None:
        check_length = getattr(getattr(self.trainer, "datamodule", None), "check_length", None)
        if check_length is not None and (batches := self.run_length()) is not None:
            check_length(batches)
        self.ema.start(self.network)
        if self.batches_seen == 0:
            remember_shares(self.trainer.optimizers)
        for name, parameter in self.named_parameters():
            if name in self._open_gradients:
                parameter.grad = placed_like(self._open_gradients[name], parameter).to(parameter.dtype)
        self._open_gradients = {}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        save_when_due(self.trainer)

    def on_train_epoch_end(self) -> None:
        step_schedulers(self.trainer.lr_scheduler_configs, "epoch", self.current_epoch + 1)

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients: validation may fall inside an accumulation window."""

    def on_validation_epoch_start(self) -> None:
        self.ema.swap_in(self.network)

    def on_validation_epoch_end(self) -> None:
        self.ema.swap_out(self.network)

    def on_test_epoch_start(self) -> None:
        self.ema.swap_in(self.network)

    def on_test_epoch_end(self) -> None:
        self.ema.swap_out(self.network)

    def on_predict_epoch_start(self) -> None:
        self.ema.swap_in(self.network)

    def on_predict_epoch_end(self) -> None:
        self.ema.swap_out(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.ema.swap_out(self.network)  # after an exception in validation; `state_dict` refers to these tensors
        checkpoint["videoar"] = {
            "kind": self.kind,
            "version": __version__,
            "batches_seen": self.batches_seen,
            "skipped": self.skipped.in_all,
            "open_gradients": self._gradients_of_open_window(),
        }
        checkpoint[f"{self.kind}_config"] = plain(self.network.config)
        checkpoint["ema"] = self.ema.state_dict()
        if self.device_mesh is None and "optimizer_states" in checkpoint:
            states = zip(checkpoint["optimizer_states"], self.trainer.optimizers)
            checkpoint["optimizer_states"] = [numbered_by_place(state, owner, self) for state, owner in states]

    def _gradients_of_open_window(self) -> dict[str, Tensor]:
        """What has been accumulated when a checkpoint falls inside a window, meaned over ranks; empty at its end."""
        grads = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        sharded = self.device_mesh is not None  # and so already reduced
        kept = {name: gathered(g) if sharded else self.mean_over_ranks(g) for name, g in grads.items()}
        return {name: grad for name, grad in kept.items() if grad is not None}

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Lightning's, but always weights-only: of a URL it would run what a pickle asks for."""
        return super().load_from_checkpoint(checkpoint_path, *args, **(kwargs | {"weights_only": True}))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept.

        Raises:
            UserError: another model's checkpoint, one that is not whole, or weights that are not finite.
        """
        try:
            state = checkpoint.get("videoar", {})
            if state.get("kind") != self.kind:
                raise UserError(f"this is a checkpoint of a {state.get('kind', 'foreign model')}, not of a {self.kind}")
            self._check_config(checkpoint[f"{self.kind}_config"])
            self.batches_seen = int(state["batches_seen"])
            self.skipped = SkippedSteps(state["skipped"])
            self._open_gradients = dict(state["open_gradients"])
            self.ema.load_state_dict(checkpoint["ema"])
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"this is no whole checkpoint of a {self.kind}: {error!r}") from error
        check_values(checkpoint.get("state_dict", {}), "the checkpoint")  # a sharded strategy has taken it out

    def _check_config(self, saved: dict[str, Any]) -> None:
        own = plain(self.network.config)
        saved = getattr(type(self.network.config), "saved_without", {}) | saved
        own.pop("size", None)  # a generator's last training size: no weight depends on it
        wrong = [f"{k} {saved.get(k)!r} is now {v!r}" for k, v in own.items() if saved.get(k) != v]
        if wrong:
            raise UserError(f"the checkpoint's {self.kind} is not this config's: {'; '.join(wrong)}")
