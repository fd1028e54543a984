"""One run that moves between numbers of ranks and strategies at every checkpoint ends where one process ends.

Four, two and one processes (gloo, CPU), under DDP and FSDP2; every leg also runs the test set with what it has.
"""

from __future__ import annotations

import os
import socket
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from videoar.bits.corruption import CorruptionConfig
from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.items import Source
from videoar.data.loader import Loading
from videoar.data.writers import write_mp4
from videoar.generator.model import GeneratorConfig
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.base import LoopConfig
from videoar.training.checkpoint import read_checkpoint
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.generator_module import GeneratorModule, TeachingConfig
from videoar.training.optim import OptimConfig
from videoar.training.tokenizer_module import TokenizerModule

LEGS = ((4, "ddp"), (2, "fsdp"), (1, "one"), (4, "fsdp"), (2, "ddp"))
TOKENIZER = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)


def strategy_of(name: str, world: int) -> Any:
    if name == "ddp":
        return DDPStrategy(process_group_backend="gloo")
    if name == "fsdp":
        return ModelParallelStrategy(world, 1, save_distributed_checkpoint=False, process_group_backend="gloo")
    return "auto"


def leg(folder: Path, batches: list[dict[str, Any]], number: int, world: int, name: str, rank: int = 0) -> list[float]:
    """One more step on this rank's share of batch `number`, a checkpoint, and the last batch's loss in both loops."""
    torch.manual_seed(0)
    module = GeneratorModule(
        GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2),
        tokenizer=str(folder / "tokenizer"),
        corruption=CorruptionConfig(mode="off"),
        teaching=TeachingConfig(condition_drop=0.0),
        optim=OptimConfig(lr=3e-3, schedule="constant"),
        loop=LoopConfig(ema_decay=0.5),
    )
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(
        **options, accelerator="cpu", devices=world, strategy=strategy_of(name, world), max_steps=number + 1,
        max_epochs=-1, use_distributed_sampler=False, inference_mode=False,
        plugins=[SafeCheckpointIO()], default_root_dir=folder,
    )  # fmt: skip
    mine = [{k: v[rank::world] for k, v in batch.items()} for batch in batches]
    earlier = folder / f"{number - 1}.ckpt" if number else None
    trainer.fit(module, DataLoader([mine[number]], batch_size=None), ckpt_path=earlier)
    trainer.save_checkpoint(folder / f"{number}.ckpt")
    loader = DataLoader(mine[-1:], batch_size=None)
    logged = trainer.test(module, loader, verbose=False)[0] | trainer.validate(module, loader, verbose=False)[0]
    return [logged["test/loss"], logged["val/loss"]]


def predict(folder: Path, latents: str, world: int) -> int:
    """Write the latents of all clips; returns how many batches this rank had."""
    torch.manual_seed(0)
    module = TokenizerModule(TOKENIZER, latents_dir=str(folder / latents))
    data = MixedDataModule(
        sources=[Source(str(folder / "clips"), holdout=0.0)],
        stage=Stage(resolution=16, frames=5, batch_size=2),
        loading=Loading(workers=0),
    )
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    strategy = strategy_of("ddp" if world > 1 else "one", world)
    trainer = Trainer(
        **options, accelerator="cpu", devices=world, strategy=strategy, use_distributed_sampler=False,
        default_root_dir=folder,
    )  # fmt: skip
    return len(trainer.predict(module, data) or ())


def rank_main(rank: int, port: int, job: Any, arguments: Any, answers: Any) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    answer = job(*arguments, rank) if job is leg else job(*arguments)
    if rank == 0:
        answers.send(answer)


def launched(world: int, job: Any, *arguments: Any) -> Any:
    """What the first of `world` processes of a job answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)
    ranks = [context.Process(target=rank_main, args=(rank, port, job, arguments, send)) for rank in range(world)]
    for process in ranks:
        process.start()
    assert receive.poll(600), f"no answer of {job.__name__} with {world} ranks"
    for process in ranks:
        process.join(20)
        process.kill()
    return receive.recv()


def weights(path: Path) -> torch.Tensor:
    content = read_checkpoint(path)
    both = {**content["state_dict"], **{f"ema.{k}": v for k, v in content["ema"]["weights"].items()}}
    return torch.cat([value.flatten().float() for _, value in sorted(both.items())])


@pytest.mark.slow
def test_a_run_moves_between_ranks_and_strategies(clips, tmp_path):
    torch.manual_seed(0)
    batches = clips(len(LEGS), batch=4)
    moving, still = tmp_path / "moving", tmp_path / "still"
    for folder in (moving, still):
        torch.manual_seed(1)
        VideoTokenizer(TOKENIZER).save_pretrained(folder / "tokenizer")
    moved = [launched(world, leg, moving, batches, n, world, name) for n, (world, name) in enumerate(LEGS)]
    alone = [leg(still, batches, number, 1, "one") for number in range(len(LEGS))]
    for ours, theirs in zip(moved, alone):
        assert ours == pytest.approx(theirs, rel=2e-3) and ours[0] == pytest.approx(ours[1], rel=1e-6)
    assert read_checkpoint(moving / "4.ckpt")["videoar"]["batches_seen"] == len(LEGS)
    ours, theirs, start = weights(moving / "4.ckpt"), weights(still / "4.ckpt"), weights(still / "0.ckpt")
    assert (ours - theirs).abs().mean() < 0.02 * (theirs - start).abs().mean()


@pytest.mark.slow
def test_ranks_predict_every_clip_once(clips, tmp_path):
    for number, video in enumerate(video for batch in clips(4, size=32) for video in batch["video"]):
        if number < 7:  # which four ranks with batches of two cannot share out evenly
            write_mp4(tmp_path / "clips" / ("pong", "breakout")[number % 2] / f"{number}.mp4", video, fps=8)
    predict(tmp_path, "alone", 1)
    for world in (2, 4):
        launched(world, predict, tmp_path, f"ranks{world}", world)
        alone, together = (sorted((tmp_path / name).rglob("*.safetensors")) for name in ("alone", f"ranks{world}"))
        assert [path.name for path in together] == [path.name for path in alone] and len(alone) == 7
        for ours, theirs in zip(together, alone):
            assert torch.allclose(load_file(ours)["latent"].float(), load_file(theirs)["latent"].float(), atol=1e-3)
