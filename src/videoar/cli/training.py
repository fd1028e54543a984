"""`videoar fit | validate | test | predict`: Lightning's CLI for either training module."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from videoar import callbacks as our_callbacks
from videoar.callbacks.progress import LineProgress, RunProgress
from videoar.callbacks.stop_signals import StopSignals
from videoar.cli.arguments import prepared
from videoar.cli.keys import suggestion
from videoar.data.datamodule import MixedDataModule
from videoar.errors import UserError
from videoar.files import only_writer, remove_partial, writing
from videoar.moved import explained
from videoar.ranges import SEED
from videoar.training.base import TrainingModule
from videoar.training.checkpoint import newest_in
from videoar.training.checkpoint_io import SafeCheckpointIO
from videoar.training.precision import check_precision, machine_precision
from videoar.training.run_folder import (
    checkpoint_folders,
    checkpoint_to_load,
    next_command,
    refuse_mixture,
    set_aside,
)
from videoar.training.trainer_options import check_trainer

log = logging.getLogger(__name__)
SUBCOMMANDS = ("fit", "validate", "test", "predict")


class VideoARCLI(LightningCLI):
    """LightningCLI with whole-or-absent checkpoints, run folders that never mix, and stops that lose nothing.

    `model:` names a module (`class_path`) and its arguments; `data:` holds the arguments of MixedDataModule, or names
    a data module of one's own in the same way.

    Args:
        words: the command line, for what is said about going on.
    """

    def __init__(self, words: list[str], **kwargs: Any) -> None:
        self.words, self.stop = words, StopSignals(words)
        with self.stop.installed(), ExitStack() as self._held:
            super().__init__(**kwargs)

    def _parse_ckpt_path(self) -> None:
        """Nothing: what the YAML and the command line say wins over the hyper-parameters in --ckpt_path.

        Lightning would let the checkpoint override them. A configuration that does not fit the checkpoint's weights
        is an error when they are loaded.
        """

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool):
            SEED.check("seed_everything", seed)
        super()._set_seed()

    @property
    def root(self) -> Path:
        """The run's folder: `trainer.default_root_dir`, or outputs/ and what is trained."""
        given = self._get(self.config_init, "trainer", default={}).get("default_root_dir")
        return Path(given or Path("outputs") / getattr(self.model, "kind", type(self.model).__name__.lower()))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer of the configuration; what that leaves open is filled in here."""
        config = self._get(self.config_init, "trainer", default={})
        check_precision(config.get("precision"))
        plugins, callbacks = as_list(config.get("plugins")), as_list(config.get("callbacks"))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(SafeCheckpointIO())
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(RunProgress() if sys.stderr.isatty() else LineProgress())
        logger = config.get("logger")
        if logger in (None, True):  # a fit's folder is its own, so resuming goes on in it; the others count versions
            fit = self.subcommand == "fit"
            logger = TensorBoardLogger(str(self.root), name="" if fit else self.subcommand, version="" if fit else None)
        given = {"plugins": plugins, "callbacks": callbacks, "logger": logger, "default_root_dir": str(self.root)}
        if config.get("precision") is None:
            given["precision"] = machine_precision(str(config.get("accelerator") or "auto"))
            log.info("precision %s, which is fast on this machine (trainer.precision)", given["precision"])
        trainer = super().instantiate_trainer(**given, **kwargs)
        trainer.callbacks.append(self.stop)  # type: ignore[attr-defined]  # behind the checkpoints, too
        return trainer

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """What the Trainer's method is called with: the checkpoint found, another run's folder refused, one's own held.

        What is wrong with the Trainer, the data or the checkpoint is said before anything is written.

        Raises:
            UserError: fit into the folder of another run, or of one that goes on; or anything else without weights.
        """
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        fit, given = subcommand == "fit", kwargs.get("ckpt_path")
        if isinstance(self.model, TrainingModule):
            check_trainer(self.trainer, self.model.kind, fit)
        folders = checkpoint_folders(self.trainer) if fit else []
        path = kwargs["ckpt_path"] = checkpoint_to_load(given, self.root, folders)
        if isinstance(self.datamodule, MixedDataModule):
            self.datamodule.look(fit)
        own = self._get(self.config_init, "trainer", default={}).get("fast_dev_run")
        if fit and not own:
            refuse_mixture(self.root, folders, path)
            if self.trainer.is_global_zero:
                self._held.enter_context(only_writer(self.root))
                for folder in folders:
                    remove_partial(folder)
                if path is None:
                    set_aside(self.root)
        if not fit and path is None and not _has_weights(self.model):
            raise UserError(
                f"{subcommand} needs trained weights: --ckpt_path with a checkpoint, a run's folder, or `last` for the"
                f" newest of {self.root}"
            )
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it; a logger on a full or read-only disk is one line, too (each writes in its own way).

        Raises:
            UserError: the disk is full or not writable.
        """
        with writing(self.root), one_report_of_threads():
            super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Say where the weights are and what to do with them."""
        folders = checkpoint_folders(self.trainer)
        found = newest_in(*folders)
        if self.trainer.is_global_zero and found is not None:
            kind = getattr(self.model, "kind", "")
            print(f"saved {found}; next: {next_command(kind, self.root, self.words, self.datamodule)}")


@contextmanager
def one_report_of_threads() -> Iterator[None]:
    """Prints no traceback of a logger's thread that cannot write: the main thread raises the same error."""
    before = threading.excepthook
    threading.excepthook = lambda said: None if issubclass(said.exc_type, OSError) else before(said)
    try:
        yield
    finally:
        threading.excepthook = before


def _has_weights(model: Any) -> bool:
    """Whether a module has trained weights without a checkpoint: it begins with another's, or is none of ours."""
    return not isinstance(model, TrainingModule) or getattr(model, "init_from", None) is not None


def run(arguments: list[str]) -> VideoARCLI:
    """Parse and run one training command, e.g. `["fit", "--config", "configs/tokenizer/debug.yaml"]`.

    Raises:
        UserError: a configuration that does not parse; the message names the key.
    """
    known = (
        "does not have many workers",
        "pre-optimization state",
        "isinstance.treespec, LeafSpec",
        "predict returned None",
    )
    for harmless in (*known, "overridden .on_before_batch_transfer"):  # our check of a batch, wherever it comes from
        warnings.filterwarnings("ignore", f".*{harmless}")
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    rank_zero.addFilter(
        lambda record: "litlogger" not in record.getMessage() and "litmodels" not in record.getMessage()
    )
    warnings.filterwarnings("ignore", "LightningCLI's args parameter.*")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's calls, not of ours
    strict: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
    for name in our_callbacks.HOME:  # the parser knows the short names of what is imported
        getattr(our_callbacks, name)
    words, own_data = prepared(arguments)
    try:
        return VideoARCLI(
            arguments,
            model_class=LightningModule,
            datamodule_class=LightningDataModule if own_data else MixedDataModule,
            subclass_mode_model=True,
            subclass_mode_data=own_data,
            args=words,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False},
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={**strict, **{name: dict(strict) for name in SUBCOMMANDS}},
        )
    except ArgumentError as error:
        raise UserError(_explained(error)) from error
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        if not _while_resuming(error):
            raise
        raise UserError(f"the checkpoint does not fit this training: {error}") from error
    except ValueError as error:
        if "Does not validate" not in str(error):  # jsonargparse wraps what a constructor raises
            raise
        raise UserError(_explained(error)) from error


def _explained(error: Exception) -> str:
    text = explain(str(error))
    return text + suggestion(text)


def _while_resuming(error: BaseException) -> bool:
    """Whether Lightning raised it as it took up a checkpoint's state."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(Path(frame.f_code.co_filename).name == "checkpoint_connector.py" for frame, _ in frames)


def as_list(value: Any) -> list[Any]:
    """None, one thing or a list of things, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def explain(message: str) -> str:
    """jsonargparse's message as `key.path: what is wrong`; of nested unions of types only the innermost counts."""
    text = re.sub(r" Subclass types expect one of: .*?\(implicit class_path\)", "", " ".join(message.split()))
    text = explained(text)
    keys = ".".join(re.findall(r'Parser key "([^"]+)":', text))
    heart, _, rest = text.rpartition("Errors: - ")[2].partition(" Given value type: ")
    heart = re.sub(r"Problem with given class_path '([^']*)': (?=No module|module)", r"\1: ", heart)
    heart = re.sub(r"Problem with given class_path '[^']*': |Parser key \"[^\"]+\": ", "", heart)
    expected: list[str] = []
    other: list[str] = []
    parts = heart.split(" - ")
    for part in parts[:1] if "Got value: " in parts[0] else parts:  # what a nested key got; the rest are its parent's
        known = re.match(r"(?:Expected an? |Not a valid subclass of )(<class .*?>|typing\.\S+\[.*?\]|[\w.]+$)", part)
        (expected if known else other).append(_type_name(known[1]) if known else part)
    reason = " - ".join(dict.fromkeys(other)).replace(". Got value: ", ", got ")
    reason = reason.replace("Expected a dot import path string: ", "no class ")
    if expected and not other:
        value = parts[0].partition("Got value: ")[2] or rest.partition("Given value: ")[2].split(" - Expected a")[0]
        reason = f"expected {' or '.join(dict.fromkeys(expected))}, got {value[:80]}"
    return f"{keys}: {reason}" if keys else reason


def _type_name(type_: str) -> str:
    """A type as a writer of YAML knows it."""
    if type_.startswith("typing.Literal["):
        return f"one of {type_[15:-1]}"
    name = re.sub(r"<class '(.*)'>", r"\1", type_).rsplit(".", 1)[-1]
    yaml_names = {"NoneType": "null", "tuple": "a list", "list": "a list", "Iterable": "a list", "dict": "a mapping"}
    return yaml_names.get(name, name)
