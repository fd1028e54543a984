"""The command line: exit codes, and errors on one line."""

import argparse
import os
import re
import signal
import time
from importlib import import_module

import pytest
import torch

from videoar.cli import main as cli
from videoar.errors import UserError


def test_every_command_has_its_two_functions():
    for path, summary in cli.COMMANDS.values():
        module = import_module(path)
        assert callable(module.add_arguments) and callable(module.run) and summary


def test_overview_names_every_command(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in [*cli.TRAINING, *cli.COMMANDS])


def test_version(capsys):
    import videoar

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"videoar {videoar.__version__}"


def test_unknown_command_lists_the_known_ones(capsys):
    assert cli.main(["train"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "'train'" in err and "fit" in err and "sample" in err


def test_bad_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["export", "--nonsense"])
    assert exit_info.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "videoar export: error" in err


@pytest.mark.parametrize(
    "error, code, text",
    [
        (UserError("no clips in /data/x"), 2, "videoar: error: no clips in /data/x\n"),
        (ValueError("two\n  lines"), 2, "videoar: error: two lines (--debug shows where)\n"),
        (FileNotFoundError(2, "No such file", "a.mp4"), 2, "a.mp4"),
        (KeyboardInterrupt(), 130, "videoar: interrupted\n"),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, text):
    def fail(args: argparse.Namespace) -> None:
        raise error

    monkeypatch.setattr(import_module("videoar.cli.export"), "run", fail)
    assert cli.main(["export", "a", "b"]) == code
    err = capsys.readouterr().err
    assert text in err and err.count("\n") == 1


def test_debug_shows_the_traceback_and_bugs_are_not_hidden(monkeypatch):
    module = import_module("videoar.cli.export")
    monkeypatch.setattr(module, "run", lambda args: (_ for _ in ()).throw(UserError("x")))
    with pytest.raises(UserError):
        cli.main(["export", "a", "b", "--debug"])
    monkeypatch.setenv("VIDEOAR_DEBUG", "1")
    with pytest.raises(UserError):
        cli.main(["export", "a", "b"])
    monkeypatch.setenv("VIDEOAR_DEBUG", "0")
    monkeypatch.setattr(module, "run", lambda args: [][0])
    with pytest.raises(IndexError):
        cli.main(["export", "a", "b"])


def test_an_error_in_a_loader_worker_keeps_its_own_words():
    text = "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    assert (
        cli.one_line(text + "videoar.errors.UserError: clip.mp4: 3 frames, 17 needed\n")
        == "clip.mp4: 3 frames, 17 needed"
    )


@pytest.mark.parametrize(
    "arguments, match",
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--model", "videoar.training.TokenizerModule", "--model.losses.gan", "much"], "losses.gan.*much"),
        (["--model", "videoar.training.TokenizerModule", "--model.losses.gna", "1"], "gna"),
        (["--model", "videoar.training.NoModule"], "NoModule"),
        (["--trainer.max_step", "3"], "max_step"),
        (["--model", "videoar.training.TokenizerModule", "--model.tokenizer", "huge", "--data.root", "x"], "huge"),
    ],
)
def test_bad_configurations_are_one_line(arguments, match, capsys):
    assert cli.main(["fit", *arguments]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("videoar: error: ") and re.search(match, err)


class Deadly(torch.utils.data.Dataset):
    """Its second item kills the process that loads it."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_dead_loader_worker_is_one_line_wherever_it_is_noticed(monkeypatch, capsys, wrapped):
    """torch raises from a signal handler: out of any line of the main process, not only the one that fetches."""

    def work(_):
        batches = iter(torch.utils.data.DataLoader(Deadly(), num_workers=1, prefetch_factor=4))
        next(batches)
        try:
            time.sleep(60)
        except RuntimeError as error:
            if wrapped:
                raise KeyError("what came of it") from error
            raise

    monkeypatch.setattr(cli, "_dispatch", work)
    assert cli.main(["fit"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "a loader worker died" in err and "videoar data check" in err
