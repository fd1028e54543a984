"""Two processes (gloo, CPU) train on halves of each batch; they stop after one step and resume for the second.

    python two_ranks.py KIND FOLDER     KIND: tokenizer (DDP) or generator (FSDP2, i.e. ModelParallelStrategy)

FOLDER holds `batches.pt`, a list of joint batches, and `tokenizer/`. The weights go to FOLDER/weights.pt.
"""

import logging
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from videoar.bits.corruption import CorruptionConfig
from videoar.generator.model import GeneratorConfig
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import TokenizerConfig
from videoar.training.base import LoopConfig
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.generator_module import GeneratorModule, TeachingConfig
from videoar.training.objective import TokenizerLossConfig
from videoar.training.optim import OptimConfig
from videoar.training.tokenizer_module import TokenizerModule


class Halves(LightningDataModule):
    """Each rank's share of the joint batches, from the first that has not been seen."""

    def __init__(self, batches: list) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        seen = self.trainer.lightning_module.batches_seen
        mine = [{key: value[rank::world] for key, value in batch.items()} for batch in self.batches[seen:]]
        return torch.utils.data.DataLoader(mine, batch_size=None)


def make(kind: str, folder: Path) -> TokenizerModule | GeneratorModule:
    torch.manual_seed(0)
    optim, loop = OptimConfig(lr=1e-3, schedule="constant", clip=0.5), LoopConfig(ema_decay=0.9)
    if kind == "tokenizer":
        return TokenizerModule(
            TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4),
            losses=TokenizerLossConfig(
                perceptual=0.0, entropy=0.0, lecam=0.1, r1=1.0, r1_every=1, adaptive_gan=True
            ),  # the codebook entropy is of each rank's own tokens
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


def fit(kind: str, folder: Path, steps: int, ckpt_path: Path | None = None, **trainer: object) -> Trainer:
    options = {"accelerator": "cpu", "max_epochs": -1, "max_steps": steps, "default_root_dir": folder}
    options |= dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    result = Trainer(**options, plugins=[SafeCheckpointIO()], use_distributed_sampler=False, **trainer)
    result.fit(make(kind, folder), Halves(torch.load(folder / "batches.pt")), ckpt_path=ckpt_path)
    return result


def main(kind: str, folder: Path) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    first = fit(kind, folder, 1, devices=2, strategy=strategy_of(kind))
    first.save_checkpoint(folder / "one.ckpt")
    second = fit(kind, folder, 2, folder / "one.ckpt", devices=2, strategy=strategy_of(kind))
    second.save_checkpoint(folder / "two.ckpt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
