"""Every shipped YAML parses against the classes it configures, and the debug ones train."""

from pathlib import Path

import pytest
import torch
import yaml

from videoar import TokenizerConfig, VideoTokenizer
from videoar.cli.main import main
from videoar.cli.training import run
from videoar.data.atari import AtariClips
from videoar.data.atari_set import render_set
from videoar.training.checkpoint import load_models, load_tokenizer

CONFIGS = Path(__file__).parents[1] / "configs"
RUNS = sorted([*CONFIGS.glob("tokenizer/*.yaml"), *CONFIGS.glob("generator/*.yaml")])
OVERLAYS = sorted([*CONFIGS.glob("hardware/*.yaml"), *CONFIGS.glob("data/*.yaml")])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Real clips of two games, 32x32."""
    out = tmp_path_factory.mktemp("atari") / "set"
    render_set(out, "pong,boxing", AtariClips(clips_per_game=4, test_clips=2, frames=9, size=32), workers=2)
    return out


def _parse(*configs, extra=()):
    arguments = [part for config in configs for part in ("--config", str(config))]
    with pytest.raises(SystemExit) as stop:
        run(["fit", *arguments, *extra, "--print_config"])
    return stop.value.code


@pytest.mark.parametrize("config", RUNS, ids=lambda path: "/".join(path.parts[-2:]))
def test_run_configs_parse(config, capsys):
    assert _parse(config) == 0
    assert "videoar.training" in capsys.readouterr().out


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: "/".join(path.parts[-2:]))
def test_overlays_compose(overlay, capsys):
    assert _parse(CONFIGS / "tokenizer" / "debug.yaml", overlay) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("run_config", ["tokenizer/debug.yaml", "tokenizer/ucf101_joint.yaml", "generator/ucf101.yaml"])
@pytest.mark.parametrize("overlay", sorted(CONFIGS.glob("data/*.yaml")), ids=lambda path: path.name)
def test_data_overlays_replace_what_the_run_says(run_config, overlay, capsys):
    assert _parse(CONFIGS / run_config, overlay) == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    asked = yaml.safe_load(overlay.read_text())["data"]
    for one, other in (("root", "sources"), ("stage", "stages")):
        assert {key for key in (one, other) if data[key]} == {key for key in (one, other) if asked[key]}


def test_a_stage_and_stages_are_one_clear_error(capsys, tmp_path):
    stage = ["--data.stage.resolution", "32", "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", "--config", str(CONFIGS / "tokenizer" / "debug.yaml"), *stage]) == 2
    error = capsys.readouterr().err
    assert "either data.stage (one stage) or data.stages" in error and len(error.splitlines()) == 1


def test_debug_configs_fit_two_batches_and_sample(clips, tmp_path):
    """Tokenizer, then a generator on its checkpoint, then the sample command on the generator's."""
    common = ["--data.root", str(clips), "--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    common += ["--trainer.val_check_interval", "2"]
    root = ["--trainer.default_root_dir", str(tmp_path / "tokenizer")]
    assert main(["fit", "--config", str(CONFIGS / "tokenizer" / "debug.yaml"), *common, *root]) == 0
    tokenizer = next((tmp_path / "tokenizer").rglob("last.ckpt"))
    assert isinstance(load_tokenizer(tokenizer), VideoTokenizer)
    assert load_tokenizer(tokenizer).config == TokenizerConfig.preset("debug")
    root = ["--trainer.default_root_dir", str(tmp_path / "generator"), "--model.tokenizer", str(tokenizer)]
    assert main(["fit", "--config", str(CONFIGS / "generator" / "debug.yaml"), *common, *root]) == 0
    checkpoint = next((tmp_path / "generator").rglob("last.ckpt"))
    generator, _ = load_models(checkpoint)
    assert generator.config.class_names == ("boxing", "pong")
    assert all(torch.isfinite(p).all() for p in generator.parameters())
    out = tmp_path / "samples"
    assert main(["sample", "--model", str(checkpoint), "--frames", "9", "--out", str(out), "--device", "cpu"]) == 0
    assert sorted(p.name for p in out.glob("*.mp4")) == ["boxing_00000.mp4", "pong_00001.mp4"]
