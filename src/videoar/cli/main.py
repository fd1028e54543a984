"""The console script `videoar`: training through LightningCLI, everything else one module a command.

Nothing heavy is imported here, so that `videoar --help` and every `videoar COMMAND --help` answer at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from videoar.errors import UserError, dead_worker

TRAINING = {
    "fit": "train the tokenizer or the generator",
    "validate": "run the validation set through a checkpoint",
    "test": "run the test set through a checkpoint",
    "predict": "tokenizer: write the latents of a data set, to train the generator without decoding video",
}

COMMANDS: dict[str, tuple[str, str]] = {
    "data": ("videoar.cli.data", "make, unpack and check data sets"),
    "sample": ("videoar.cli.sample", "generate videos from labels, prompts, images or clips"),
    "reconstruct": ("videoar.cli.reconstruct", "pass a video through the tokenizer"),
    "evaluate": ("videoar.cli.evaluate", "compare a folder of generated videos with real ones"),
    "compare": ("videoar.cli.compare", "put checkpoints side by side: same clips and seeds, as pictures"),
    "sweep": ("videoar.cli.sweep", "run many trainings from one search space"),
    "convert": ("videoar.cli.convert", "turn other projects' weights into ours"),
    "export": ("videoar.cli.export", "turn a checkpoint into a folder of safetensors, or of ONNX graphs"),
    "app": ("videoar.cli.app", "sample and reconstruct in the browser"),
    "benchmark": ("videoar.cli.benchmark", "time tokenizer, generator and data on this machine"),
    "plan": ("videoar.cli.plan", "memory and time that a run will need, before it runs"),
    "demo": ("videoar.cli.demo", "data, training and samples in minutes"),
}

TRAINING_HELP = """\
usage: videoar {command} --config FILE [--config FILE ...] [--SECTION.KEY VALUE ...]

{summary}

options:
  -c, --config FILE      a YAML of configs/; several compose, and the later wins
  --ckpt_path PATH       {checkpoint}
  --seed_everything N    seed of the run (default 0)
  --trainer.KEY VALUE    any argument of Lightning's Trainer, e.g. --trainer.max_steps 1000
  --model.KEY VALUE      any argument of the module, e.g. --model.optim.lr 2e-4
  --data.KEY VALUE       any argument of the data module
  --print_config         print the whole configuration, defaults included, and exit
  --debug                show the traceback of an error
  -h, --help             this page
  --help-all             every argument with its documentation (slow: loads torch and Lightning)

examples:
  videoar {command} --config configs/tokenizer/debug.yaml
  videoar {command} --config configs/generator/atari.yaml --config configs/hardware/gpu.yaml
"""

CHECKPOINT_HELP = {
    "fit": "go on from this checkpoint; `last`: the newest one of this run's folder",
    "validate": "the checkpoint to validate",
    "test": "the checkpoint to test",
    "predict": "the checkpoint whose tokenizer encodes",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0, 2 for bad input (one line on stderr), 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("VIDEOAR_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("videoar: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not debug:
            error = dead_worker(error) or error
        if debug or not _is_bad_input(error):
            raise
        hint = "" if isinstance(error, UserError) else " (--debug shows where)"
        print(f"videoar: error: {one_line(error)}{hint}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if command == "--version":
        from videoar import __version__

        print(f"videoar {__version__}")
        return 0
    if command in TRAINING:
        return _train(command, rest)
    if command in COMMANDS:
        return _command(command, rest)
    known = ", ".join([*TRAINING, *COMMANDS])
    print(f"videoar: error: unknown command {command!r}; there are {known}", file=sys.stderr)
    return 2


def _overview() -> str:
    rows = [f"  {name:12} {text}" for name, text in TRAINING.items()]
    rows += [f"  {name:12} {text}" for name, (_, text) in COMMANDS.items()]
    return (
        "usage: videoar COMMAND [options]\n\nVideoAR: autoregressive video generation by next-frame and"
        " next-scale prediction.\n\ncommands:\n" + "\n".join(rows) + "\n\n`videoar COMMAND --help` explains a command."
    )


def _train(command: str, arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments or not arguments:
        summary = TRAINING[command][0].upper() + TRAINING[command][1:] + "."
        print(TRAINING_HELP.format(command=command, summary=summary, checkpoint=CHECKPOINT_HELP[command]), end="")
        return 0 if arguments else 2
    _log_to_stderr()
    from videoar.cli.training import run

    if "--help-all" in arguments:
        from videoar.cli.keys import reference

        with suppress(SystemExit):
            run([command, "--help"])
        print(reference())
        return 0
    run([command, *arguments])
    return 0


def _command(name: str, arguments: list[str]) -> int:
    parsed = make_parser(name).parse_args(arguments)
    _log_to_stderr()
    return import_module(COMMANDS[name][0]).run(parsed) or 0


def make_parser(name: str) -> argparse.ArgumentParser:
    """The options of one of `COMMANDS`."""
    path, summary = COMMANDS[name]
    module = import_module(path)
    parser = _Parser(
        prog=f"videoar {name}",
        description=module.__doc__ or summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line and whose values are not empty; its subparsers are of this class too."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for word in args or ():
            if word.startswith("--") and word.endswith("=--"):  # argparse takes the value out, and then misses it
                self.error(f"argument {word[:-3]}: '--' is no value")
        return super().parse_known_args(args, namespace)

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        if not text.strip():  # the empty name of a path is the current folder, and an empty choice would be none
            raise argparse.ArgumentError(action, "must not be empty")
        return super()._get_value(action, text)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def _log_to_stderr() -> None:
    """Show the package's own log lines, once, whoever set up logging before."""
    logger = logging.getLogger("videoar")
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        handler.addFilter(lambda record: record.levelno > logging.INFO or _first_rank())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _first_rank() -> bool:
    """Whether this process is the one of its run that speaks: what is worth knowing once is not said by all ranks."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank), "0") == "0"


def _is_bad_input(error: BaseException) -> bool:
    """Errors that a user can correct: bad values, files that are missing or cannot be written, bad configs."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, ValueError | OSError) or bool(names & {"ArgumentError", "MisconfigurationException"})


def one_line(error: BaseException | str) -> str:
    """An error's message on one line; of an error that comes from a data loader's worker, the original message."""
    text = str(error) or type(error).__name__
    if "Original Traceback (most recent call last)" in text:
        last = text.strip().splitlines()[-1]
        text = last.split(": ", 1)[-1]
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
