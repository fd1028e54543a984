"""The main job, end to end, with the shipped configs and a handful of batches: real games, both trainings, samples."""

import json
from pathlib import Path

import pytest

from videoar.cli.main import main
from videoar.data.readers import open_video

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo_runs_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    out = tmp_path / "demo"
    steps = ["--tokenizer-steps", "6", "--generator-steps", "4", "--clips", "4", "--games", "pong,boxing"]
    assert main(["demo", "--out", str(out), *steps]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["classes"] == ["boxing", "pong"] and report["test_clips"] == 8
    assert report["sampling"]["steps"] == 30
    assert len(report["bit_accuracy_per_scale"]) == 6
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
