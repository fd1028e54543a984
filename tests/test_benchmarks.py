"""The benchmark scripts run at tiny sizes and write what they promise."""

import importlib.util
import json
from pathlib import Path

import pytest

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
