"""For the tests of several rooms: the smallest real modules, a Trainer to run them, and videos to measure."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from videoar.generator.model import GeneratorConfig
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import TokenizerConfig
from videoar.training.base import LoopConfig
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.objective import TokenizerLossConfig
from videoar.training.optim import OptimConfig
from videoar.training.tokenizer_module import TokenizerModule

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
TOKENIZER = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
GENERATOR = GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2)


def make_clips(count: int, frames: int = 5, size: int = 16, seed: int = 0, batch: int = 2) -> list[dict[str, Any]]:
    """`count` batches of smooth random clips in [-1, 1] with labels 0 and 1."""
    rng = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        coarse = torch.randn(batch, 3, frames, 4, 4, generator=rng)
        video = torch.nn.functional.interpolate(coarse, (frames, size, size), mode="trilinear").tanh()
        label = torch.arange(batch) % 2
        names = [("pong", "breakout")[i] for i in label]
        batches.append({"video": video, "label": label, "caption": names, "path": ["x"] * batch})
    return batches


class ListData(lightning.LightningDataModule):
    """Given batches, in order."""

    def __init__(self, train: Sequence[Any], val: Sequence[Any] = (), class_names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.train, self.val, self.class_names = list(train), list(val), class_names

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader | list:
        return DataLoader(self.val, batch_size=None) if self.val else []

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=None)


def make_tokenizer_module(
    losses: dict[str, Any] | None = None, optim: dict[str, Any] | None = None, **loop: Any
) -> TokenizerModule:
    """A tiny TokenizerModule, the same weights every time."""
    torch.manual_seed(0)
    given = {"perceptual": 0.0, "entropy": 0.0, "lecam": 0.0} | (losses or {})
    config = OptimConfig(**({"lr": 1e-3, "schedule": "constant"} | (optim or {})))
    return TokenizerModule(
        TOKENIZER,
        losses=TokenizerLossConfig(**given),
        discriminator=DiscriminatorConfig(channels=4, layers=2, temporal_layers=1),
        optim=config,
        discriminator_optim=config,
        loop=LoopConfig(**loop),
    )


@pytest.fixture(scope="session")
def debug_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of configs/sweeps/debug.yaml, finished, with one seed: rendered games, a tokenizer, two generators.

    Real, with random-looking pictures: the models train for a few batches. All test processes share it.
    """
    repository = Path(__file__).parents[1]
    spec = yaml.safe_load((repository / "configs" / "sweeps" / "debug.yaml").read_text()) | {"seeds": [0]}
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "debug_sweep"
    with (shared / "debug_sweep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "results.csv").exists():
            path = shared / "debug.yaml"
            path.write_text(yaml.safe_dump(spec, sort_keys=False))
            command = [sys.executable, "-m", "videoar", "sweep", str(path), "--out", str(out)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], tuple[int, str]]:
    """Runs one command line in this process: (exit code, stderr), wherever the code comes from."""
    from videoar.cli.main import main

    def run(arguments: Sequence[str]) -> tuple[int, str]:
        try:
            code = main(list(arguments))
        except SystemExit as stop:  # a parser's own way out
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return run


@pytest.fixture
def clips() -> Callable[..., list[dict[str, Any]]]:
    """Makes batches of clips."""
    return make_clips


@pytest.fixture
def list_data() -> type[ListData]:
    """A data module of given batches."""
    return ListData


@pytest.fixture
def tokenizer_module() -> Callable[..., TokenizerModule]:
    """Makes a tiny TokenizerModule."""
    return make_tokenizer_module


@pytest.fixture
def fit(tmp_path) -> Callable[..., lightning.Trainer]:
    """Fit a module on batches; returns the Trainer."""

    def run(module: Any, data: Any, **trainer: Any) -> lightning.Trainer:
        data = data if isinstance(data, lightning.LightningDataModule) else ListData(data)
        ckpt_path = trainer.pop("ckpt_path", None)
        options = {
            "max_epochs": 1,
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "plugins": [SafeCheckpointIO()],
        }
        result = lightning.Trainer(**(options | trainer))
        result.fit(module, data, ckpt_path=ckpt_path)
        return result

    return run


@pytest.fixture
def gradients(monkeypatch) -> dict[str, list[torch.Tensor]]:
    """Gradients as the optimizers of `tokenizer` and `discriminator` see them, one flat tensor a step."""
    from videoar.training import tokenizer_module as module

    seen: dict[str, list[torch.Tensor]] = {"VideoTokenizer": [], "VideoDiscriminator": []}
    original = module.make_optimizer

    def spy(network: torch.nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
        optimizer = original(network, config)
        record = seen[type(network).__name__]
        optimizer.register_step_pre_hook(
            lambda opt, *_: record.append(
                torch.cat([p.grad.flatten() for g in opt.param_groups for p in g["params"]]).clone()
            )
        )
        return optimizer

    monkeypatch.setattr(module, "make_optimizer", spy)
    return seen


@pytest.fixture
def clip() -> Callable[..., torch.Tensor]:
    """Random smooth videos [B, 3, T, H, W] in [-1, 1] that move one pixel a frame."""

    def make(batch: int = 2, frames: int = 5, size: tuple[int, int] = (32, 40), seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(batch, 3, 8, 8, generator=generator) * 1.8 - 0.9
        image = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
        return torch.stack([image.roll(t, -1) for t in range(frames)], dim=2)

    return make


WORDS = ["a", "red", "ball", "bounces", "over", "the", "blue", "paddle", "twice", "</s>", "<pad>", "<unk>"]


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory) -> str:
    """Folder of a real, tiny T5 encoder (24 features) with random weights and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = T5Config(vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def contexts_of():
    """Contexts [B, L, F] and bits [B, L, D] in token order of clips whose codes are known, frame by frame.

    Written from the definition, part by part, and differentiable in the codes: one [B, T, h, w, D] a scale.
    """
    from videoar.bits.residual import advance, context

    def make(codes, pyramid, temporal="every_scale", order="scales"):
        tokens, bits, previous = [], [], torch.zeros(len(codes[0]), codes[0].shape[-1], 1, *pyramid.full)
        for t in range(codes[0].shape[1]):
            seen = torch.zeros_like(previous)
            for k, grid in enumerate(pyramid.grids):
                code, before, mask = codes[k][:, t : t + 1].movedim(-1, 1), seen, torch.zeros(grid)
                for rows, columns in pyramid.parts(k, order):
                    seen = advance(before, code * mask, pyramid)
                    shown = context(seen, previous, pyramid, k, temporal, order)
                    tokens.append(shown[..., rows, columns].flatten(2).mT)
                    bits.append(code[..., rows, columns].flatten(2).mT > 0)
                    mask = mask.clone()  # autograd remembers the one before
                    mask[rows, columns] = 1
                seen = advance(before, code, pyramid)
            previous = seen
        return torch.cat(tokens, dim=1), torch.cat(bits, dim=1)

    return make
