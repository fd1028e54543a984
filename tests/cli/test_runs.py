"""Runs as a user of Lightning meets them: presets and overrides, folders that never mix, an end by signal."""

import os
import resource
import signal
import sys
from multiprocessing import get_context

import pytest
import torch
import yaml

from videoar.cli.main import main
from videoar.cli.training import run
from videoar.data.writers import write_mp4
from videoar.errors import UserError
from videoar.training.checkpoint import load_tokenizer, read_checkpoint
from videoar.training.tokenizer_module import TokenizerModule

TINY = {"latent_dim": 8, "channels": 8, "multipliers": [1, 1, 2], "res_blocks": 1, "norm_groups": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two clips and the YAML of a tiny tokenizer's run of 4 batches."""
    folder = tmp_path_factory.mktemp("runs")
    rng = torch.Generator().manual_seed(0)
    for i in range(3):
        video = torch.rand(3, 5, 16, 16, generator=rng) * 2 - 1
        write_mp4(folder / "clips" / f"{i}.mp4", video, fps=8)
    keep = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    keep["init_args"] = {"save_last": True, "every_n_train_steps": 100}
    trainer = {"max_steps": 4, "max_epochs": -1, "accelerator": "cpu", "enable_model_summary": False, "logger": True}
    trainer |= {"num_sanity_val_steps": 0, "val_check_interval": 2, "check_val_every_n_epoch": None}
    args = {"tokenizer": TINY, "losses": {"perceptual": 0.0, "gan": 0.0}, "optim": {"lr": 1e-2}}
    data = {"root": str(folder / "clips"), "stage": {"resolution": 16, "frames": 1, "batch_size": 1}}
    data |= {"loading": {"workers": 0, "epoch_batches": 50}, "evaluation": {"clips": 1}}
    model = {"class_path": "videoar.training.TokenizerModule", "init_args": args}
    spec = {"trainer": trainer | {"callbacks": [keep]}, "model": model, "data": data}
    (folder / "t.yaml").write_text(yaml.safe_dump(spec))
    return folder


def fit(place, name, *arguments, command="fit"):
    root = ("--trainer.default_root_dir", str(place / name))
    return run([command, "--config", str(place / "t.yaml"), *root, *arguments])


@pytest.fixture(scope="module")
def whole(place):
    """A run that nothing has disturbed."""
    return fit(place, "whole")


@pytest.mark.parametrize("number, hook", [
    (signal.SIGTERM, "on_train_batch_start"), (signal.SIGINT, "on_validation_batch_start"),
])  # fmt: skip
def test_a_signal_ends_a_run_with_a_checkpoint_that_goes_on_exactly(place, whole, monkeypatch, capsys, number, hook):
    def hit(module, *_):
        if module.batches_seen in (1, 2):
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(TokenizerModule, hook, hit, raising=False)
        with pytest.raises(SystemExit) as stop:
            fit(place, number.name)
    assert stop.value.code == 128 + number and signal.getsignal(number) is before
    said = capsys.readouterr().err.strip().splitlines()[-1]
    last = place / number.name / "checkpoints" / "last.ckpt"
    assert str(last) in said and "--ckpt_path last" in said and number.name in said
    assert read_checkpoint(last)["videoar"]["batches_seen"] == 2

    resumed = fit(place, number.name, "--ckpt_path", "last")
    assert [path.name for path in last.parent.glob("last*")] == ["last.ckpt"]  # no last-v1.ckpt beside it
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_signal_before_training_ends_at_once(place, monkeypatch):
    def hit(module, stage):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TokenizerModule, "setup", hit, raising=False)
    with pytest.raises(SystemExit) as stop:
        fit(place, "early")
    assert stop.value.code == 143 and not (place / "early" / "checkpoints").exists()


def test_a_second_run_in_a_folder_is_refused(place, whole):
    config = (place / "whole" / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"another run.*--ckpt_path last"):
        fit(place, "whole", "--model.optim.lr", "0.5")
    (place / "elsewhere.ckpt").touch()
    with pytest.raises(UserError, match="another run"):
        fit(place, "whole", "--ckpt_path", str(place / "elsewhere.ckpt"))
    assert (place / "whole" / "config.yaml").read_text() == config
    assert len(list((place / "whole").glob("events*"))) == 1


def test_a_run_in_the_folder_of_one_that_goes_on_is_refused(place, monkeypatch):
    refused = []

    def another(module, *_):
        for arguments in ([], ["--ckpt_path", "last"]):
            with pytest.raises(UserError, match=rf"held is being written by process {os.getpid()} on ") as error:
                fit(place, "held", *arguments)
            refused.append(error)

    (place / "held" / "checkpoints").mkdir(parents=True)
    (place / "held" / "checkpoints" / ".last.1.part.ckpt").write_bytes(b"of a killed run")
    with monkeypatch.context() as patch:
        patch.setattr(TokenizerModule, "on_train_batch_start", another, raising=False)
        fit(place, "held", "--trainer.max_steps", "1")
    assert len(refused) == 2 and not list((place / "held").glob("aborted_*"))
    assert [path.name for path in (place / "held" / "checkpoints").iterdir()] == ["last.ckpt"]
    fit(place, "held", "--ckpt_path", "last", "--trainer.max_steps", "2")


def on_a_full_disk(place, name, arguments):
    with (place / f"{name}.txt").open("w") as said:
        os.dup2(said.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # no file may be larger
    root = ["--trainer.default_root_dir", str(place / name), "--trainer.max_steps", "60"]
    quiet = ["--trainer.enable_checkpointing=false", "--trainer.callbacks=[]", "--trainer.limit_val_batches=0"]
    config = ["--config", str(place / "t.yaml"), "--trainer.enable_progress_bar=false"]
    os._exit(main(["fit", *config, *root, *quiet, "--trainer.log_every_n_steps=1", *arguments]))


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
@pytest.mark.parametrize("name", ["TensorBoardLogger", "CSVLogger"])
def test_a_logger_on_a_full_disk_is_one_line(place, name):
    logger = [f"--trainer.logger=lightning.pytorch.loggers.{name}", f"--trainer.logger.save_dir={place / name}"]
    run = get_context("fork").Process(target=on_a_full_disk, args=(place, name, logger))
    run.start()
    run.join()
    said = (place / f"{name}.txt").read_text()
    assert run.exitcode == 2 and "Traceback" not in said, said
    assert f"videoar: error: cannot write {place / name}: File too large" in said, said


def test_logs_of_a_run_without_a_checkpoint_are_set_aside(place, monkeypatch):
    folder = place / "again"
    with monkeypatch.context() as patch:
        patch.setattr(TokenizerModule, "on_train_batch_start", lambda *_: 1 / 0, raising=False)
        with pytest.raises(ZeroDivisionError):
            fit(place, "again")
    old = {path.name for path in folder.glob("events*")}
    fit(place, "again", "--trainer.max_steps", "1")
    assert old == {path.name for path in (folder / "aborted_1").glob("events*")}
    assert not old & {path.name for path in folder.glob("events*")}


def test_validation_wants_a_checkpoint_and_writes_beside_the_run(place, whole):
    config = (place / "whole" / "config.yaml").read_text()
    with pytest.raises(UserError, match="validate needs trained weights: --ckpt_path"):
        fit(place, "whole", command="validate")
    fit(place, "whole", "--ckpt_path", str(place / "whole"), "--model.optim.lr", "0.5", command="validate")
    assert (place / "whole" / "config.yaml").read_text() == config
    assert (place / "whole" / "validate" / "version_0" / "config.yaml").is_file()
    with pytest.raises(UserError, match="no checkpoint"):
        fit(place, "whole", "--ckpt_path", str(place / "clips"), command="validate")


def test_the_last_line_names_the_checkpoint_and_the_next_command(place, capsys):
    fit(place, "line", "--trainer.max_steps", "1")
    line = capsys.readouterr().out.strip().splitlines()[-1]
    folder = place / "line"
    assert str(folder / "checkpoints" / "last.ckpt") in line and f"--model.tokenizer {folder}" in line
    assert load_tokenizer(folder).fingerprint() == load_tokenizer(folder / "checkpoints" / "last.ckpt").fingerprint()


def test_the_two_models_have_folders_of_their_own(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(["fit", "--config", str(place / "t.yaml"), "--trainer.max_steps", "1"])
    assert (tmp_path / "outputs" / "tokenizer" / "checkpoints" / "last.ckpt").is_file()


def test_an_observing_callback_changes_no_weight(place, whole):
    """VideoMetrics builds a feature net before the model is made."""
    observed = ["--trainer.callbacks+=videoar.callbacks.video_metrics.VideoMetrics", "--trainer.max_steps", "4"]
    other = fit(place, "observed", *observed)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def printed(capsys, *arguments):
    """What --print_config says the model is."""
    assert _code(main, ["fit", *arguments, "--data.root", "x", "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]


def _code(function, arguments):
    try:
        return function(arguments)
    except SystemExit as stop:
        return stop.code or 0


def test_a_preset_is_a_base_that_overrides_change(place, tmp_path, capsys):
    module = ["--model", "videoar.training.GeneratorModule"]
    made = printed(capsys, *module, "--model.generator", "videoar-xl", "--model.generator.window", "4")["generator"]
    assert (made["width"], made["depth"], made["window"]) == (2048, 32, 4)
    over, mapped = tmp_path / "over.yaml", tmp_path / "mapped.yaml"
    over.write_text("model: {init_args: {tokenizer: {latent_dim: 24}}}")
    base = "model: {class_path: videoar.training.TokenizerModule, init_args: {tokenizer: %s}}"
    mapped.write_text(base % "debug")
    made = printed(capsys, "--config", str(mapped), "--config", str(over))["tokenizer"]
    assert (made["latent_dim"], made["channels"]) == (24, 16)
    made = printed(capsys, "--config", str(mapped), "--model.tokenizer.latent_dim=20")["tokenizer"]
    assert (made["latent_dim"], made["channels"]) == (20, 16)
    mapped.write_text(base % "{preset: debug, latent_dim: 12}")
    made = printed(capsys, "--config", str(mapped))["tokenizer"]
    assert (made["latent_dim"], made["channels"]) == (12, 16)
