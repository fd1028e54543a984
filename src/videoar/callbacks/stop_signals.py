"""SIGTERM and Ctrl-C end a training well: the batch is finished, a checkpoint written, and the exit code says why."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.training.run_folder import checkpoint_folders

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals(Callback):
    """Turns SIGINT and SIGTERM into a checkpoint and SystemExit(128 + signal): 130 and 143.

    While a batch trains the signal is only noted; the checkpoint is written after it, on all ranks. A second signal, or
    one outside training, ends the process at once. Must be the last callback, so that the others' state is that after
    the batch. A signal within a validation ends that; the resumed run goes on with the training after it.

    Args:
        command: the words that started this run, for the line that says how to go on.
    """

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.received: int | None = None
        self._training = self._listening = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen to the signals; outside the main thread (where Python allows no handlers) do nothing."""
        try:
            before = [signal.signal(number, self._note) for number in SIGNALS]
        except ValueError:
            yield
            return
        self._listening = True
        try:
            yield
        finally:
            self._listening = False
            for number, handler in zip(SIGNALS, before):
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if not self._training or self.received is not None:
            print(f"videoar: stopped by {signal.Signals(number).name}", file=sys.stderr)
            raise SystemExit(128 + number)
        self.received = number
        name = signal.Signals(number).name
        print(f"\n{name}: finishing the batch and writing a checkpoint; once more to stop at once", file=sys.stderr)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = True
        if self._listening:
            for number in SIGNALS:  # Lightning has put its own before ours, which ends the run without a checkpoint
                signal.signal(number, self._note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._stop_if_asked(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._training and self._asked(trainer):
            trainer.fit_loop.epoch_loop.val_loop.increment_progress_to_evaluation_end()
            self._stop_if_asked(trainer)

    def _asked(self, trainer: Trainer) -> bool:
        """Whether any rank got a signal; the others learn of it here."""
        asked = self.received is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked and self.received is None:
            self.received = signal.SIGTERM
        return asked

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if not self._asked(trainer):
            return
        assert self.received is not None
        self._training = False
        path = save_last(trainer)
        if trainer.is_global_zero:
            name = signal.Signals(self.received).name
            saved = f"{path}; go on: {resuming(self.command)}" if path else "no checkpoint: enable_checkpointing is off"
            print(f"stopped by {name} after step {trainer.global_step}: {saved}", file=sys.stderr)
        raise SystemExit(128 + self.received)


def save_last(trainer: Trainer) -> Path | None:
    """Write last.ckpt into the folder of the run's checkpoints; None if the run keeps none."""
    keepers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    folders = checkpoint_folders(trainer)
    if not keepers or not folders:
        return None
    path = folders[0] / "last.ckpt"
    for keeper in keepers[:1]:  # in its state, or the resumed run would write last-v1.ckpt
        keeper.last_model_path = str(path)
    trainer.save_checkpoint(path, weights_only=False)
    return path


def resuming(command: list[str]) -> str:
    """The command line that goes on with the run that `command` started."""
    words = list(command)
    if "--ckpt_path" in words:
        at = words.index("--ckpt_path")
        del words[at : at + 2]
    words = [word for word in words if not word.startswith("--ckpt_path=")]
    return shlex.join(["videoar", *words, "--ckpt_path", "last"])
