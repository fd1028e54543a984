"""The main job, end to end, with the shipped configs and a handful of batches: real games, both trainings, samples."""

import json
from pathlib import Path

import pytest

from videoar.cli.main import main
from videoar.data.readers import open_video
from videoar.demo.run import Demo, run_demo
from videoar.errors import UserError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo_runs_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    out = tmp_path / "demo"
    steps = ["--tokenizer-steps", "6", "--generator-steps", "4", "--clips", "4", "--games", "pong,boxing"]
    assert main(["demo", "--out", str(out), *steps]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["classes"] == ["boxing", "pong"] and report["test_clips"] == 8
    assert report["sampling"]["steps"] == 50  # cells of the larger scales in four passes
    assert len(report["bit_accuracy_per_scale"]) == 4
    assert 5 < report["psnr_db"] < 40
    for name in report["classes"]:
        reader = open_video(out / "samples" / f"{name}.mp4")
        assert (len(reader), reader.height, reader.width) == (17, 64, 64)
        assert (out / "samples" / f"{name}.gif").stat().st_size > 1000
    for picture in ("contact_sheet.png", "curves.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert (out / "model" / "generator" / "model.safetensors").is_file()


def test_demo_without_the_configs_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    error = "configs/tokenizer/demo.yaml is missing: run the demo from the repository's folder"
    assert capsys.readouterr().err.splitlines() == [f"videoar: error: {error}"]
    assert not (tmp_path / "demo").exists()


def test_the_demo_stops_at_a_command_that_fails(tmp_path):
    said, ran = [], []

    def command(words):
        ran.append(words[0])
        return 2 if words[0] == "fit" else 0

    demo = Demo(tmp_path, REPOSITORY / "configs", generator_steps=3)
    with pytest.raises(UserError, match="the demo stopped: `videoar fit` ended with exit code 2"):
        run_demo(demo, command, said.append)
    assert ran == ["sample", "data", "fit"] and list(demo.seconds) == ["shipped", "data"]
    assert "[tokenizer] videoar fit --config" in said[-1]


def test_each_demo_trains_in_a_folder_of_its_own(tmp_path):
    (tmp_path / "tokenizer" / "checkpoints").mkdir(parents=True)
    said = []
    with pytest.raises(UserError):
        run_demo(Demo(tmp_path, REPOSITORY / "configs"), lambda words: int(words[0] == "fit"), said.append)
    assert said[-1].endswith(f"--trainer.default_root_dir {tmp_path / 'tokenizer-2'}")
