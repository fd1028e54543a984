"""Two processes (gloo, CPU) train on halves of each batch; they stop after one step and resume for the second.

    python two_ranks.py KIND FOLDER     KIND: tokenizer (DDP) or generator (FSDP2, i.e. ModelParallelStrategy)

FOLDER holds `clips/` of two classes, `tokenizer/` and `features/`. The checkpoints `one.ckpt` and `two.ckpt` go there,
and `two.json`: what a validation of the second step logs.
"""

import json
import logging
import os
import socket
import sys
import warnings
from multiprocessing import get_context
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from videoar.bits.corruption import CorruptionConfig
from videoar.callbacks.vbench import VBenchMetrics
from videoar.callbacks.video_logger import VideoLogger
from videoar.callbacks.video_metrics import VideoMetrics
from videoar.data.curriculum import Stage
from videoar.data.datamodule import Evaluation, MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.items import Source
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


def make_data(folder: Path, world: int) -> MixedDataModule:
    """Batches of four clips in all, and four to validate with."""
    return MixedDataModule(
        sources=[Source(str(folder / "clips"), holdout=0.4)],
        stage=Stage(resolution=16, frames=5, batch_size=4 // world),
        reading=Reading(crop="random"),
        loading=Loading(workers=0, epoch_batches=10),
        evaluation=Evaluation(clips=4, batch_size=1),
    )


def make(kind: str, folder: Path) -> TokenizerModule | GeneratorModule:
    torch.manual_seed(0)
    optimizer = "adamw" if kind == "tokenizer" else "muon"  # which must gather the sharded matrices
    optim = OptimConfig(optimizer, lr=1e-3, schedule="constant", clip=0.5)
    loop = LoopConfig(ema_decay=0.9)
    if kind == "tokenizer":
        return TokenizerModule(
            TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4),
            losses=TokenizerLossConfig(perceptual=0.0, entropy=0.5, lecam=0.1, r1=1.0, r1_every=1, adaptive_gan=True),
            discriminator=DiscriminatorConfig(channels=4, layers=2, temporal_layers=1),
            optim=optim,
            discriminator_optim=optim,
            loop=loop,
        )
    return GeneratorModule(
        GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2),
        tokenizer=str(folder / "tokenizer"),
        corruption=CorruptionConfig(mode="off"),
        teaching=TeachingConfig(condition_drop=0.0),
        optim=optim,
        loop=loop,
    )


def strategy_of(kind: str) -> Strategy:
    if kind == "tokenizer":
        return DDPStrategy(find_unused_parameters=True, process_group_backend="gloo")
    return ModelParallelStrategy(2, 1, save_distributed_checkpoint=False, process_group_backend="gloo")


def fit(kind: str, folder: Path, steps: int, ckpt_path: Path | None = None, world: int = 1) -> Trainer:
    """Train to `steps`; the last one is validated, with every callback that shows or measures videos."""
    options = {"accelerator": "cpu", "max_epochs": -1, "max_steps": steps, "default_root_dir": folder}
    options |= dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    options |= {"num_sanity_val_steps": 0, "val_check_interval": 2, "check_val_every_n_epoch": None}
    options |= {"devices": world, "strategy": strategy_of(kind), "inference_mode": False} if world > 1 else {}
    callbacks = [VideoMetrics(f"atari:{folder / 'features'}", guidance=2.0), VideoLogger(num=1)]
    if kind == "generator":
        dimensions = ("temporal_flickering", "motion_smoothness")
        callbacks.append(VBenchMetrics(2, [0, 1, 0], (3,), dimensions, frames=5, size=(16, 16), guidance=2.0, batch=1))
    trainer = Trainer(**options, callbacks=callbacks, plugins=[SafeCheckpointIO()], use_distributed_sampler=False)
    trainer.fit(make(kind, folder), make_data(folder, world), ckpt_path=ckpt_path)
    return trainer


def logged(trainer: Trainer) -> dict[str, float]:
    """What validation and VBench logged last."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: value for name, value in values.items() if name.startswith(("val/", "vbench/"))}


def main(rank: int, port: int, kind: str, folder: Path) -> None:
    """What one rank does."""
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    first = fit(kind, folder, 1, world=2)
    first.save_checkpoint(folder / "one.ckpt")
    second = fit(kind, folder, 2, folder / "one.ckpt", world=2)
    second.save_checkpoint(folder / "two.ckpt")
    if second.is_global_zero:
        (folder / "two.json").write_text(json.dumps(logged(second)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    arguments = (free_port(), sys.argv[1], Path(sys.argv[2]))
    ranks = [get_context("fork").Process(target=main, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(any(process.exitcode for process in ranks))
