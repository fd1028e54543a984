"""The sweeps that ship: one for real, killed and started again; of the others every command and every network."""

import json
import os
import re
import signal
import subprocess
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from videoar.cli import main as cli
from videoar.cli import training
from videoar.sweeps.child import VIDEOAR, write_child
from videoar.sweeps.spec import load_sweep
from videoar.yaml_files import read_mapping

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted((REPOSITORY / "configs" / "sweeps").glob("*.yaml"))


@pytest.mark.slow
def test_the_debug_sweep_killed_during_a_real_fit(debug_sweep, monkeypatch, tmp_path):
    """A fit is killed after a checkpoint. The sweep, started again, resumes it; the numbers are an unkilled one's."""
    monkeypatch.chdir(REPOSITORY)
    spec = read_mapping("configs/sweeps/debug.yaml") | {"seeds": [0], "prepare": {}}
    del spec["variants"]["full"]
    prepared = yaml.safe_dump(spec, sort_keys=False).replace("{sweep}", str(debug_sweep))
    (tmp_path / "debug.yaml").write_text(prepared)
    out = tmp_path / "out"
    command, child = [*VIDEOAR, "sweep", str(tmp_path / "debug.yaml"), "--out", str(out)], out / "baseline__seed0"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    sweep = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while sweep.poll() is None and not list(child.rglob("last.ckpt")):
        assert time.monotonic() < until, "no checkpoint came"
        time.sleep(0.02)
    assert sweep.poll() is None, (child / "log.txt").read_text()[-2000:]
    sweep.kill()
    os.killpg(json.loads((child / "state.json").read_text())["pid"], signal.SIGKILL)
    sweep.wait()
    assert not (child / "result.json").exists()

    assert subprocess.call(command, env=environment, stdout=subprocess.DEVNULL) == 0
    assert "--ckpt_path" in (child / "log.txt").read_text(), "the fit was resumed"
    assert "--ckpt_path" not in (debug_sweep / child.name / "log.txt").read_text()
    resumed, whole = ((folder / "results.csv").read_text().splitlines() for folder in (out, debug_sweep))
    assert resumed == whole[:2] and whole[1].startswith(child.name)


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_children_of_shipped_sweeps_build(path, monkeypatch, tmp_path, capsys):
    """Every command of every setting parses, and every configuration makes its networks (on the meta device)."""
    monkeypatch.chdir(REPOSITORY)
    missing = {key: "somewhere" for key, value in (read_mapping(path).get("vars") or {}).items() if value is None}
    sweep = load_sweep(path, tmp_path, missing)
    assert sweep.children and sweep.metrics and sweep.title
    settings = {child.group: child for child in sweep.children}
    if sweep.prepare:
        settings["prepare"] = sweep.prepare
    sizes = {}
    for group, child in settings.items():
        write_child(child, tmp_path / child.name)
        for step, argv in child.steps.items():
            argv = [word.replace("{ckpt}", "last.ckpt") for word in argv]
            if argv[0] in cli.TRAINING:
                sizes[group] = parameters_of(argv, capsys)
            else:
                monkeypatch.setattr(f"{cli.COMMANDS[argv[0]][0]}.run", lambda args: 0)
                assert cli.main(argv) == 0, (step, capsys.readouterr().err)
    if path.stem == "table3":  # paper, Table 3
        assert sizes["VideoAR-L"] == pytest.approx(926e6, rel=0.02)
        assert sizes["VideoAR-XL"] == pytest.approx(2.0e9, rel=0.1)


def parameters_of(argv, capsys):
    """Let the CLI parse a training command, make the module it configures, count the network's parameters."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        training.run([*argv, "--print_config"])
    assert stop.value.code == 0
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    module_path, _, name = model["class_path"].rpartition(".")
    arguments = model["init_args"]
    if "generator" in arguments:  # its tokenizer is a file, which is not there
        arguments["tokenizer"] = None
    elif arguments["init_from"]:  # as is what a run starts from
        assert arguments["train"] == "decoder"
        arguments |= {"init_from": None, "train": "all"}
    with torch.device("meta"):
        module = getattr(import_module(module_path), name)(**arguments)
        module.configure_model()
    return sum(parameter.numel() for parameter in module.network.parameters())


def test_the_documented_sweep_expands(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    (example,) = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "sweeps.md").read_text(), flags=re.DOTALL)
    (tmp_path / "depth.yaml").write_text(example)
    sweep = load_sweep(tmp_path / "depth.yaml", tmp_path / "out", {"tokenizer": "somewhere"})
    assert len(sweep.children) == 2 * 2 * 3 and sweep.metrics == ["gFVD", "loss", "seconds"]
