"""CPU milliseconds that a training step takes beside its networks and losses: our Python, logging, Lightning.

OMP_NUM_THREADS=1 python benchmarks/step_overhead.py --out benchmarks/results/performance    # half a minute on one core
OMP_NUM_THREADS=1 python benchmarks/step_overhead.py --tiny                                   # what the tests run

Networks of a few channels train in a real Trainer. The time of what `operations.py` counts (forward, losses, backward,
clipping, optimizer, average) is measured with the step and taken off. A *shown* step is one whose figures go
to loggers; by default every 50th is. `yardstick` is 1,000 additions of two numbers, on the same core at the same time.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from torch.utils.data import DataLoader

from videoar.files import atomic_path
from videoar.generator.model import GeneratorConfig
from videoar.provenance import commit, versions
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training import base, generator_module
from videoar.training.generator_module import GeneratorModule
from videoar.training.objective import TokenizerLossConfig
from videoar.training.tokenizer_module import TokenizerModule

TOKENIZER = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
GENERATOR = GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2)
BATCH = {"video": torch.zeros(1, 3, 5, 32, 32), "label": torch.tensor([1]), "caption": ["a"], "path": ["x"]}


class Empty(LightningModule):
    """A step that does nothing: what Lightning takes."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> None: ...


class Clock(Callback):
    """CPU time from each batch to the next, less what was spent in calls that are `apart`."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.networks = 0.0
        self._began: float | None = None
        self._depth = 0

    def on_train_batch_start(self, *_: Any) -> None:
        now = time.process_time()
        if self._began is not None:
            self.steps.append(1000 * (now - self._began - self.networks))
        self._began, self.networks = time.process_time(), 0.0

    def apart(self, owner: Any, *names: str) -> None:
        """The time of these methods of `owner` does not count."""
        for name in names:
            setattr(owner, name, self.timed(getattr(owner, name)))

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, whose time does not count."""

        def run(*args: Any, **how: Any) -> Any:
            began, self._depth = time.process_time(), self._depth + 1
            try:
                return call(*args, **how)
            finally:
                self._depth -= 1
                self.networks += 0.0 if self._depth else time.process_time() - began

        return run

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Take networks and losses off."""
        if isinstance(module, Empty):
            return
        self.apart(module, "manual_backward")
        self.apart(module.ema, "update")
        self.apart(module.tokenizer, "encode", "quantize")
        if isinstance(module, TokenizerModule):
            self.apart(module.tokenizer.decoder, "forward")
            self.apart(module.discriminator, "forward")
            self.apart(module.objective, "forward", "discriminator_terms")
        else:
            self.apart(module.network, "forward", "lesson", "condition")
        for optimizer in trainer.optimizers:
            self.apart(optimizer, "step")


def tokenizer() -> LightningModule:
    """With its discriminator, LeCAM, entropy and gradients at several scales."""
    losses = TokenizerLossConfig(perceptual_net="multiscale_gradient", lecam=0.1)
    critic = DiscriminatorConfig(channels=4, layers=2, temporal_layers=1)
    return TokenizerModule(TOKENIZER, losses=losses, discriminator=critic)


def generator_of(folder: Path) -> LightningModule:
    """On pixels, with corruption and dropped conditions."""
    VideoTokenizer(TOKENIZER).save_pretrained(folder / "tokenizer")
    return GeneratorModule(GENERATOR, str(folder / "tokenizer"))


def overhead(module: LightningModule, steps: int, shown: bool, folder: Path) -> float:
    """Median CPU milliseconds of a step beside the networks, in a Trainer that shows loggers every step, or none."""
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu", max_steps=-1, max_epochs=1, logger=DummyLogger() if shown else False,
        log_every_n_steps=1 if shown else 10**6, callbacks=[clock], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    apart = ((base, "clip_gradients"), (generator_module, "bitwise_loss"))
    with ExitStack() as stack:
        for room, name in apart:
            stack.enter_context(mock.patch.object(room, name, clock.timed(getattr(room, name))))
        trainer.fit(module, DataLoader([BATCH] * (steps + 5), batch_size=None))
    return statistics.median(clock.steps[5:])


def yardstick() -> float:
    """Median CPU milliseconds of 1,000 additions of two numbers."""
    a, times = torch.ones(()), []
    for _ in range(30):
        began = time.process_time()
        for _ in range(1000):
            a + a
        times.append(1000 * (time.process_time() - began))
    return round(statistics.median(times), 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few steps: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"), help="folder of step_overhead.json")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    steps, found = 3 if args.tiny else 150, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = {"empty": Empty, "tokenizer": tokenizer, "generator": lambda: generator_of(folder)}
        for kind, make in kinds.items():
            for shown in (False, True):
                what = f"{kind}, {'shown' if shown else 'plain'}"
                found[what] = round(overhead(make(), steps, shown, folder), 2)
                print(f"{what:18} {found[what]:6.2f} ms", flush=True)
    found["yardstick"] = yardstick()
    print(f"yardstick          {found['yardstick']:6.2f} ms")
    content = {"milliseconds": found, "steps": steps, "threads": torch.get_num_threads()}
    with atomic_path(args.out / "step_overhead.json") as path:
        path.write_text(json.dumps(content | {"versions": versions(), "commit": commit()}, indent=1) + "\n")
    print(f"wrote {args.out / 'step_overhead.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
