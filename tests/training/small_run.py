"""A small but whole training run, as a program: it can be killed, and it can go on.

    python small_run.py KIND FOLDER WORKERS POINT…

Runs, each in a process of its own: a whole one in FOLDER/whole, and for each POINT one in FOLDER/POINT that is killed
there and one that goes on with it. A run trains KIND (tokenizer or generator) for 8 batches, across an epoch's end and
a stage switch. It goes on from its folder's last checkpoint if there is one, and at its end writes losses, weights and
averaged weights to `result.pt` there.

A POINT is HOW@BATCH: `start` or `end` of the batch, the `validation` before it, or the first file written after the
batch began: at a number of bytes, at its `fsync`, at its `replace`.
"""

import logging
import os
import resource
import signal
import sys
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.callbacks.flip_schedule import FlipSchedule
from videoar.callbacks.health import HealthMonitor
from videoar.callbacks.stage_switch import StageSwitch
from videoar.data.curriculum import Stage
from videoar.data.datamodule import Evaluation, MixedDataModule, Reading
from videoar.data.loader import Loading
from videoar.generator.model import GeneratorConfig
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import TokenizerConfig
from videoar.training.base import LoopConfig
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.generator_module import GeneratorModule, TeachingConfig
from videoar.training.objective import TokenizerLossConfig
from videoar.training.optim import OptimConfig
from videoar.training.tokenizer_module import TokenizerModule

BATCHES = 8
PATIENCE = 130.0
"""Seconds that a run may take; it needs less than ten on an idle core."""


class Watch(Callback):
    """Writes each batch's loss down, and ends the process in the middle of the run."""

    def __init__(self, point: str | None) -> None:
        self.how, _, batch = (point or "never@-1").partition("@")
        self.batch, self.losses = int(batch), {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.batches_seen != self.batch:
            return
        if self.how == "start":
            kill()
        elif self.how in ("fsync", "replace"):
            setattr(os, self.how, kill)
        elif self.how.isdigit():  # the system ends the process that writes beyond the limit
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(self.how),) * 2)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses[module.batches_seen - 1] = (outputs["loss"].item(), batch["path"])
        if self.how == "end" and module.batches_seen - 1 == self.batch:
            kill()

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if self.how == "validation" and module.batches_seen == self.batch:
            kill()


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_module(kind: str, folder: Path) -> TokenizerModule | GeneratorModule:
    seed_everything(0)
    optim = OptimConfig("muon" if kind == "tokenizer" else "adamw", lr=3e-3, warmup=2)
    if kind == "tokenizer":
        return TokenizerModule(
            TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4),
            losses=TokenizerLossConfig(
                perceptual=0.0, lecam=0.1, r1=1.0, r1_every=2, gan_start=2, gan_warmup=3, partial_scales=0.5
            ),
            discriminator=DiscriminatorConfig(channels=4, layers=2, temporal_layers=1),
            optim=optim,
            discriminator_optim=optim,
            loop=LoopConfig(accumulate=2, ema_decay=0.9),
        )
    return GeneratorModule(
        GeneratorConfig(latent_dim=8, width=32, depth=1, heads=2),
        tokenizer=str(folder.parents[1] / "tokenizer"),
        teaching=TeachingConfig(condition_drop=0.3, frame_mask=0.3),
        optim=optim,
        loop=LoopConfig(ema_decay=0.9),
    )


def make_data(folder: Path, workers: int) -> MixedDataModule:
    return MixedDataModule(
        root=str(folder.parents[1] / "clips"),
        stages=[Stage(until=5, resolution=16, frames=5, batch_size=2), Stage(resolution=32, frames=9, batch_size=1)],
        reading=Reading(crop="random", flip=True),
        loading=Loading(workers=workers, epoch_batches=6),
        evaluation=Evaluation(clips=2, batch_size=1),
    )


def main(kind: str, folder: Path, workers: int, point: str | None = None) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    watch = Watch(point)
    # every third batch, so that a kill loses work; at a validation, which falls inside an accumulation window
    every = ModelCheckpoint(folder, save_last=True, every_n_train_steps=2 if kind == "tokenizer" else 3)
    at_validation = ModelCheckpoint(folder / "val", save_on_train_epoch_end=False, save_last=True)
    callbacks = [watch, every, at_validation, StageSwitch(), HealthMonitor(every=1, readings=2)]
    if kind == "generator":
        callbacks.append(FlipSchedule(first_batch=1, last_batch=6, start=0.0, end=0.25))
    trainer = Trainer(
        max_epochs=-1,
        max_steps=BATCHES // 2 if kind == "tokenizer" else BATCHES,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
    )
    module = make_module(kind, folder)
    trainer.fit(module, make_data(folder, workers), ckpt_path="last")
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    torch.save({"losses": watch.losses, "weights": weights, "ema": module.ema.weights}, folder / "result.pt")


def apart(*arguments: Any) -> int | None:
    """`main` in a process of its own, which need not import everything again; returns its exit code.

    One that hangs is ended, and its loader's workers with it: None.
    """
    process = get_context("fork").Process(target=main, args=arguments)
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        return None
    return process.exitcode


if __name__ == "__main__":
    which, place, loaders = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    assert apart(which, place / "whole", loaders) == 0
    for point in sys.argv[4:]:
        ended = apart(which, place / point, loaders, point)
        worker_first = loaders > 0 and point[0].isdigit()  # a loader's worker meets the limit and ends the run with 1
        assert ended in (-signal.SIGKILL, -signal.SIGXFSZ) or (worker_first and ended == 1), (point, ended)
        assert not (place / point / "result.pt").exists(), point
        assert apart(which, place / point, loaders) == 0, point
