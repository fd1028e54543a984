"""For the tests of `videoar sweep`: a sweep of cheap children."""

import sys

import pytest
import yaml

WORK = """
import json, os, pathlib, sys, time
out, log, lr, seed = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
note = lambda word: open(log, "a").write(f"{word} {out.name} {os.getpid()} {os.getppid()}\\n")
note("begin")
if lr == 9:
    sys.exit("the learning rate is far too high")
until = time.monotonic() + 60
while seed == 1 and not log.with_name("go").exists() and time.monotonic() < until:
    time.sleep(0.02)
(out / "m.json").write_text(json.dumps({"runs": [{"loss": lr * (seed + 1)}], "accuracy": seed / 10}))
note("end")
"""


@pytest.fixture
def make_sweep(tmp_path):
    """Writes a sweep of cheap children (loss = lr·(seed + 1)); its changes are merged in."""

    def write(**changes):
        (tmp_path / "work.py").write_text(WORK)
        spec = {
            "title": "Cheap",
            "vars": {"lr": 1.0, "log": str(tmp_path / "runs.txt")},
            "grid": {"lr": [0.5, 2.0]},
            "seeds": [0, 2, 3],
            "steps": {"work": f"$ {sys.executable} {tmp_path / 'work.py'} {{out}} {{log}} {{lr}} {{seed}}"},
            "collect": {"loss": {"json": "m.json", "key": "runs.0.loss"}, "accuracy": {"json": "m.json"}},
        }
        path = tmp_path / "cheap.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (spec | changes).items() if v is not None}, sort_keys=False))
        return path

    return write


@pytest.fixture
def base_config(tmp_path):
    """A base config."""
    path = tmp_path / "base.yaml"
    path.write_text("trainer: {max_steps: 5, precision: 32}\nmodel: {init_args: {optim: {lr: 1e-3}, generator: debug}}")
    return str(path)
