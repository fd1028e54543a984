"""The benchmark scripts run at tiny sizes and write what they promise."""

import csv
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from videoar import TokenizerConfig, VideoAR, VideoTokenizer
from videoar.data.writers import write_mp4

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory through /proc")
def test_growth(tmp_path, capsys):
    assert script("growth").main(["--tiny", "--device", "cpu", "--out", str(tmp_path)]) == 0
    (figure,), (data,) = tmp_path.glob("growth_cpu*.png"), tmp_path.glob("growth_cpu*.json")
    assert figure.read_bytes().startswith(b"\x89PNG")
    content = json.loads(data.read_text())
    assert set(content["figures"]) == {"frames", "pixels of a frame", "batch", "weights"}
    for curves in content["figures"].values():
        for line in curves.values():
            assert [point["x"] for point in line] == sorted(point["x"] for point in line)
            assert all(point["gflop"] > 0 and point["roofline_seconds"] > 0 for point in line)
            assert line[-1]["gflop"] > line[0]["gflop"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote ")


@pytest.mark.slow
def test_operations(tmp_path, capsys):
    assert script("operations").main(["--tiny", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "operations.json").read_text())["operations"]
    assert found["sampling, clip"] > found["sampling step"] > 0
    assert found["generator training step"] > found["sampling step"] and found["tokenizer training step"] > 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote ")


IN_PROC = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc")


@IN_PROC
@pytest.mark.slow
def test_endurance(tmp_path, capsys):
    few = ["--clips", "2", "--steps", "4", "--workers", "1", "--patience", "300"]
    assert script("endurance").main([*few, "--out", str(tmp_path)]) == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "endurance.json").read_text())["jobs"]
    assert [name.split(",")[0] for name in found] == ["sample", "evaluate", "loader"]
    assert all(facts["processes_left"] == 0 and facts["peak_mib"] > 50 for facts in found.values())


@IN_PROC
def test_endurance_sees_what_a_job_leaves_and_how_it_grows():
    endurance = script("endurance")
    code, seen, left, said = endurance.watch(["sh", "-c", "sleep 60 & echo gone; sleep 1; exit 3"], 30)
    assert (code, left, said) == (3, 1, "gone\n")
    assert max(processes for *_, processes in seen) >= 2
    assert endurance.faults(endurance.summary(code, seen, left)) == ["exit code 3", "1 processes left"]
    code, _, left, _ = endurance.watch(["sleep", "60"], 0.5)
    assert (code, left) == (-14, 0)
    grown = [(float(t), 100.0 + t, 5 + t, 1) for t in range(200)]
    assert endurance.faults(endurance.summary(0, grown, 0)) == ["memory grew by 60 MiB", "60 more open files"]


def test_step_overhead(tmp_path, capsys):
    assert script("step_overhead").main(["--tiny", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "step_overhead.json").read_text())["milliseconds"]
    for kind in ("tokenizer", "generator"):
        assert min(found["empty, plain"], found[f"{kind}, plain"], found[f"{kind}, shown"]) > 0
    assert found["yardstick"] > 0 and capsys.readouterr().out.splitlines()[-1].startswith("wrote ")


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 17])
def test_generator_recipe(tmp_path, monkeypatch, frames):
    """Two forms and two seeds, a row each; what is there already is not made again."""
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # what tests share
    torch.manual_seed(0)
    for split, names in (("train", "ab"), ("test", "cd")):
        paths = [f"{game}/{name}.mp4" for game in ("pong", "enduro") for name in names]
        (tmp_path / f"{split}list01.txt").write_text("".join(f"{path} 1\n" for path in paths))
        for path in paths:
            (tmp_path / path).parent.mkdir(exist_ok=True)
            write_mp4(tmp_path / path, torch.rand(3, 17, 32, 32) * 2 - 1, fps=8)
    for name, scales in (("coder", None), ("single", [4])):
        config = TokenizerConfig(latent_dim=8, channels=8, multipliers=[1, 1, 2], patch=2, norm_groups=4, scales=scales)
        VideoTokenizer(config).save_pretrained(tmp_path / name)
    recipe = {"generator": {"width": 32, "depth": 1, "heads": 2, "size": [32, 32]}, "corruption": {}, "optim": {}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": {"init_args": recipe}}))
    raster = {"generator.order": "raster", "corruption.mode": "off", "tokenizer": str(tmp_path / "single")}
    masked = {"generator.window": 1, "teaching.frame_mask": 0.5}
    rows = {"plain": masked, "groups": {"generator.bit_groups": 4, "steps": 1}, "raster": raster}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(rows, sort_keys=False))
    given = {
        "data": tmp_path,
        "tokenizer": tmp_path / "coder",
        "rows": tmp_path / "rows.yaml",
        "csv": tmp_path / "out.csv",
    }
    given |= {"config": tmp_path / "recipe.yaml", "games": "pong,enduro", "steps": 2, "batch": 2, "samples": 2}
    given |= {
        "guidance": 2,
        "models": tmp_path / "models",
        "cache": tmp_path / "latents",
        "extend": 0 if frames == 1 else 29,
    }
    command = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    for seeds in (["0"], ["0", "1"]):
        script("generator_recipe").main([*command, "--frames", str(frames), "--seeds", *seeds])
    found = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["name"], row["seed"]) for row in found] == [(name, seed) for seed in "01" for name in rows]
    assert [row["steps"] for row in found] == ["2", "1", "2"] * 2
    assert [row["calls_a_frame"] for row in found] == ["4", "4", "16"] * 2
    assert [len(row["right_by_scale"].split()) for row in found] == [4, 4, 1] * 2
    assert 1 < float(found[0]["train_flops"]) / float(found[1]["train_flops"]) < 2  # two steps, one with a head
    assert VideoAR.from_pretrained(tmp_path / "models" / "groups-1-0").config.bit_groups == 4
    assert all(0 < float(row["nats_a_bit"]) < 2 and math.isfinite(float(row["pong"])) for row in found)
    if frames > 1:
        script("generator_report").main([str(tmp_path / "out.csv"), "--out", str(tmp_path / "report")])
        lines = (tmp_path / "report" / "out.md").read_text().splitlines()
        assert [line.split(" | ")[:3] for line in lines[2:]] == [
            ["| plain", "2", "2"],
            ["| groups", "1", "2"],
            ["| raster", "2", "2"],
        ]
        loss = (float(found[0]["nats_a_bit"]) + float(found[3]["nats_a_bit"])) / 2
        assert f"| {loss:.4f} ±" in lines[2] and (tmp_path / "report/out.png").read_bytes().startswith(b"\x89PNG")
    assert ("gfvd" in found[0]) == bool(found[0]["extended_colour_drift"]) == (frames > 1)
