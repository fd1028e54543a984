"""Two processes (gloo, CPU) in bf16-mixed: one launch that checks dtypes, losses, collectives and validation."""

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
from torch.utils.data import DataLoader

from videoar.bits.corruption import CorruptionConfig
from videoar.generator.model import GeneratorConfig
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.base import LoopConfig
from videoar.training.generator_module import GeneratorModule, TeachingConfig
from videoar.training.optim import OptimConfig

STEPS = 2
ACCUMULATED = (1, STEPS, STEPS + 1)  # the last is a window that the epoch's end cuts short


def make(tokenizer: Path, accumulate: int) -> GeneratorModule:
    torch.manual_seed(0)
    return GeneratorModule(
        GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2),
        tokenizer=str(tokenizer),
        corruption=CorruptionConfig(mode="off"),
        teaching=TeachingConfig(condition_drop=0.0),
        optim=OptimConfig(lr=3e-3, schedule="constant"),
        loop=LoopConfig(accumulate=accumulate, ema_decay=0.5),
    )


def train(folder: Path, batches: list[dict[str, Any]], strategy: Any, accumulate: int = 1) -> dict[str, Any]:
    """Fit on these batches and validate with the averaged weights: losses, dtypes in a block, gradient reductions."""
    module, seen, losses = make(folder / "tokenizer", accumulate), set(), []
    original = module.training_step

    def step(batch: Any, batch_idx: int) -> Any:
        if batch_idx == 0 and isinstance(strategy, DDPStrategy):
            strategy.model.register_comm_hook(None, lambda _, bucket: reductions.append(1) or average(bucket))
        for block in module.network.blocks if batch_idx == 0 else ():
            block.register_forward_pre_hook(lambda _, inputs: seen.add(("stream", inputs[0].dtype)))
            block.attention.register_forward_pre_hook(lambda _, inputs: seen.add(("rope", inputs[1][0].dtype)))
        result = original(batch, batch_idx)
        losses.append(result["loss"])
        return result

    module.training_step = step
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    devices = 1 if strategy == "auto" else 2
    trainer = Trainer(
        **options, accelerator="cpu", devices=devices, strategy=strategy, precision="bf16-mixed", max_epochs=1,
        num_sanity_val_steps=0, use_distributed_sampler=False, inference_mode=False, default_root_dir=folder,
    )  # fmt: skip
    reductions = []
    trainer.fit(module, DataLoader(batches, batch_size=None))
    loss = torch.stack([trainer.strategy.reduce(x.clone(), reduce_op="mean") for x in losses])
    validated = trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)[0]["val/loss"]
    trainer.save_checkpoint(folder / f"{type(strategy).__name__}-{accumulate}.ckpt")
    return {"seen": seen, "loss": loss.tolist(), "reductions": len(reductions), "val": validated}


def average(bucket: Any) -> Any:
    """What DDP does without a hook."""
    work = torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def rank_main(rank: int, port: int, folder: Path, batches: list[dict[str, Any]], answers: Any) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    mine = [{k: v[rank::2] for k, v in batch.items()} for batch in batches]
    sharded = ModelParallelStrategy(2, 1, save_distributed_checkpoint=False, process_group_backend="gloo")
    results = {"fsdp": train(folder, mine, sharded, accumulate=1)}
    for accumulate in ACCUMULATED:
        together = DDPStrategy(process_group_backend="gloo")
        results[f"ddp {accumulate}"] = train(folder, mine, together, accumulate)
    if rank == 0:
        answers.send(results)


@pytest.mark.slow
def test_two_ranks_in_bfloat16_are_one_device(clips, tmp_path):
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    VideoTokenizer(config).save_pretrained(tmp_path / "tokenizer")
    batches = clips(STEPS, batch=4)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)
    ranks = [context.Process(target=rank_main, args=(r, port, tmp_path, batches, send)) for r in range(2)]
    for process in ranks:
        process.start()
    found = receive.recv() if receive.poll(400) else {}
    for process in ranks:
        process.join(20)
        process.kill()
    alone = train(tmp_path, batches, "auto")
    for strategy in ("fsdp", "ddp 1"):
        together = found[strategy]
        assert together["seen"] == alone["seen"] == {("stream", torch.float32), ("rope", torch.float32)}
        assert together["loss"] == pytest.approx(alone["loss"], abs=2e-3), strategy
        assert together["val"] == pytest.approx(alone["val"], abs=2e-3), strategy
    reduced = [found[f"ddp {accumulate}"]["reductions"] for accumulate in ACCUMULATED]
    assert reduced[0] == STEPS * reduced[1] > 0, "gradients are averaged once a window"
    assert reduced[2] == reduced[1] and found[f"ddp {ACCUMULATED[2]}"]["val"] == found[f"ddp {STEPS}"]["val"]
    names = ("ModelParallelStrategy", "DDPStrategy", "str")
    contents = [torch.load(tmp_path / f"{name}-1.ckpt", weights_only=True) for name in names]
    assert len({tuple(content["state_dict"]) for content in contents}) == 1
    assert len({tuple(content["ema"]["weights"]) for content in contents}) == 1
