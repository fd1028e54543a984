"""`videoar fit | validate | test | predict`: Lightning's CLI for either training module."""

from __future__ import annotations

import re
import sys
import warnings
from argparse import ArgumentError
from typing import Any

from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningCLI

from videoar.callbacks.progress import LineProgress
from videoar.data.datamodule import MixedDataModule
from videoar.errors import UserError
from videoar.training.checkpoint_io import SafeCheckpointIO

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class VideoARCLI(LightningCLI):
    """LightningCLI with whole-or-absent checkpoints and a progress display that suits where the output goes.

    `model:` names a module (`class_path`) and its arguments; `data:` holds the arguments of MixedDataModule.
    """

    def _parse_ckpt_path(self) -> None:
        """Nothing: what the YAML and the command line say wins over the hyper-parameters in --ckpt_path.

        Lightning would let the checkpoint override them. A configuration that does not fit the checkpoint's weights
        is an error when they are loaded.
        """

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer", default={})
        plugins = config.get("plugins") or []
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(SafeCheckpointIO())
        trainer = super().instantiate_trainer(plugins=plugins, **kwargs)
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        given = config.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in given):
            callbacks = [*callbacks, TQDMProgressBar() if sys.stderr.isatty() else LineProgress()]
        return super()._instantiate_trainer(config, callbacks)


def run(arguments: list[str]) -> VideoARCLI:
    """Parse and run one training command, e.g. `["fit", "--config", "configs/tokenizer/debug.yaml"]`.

    Raises:
        UserError: a configuration that does not parse; the message names the key.
    """
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    strict: dict[str, Any] = {"exit_on_error": False}
    try:
        return VideoARCLI(
            LightningModule,
            MixedDataModule,
            subclass_mode_model=True,
            args=arguments,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={**strict, **{name: dict(strict) for name in SUBCOMMANDS}},
        )
    except ArgumentError as error:
        raise UserError(explain(str(error))) from error


def explain(message: str) -> str:
    """The heart of jsonargparse's message: which key, and what is wrong with it."""
    text = " ".join(message.split())
    inner = re.search(r"Problem with given class_path '([^']+)': (.*?)(?: - Expected a <class 'NoneType'>|$)", text)
    return f"{inner[1]}: {inner[2]}" if inner else text
