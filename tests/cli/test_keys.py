"""Configurations as a Lightning user writes them: short names, misspelt keys, classes of one's own, one voice a run."""

import logging
import os
import subprocess
import sys

import pytest
import yaml

from videoar import callbacks
from videoar.cli.keys import keys_by_class, reference, suggestion
from videoar.cli.main import _first_rank, main
from videoar.cli.training import run
from videoar.errors import UserError
from videoar.sweeps.spec import load_sweep
from videoar.yaml_files import read_mapping

OWN = """
from lightning.pytorch import LightningDataModule
from videoar.training import GeneratorModule, TokenizerModule

class Mine(GeneratorModule):
    pass

class Data(LightningDataModule):
    def __init__(self, clips: int = 3):
        super().__init__()
        self.clips = clips
"""


@pytest.mark.parametrize(
    "message, meant",
    [
        ("model.optim: Option 'lrr' is not accepted", "model.optim.lr"),
        ("model: Option 'lr' is not accepted", "model.optim.lr or model.discriminator_optim.lr"),
        ("unrecognized arguments: --data.stge.resolution 3", "data.stage.resolution or data.stages.resolution"),
        ("unrecognized arguments: --modle.optim.lr 3", "model.optim.lr"),
        ("unrecognized arguments: --data.workers 3", "data.loading.workers"),
        ("Subcommand 'fit' does not accept option 'trainer.max_step'", "trainer.max_steps or trainer.max_time"),
        ("trainer.callbacks: no class StageSwich", "StageSwitch"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_right_one(message, meant):
    for name in callbacks.HOME:
        getattr(callbacks, name)
    assert suggestion(message) == f" (did you mean {meant}?)"


def test_no_guess_where_nothing_is_near():
    assert suggestion("model: Option 'zzzzqqq' is not accepted") == suggestion("no such file") == ""


def test_a_command_line_says_what_was_meant(capsys):
    assert main(["fit", "-c", "configs/tokenizer/debug.yaml", "--data.stge.frames", "5"]) == 2
    assert "unrecognized arguments: --data.stge.frames 5 (did you mean data.stage.frames" in capsys.readouterr().err
    assert main(["fit", "-c", "configs/tokenizer/debug.yaml", "--trainer.callbacks+=StageSwich"]) == 2
    assert "trainer.callbacks: no class StageSwich (did you mean StageSwitch?)" in capsys.readouterr().err


def test_help_all_has_every_field_of_model_and_data(capsys):
    text = reference()
    for key in ("--model.optim.lr float = 0.0001", "--data.stage.frames int = ", "--model.generator.window "):
        assert key in text
    assert "Peak learning rate." in text and "checkpoint or exported folder; None: that of `init_from`" in text
    names = [key.name for key in keys_by_class()["MixedDataModule"]]
    assert {"data.root", "data.loading.workers", "data.sources.holdout", "data.stages.until"} <= set(names)
    assert len(names) == len(set(names))


def test_callbacks_have_short_names(capsys):
    for name in callbacks.HOME:
        assert getattr(callbacks, name).__name__ == name
    words = ["fit", "-c", "configs/tokenizer/debug.yaml", "--trainer.callbacks+=VideoMetrics", "--print_config"]
    with pytest.raises(SystemExit):
        main(words)
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["trainer"]["callbacks"][-1]["class_path"] == "videoar.callbacks.VideoMetrics"


def test_classes_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_classes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["fit", "--model", "own_classes.Mine", "--model.generator", "debug", "--model.generator.window", "3"]
    with pytest.raises(SystemExit):
        main([*words, "--data", "own_classes.Data", "--data.clips", "5", "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    generator = shown["model"]["init_args"]["generator"]
    assert shown["model"]["class_path"] == "own_classes.Mine" and shown["data"]["init_args"] == {"clips": 5}
    assert generator["window"] == 3 and generator["width"] < 512, "the preset's other fields stay"


def test_info_is_said_by_the_first_rank_alone(monkeypatch):
    program = (
        "import logging; from videoar.cli.main import _log_to_stderr; _log_to_stderr()\n"
        "log = logging.getLogger('videoar.x'); log.info('once'); log.warning('all')"
    )
    said = {}
    for rank in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"LOCAL_RANK": rank}, capture_output=True, text=True
        )
        said[rank] = [line.split(" ", 1)[1] for line in done.stderr.splitlines()]
    assert said == {"0": ["INFO once", "WARNING all"], "1": ["WARNING all"]}
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert _first_rank() and logging.INFO < logging.WARNING


def test_configs_that_come_with_videoar_are_found_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(["fit", "--config", "configs/tokenizer/debug.yaml", "--config=configs/hardware/cpu.yaml", "--print_config"])
    assert stop.value.code == 0 and "gan_warmup: 2" in capsys.readouterr().out
    assert load_sweep("configs/sweeps/debug.yaml").children[0].base["data"]["loading"]["epoch_batches"] == 6
    with pytest.raises(UserError, match=r"no such file: configs/tokenizer/debog\.yaml"):
        run(["fit", "--config", "configs/tokenizer/debog.yaml"])
    own = tmp_path / "configs" / "tokenizer" / "debug.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("trainer: {max_steps: 77}\n")
    assert read_mapping("configs/tokenizer/debug.yaml") == {"trainer": {"max_steps": 77}}
