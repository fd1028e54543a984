"""`videoar sweep`: running children, failures, numbers and tables. Children are real processes."""

import csv
import re
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import pytest

from videoar.cli import main as cli
from videoar.errors import UserError
from videoar.figures import new_figure
from videoar.files import only_writer
from videoar.sweeps.child import write_child
from videoar.sweeps.collect import collect
from videoar.sweeps.report import Row, _lines, spread
from videoar.sweeps.run import run_sweep
from videoar.sweeps.spec import load_sweep
from videoar.training.logs import read_scalars


def lines_of(path):
    return path.read_text().splitlines() if path.is_file() else []


def test_results_against_hand_computed_numbers(make_sweep, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["sweep", str(make_sweep()), "--out", str(out), "--jobs", "3"]) == 0
    losses = {0.5: [0.5, 1.5, 2.0], 2.0: [2.0, 6.0, 8.0]}
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["child"], r["lr"], r["seed"], r["state"]) for r in rows[:2]] == [
        ("lr=0.5__seed0", "0.5", "0", "finished"),
        ("lr=0.5__seed2", "0.5", "2", "finished"),
    ]
    for lr, expected in losses.items():
        assert [float(r["loss"]) for r in rows if float(r["lr"]) == lr] == expected
    table = (out / "results.md").read_text()
    assert mean(losses[0.5]) == pytest.approx(4 / 3) and stdev(losses[0.5]) == pytest.approx(0.763763)
    assert "| 0.5 | 1.33 ± 0.76 | 0.17 ± 0.15 | 3 |" in table
    assert "| 2.0 | 5.3 ± 3.1 | 0.17 ± 0.15 | 3 |" in table
    assert (out / "results.png").read_bytes()[:4] == b"\x89PNG"
    assert table in capsys.readouterr().out
    assert "work.py" in (out / "lr=2.0__seed3" / "commands.sh").read_text()


def test_a_sweep_from_python(make_sweep, tmp_path):
    result = run_sweep(make_sweep(grid={"lr": [9, 2.0]}, seeds=[0]), tmp_path / "out", {"log": str(tmp_path / "log")})
    assert [outcome.metrics for outcome in result.outcomes] == [{}, {"loss": 2.0, "accuracy": 0.0}]
    assert [outcome.child.name for outcome in result.failed] == ["lr=9__seed0"]
    assert [path.name for path in result.files] == ["results.csv", "results.md", "results.png"]
    with pytest.raises(UserError, match="must name a GPU for each of 2 jobs"):
        run_sweep(result.sweep, jobs=2, devices=["0"])


def test_a_second_sweep_in_a_folder_is_refused(make_sweep, tmp_path):
    with only_writer(tmp_path / "out"), pytest.raises(UserError, match="out is being written by process"):
        run_sweep(make_sweep(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_spread():
    assert spread([]) == "–" and spread([0.12345678]) == "0.1235"
    assert spread([1.0, 1.0]) == "1.000 ± 0.000" and spread([100.0, 104.0]) == "102.0 ± 2.8"
    assert spread([0.001, 0.002]) == "0.00150 ± 0.00071"


def test_finished_children_are_not_run_again(make_sweep, tmp_path, capsys):
    path, out = make_sweep(), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out), "--jobs", "3"]) == 0
    first, before = (out / "results.csv").read_text(), lines_of(tmp_path / "runs.txt")
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert lines_of(tmp_path / "runs.txt") == before and (out / "results.csv").read_text() == first
    assert "finished before" in capsys.readouterr().out
    # other numbers are collected from the same runs
    make_sweep(collect={"b": {"json": "m.json", "key": "accuracy"}})
    assert cli.main(["sweep", str(path), "--out", str(out), "--jobs", "3"]) == 0
    assert lines_of(tmp_path / "runs.txt") == before and "0.17 ± 0.15" in (out / "results.md").read_text()
    # other settings under the same names are refused
    assert cli.main(["sweep", str(path), "--out", str(out), "--set", "log=elsewhere"]) == 2
    assert "was started with other settings" in capsys.readouterr().err


def test_a_base_config_that_was_edited_is_other_settings(make_sweep, base_config, tmp_path):
    path = make_sweep(config=base_config, grid=None, seeds=[0], steps={"fit": "fit"})
    write_child(load_sweep(path).children[0], tmp_path / "child")
    write_child(load_sweep(path).children[0], tmp_path / "child")
    Path(base_config).write_text(Path(base_config).read_text().replace("max_steps: 5", "max_steps: 6"))
    with pytest.raises(UserError, match="was started with other settings"):
        write_child(load_sweep(path).children[0], tmp_path / "child")


LATE = """
import json, pathlib, sys
step, out = sys.argv[1], pathlib.Path(sys.argv[3])
open(sys.argv[0] + ".ran", "a").write(step + chr(10))
if step == "evaluate" and sys.argv[4] != "plain":
    sys.exit("no such protocol")
out.mkdir(exist_ok=step == "train")  # as `videoar sample`, which refuses a folder with videos
(out / "n.json").write_text(json.dumps({"n": float(sys.argv[4])} if step == "sample" else {"n": 7}))
"""


def test_a_late_step_that_changes_costs_only_itself(make_sweep, base_config, tmp_path):
    """Trained once; a typo in what comes behind it is mended and only that runs, its old output out of the way."""
    (tmp_path / "late.py").write_text(LATE)
    collect = {name: {"json": f"{name}s/n.json", "key": "n"} for name in ("sample", "evaluate")}
    collect["trained"] = {"seconds": "train"}

    def sweep(num, protocol):
        run = f"$ {sys.executable} {tmp_path / 'late.py'}"
        steps = {"train": f"{run} train --out {{out}}", "sample": f"{run} sample --out {{out}}/samples {num}"}
        steps["evaluate"] = f"{run} evaluate --out {{out}}/evaluates {protocol}"
        return make_sweep(grid=None, seeds=[0], steps=steps, collect=collect)

    ran = lambda: lines_of(tmp_path / "late.py.ran")  # noqa: E731
    failed = run_sweep(sweep(4, "plane"), tmp_path / "out").outcomes[0]
    assert failed.state == "failed" and ran() == ["train", "sample", "evaluate"]
    assert failed.metrics.keys() == {"sample", "trained"}, "what is done stays in the table"
    assert (tmp_path / "out/results.csv").read_text().splitlines()[1].startswith("seed0,0,failed,4.0,,")
    assert (tmp_path / "out/results.png").is_file()
    done = run_sweep(sweep(4, "plain"), tmp_path / "out").outcomes[0]
    assert done.metrics["evaluate"] == 7 and ran()[3:] == ["evaluate"]
    again = run_sweep(sweep(6, "plain"), tmp_path / "out").outcomes[0]
    assert again.metrics["sample"] == 6 and ran()[4:] == ["sample", "evaluate"]
    assert (tmp_path / "out/seed0/samples.before_1/n.json").is_file(), "what was is kept, out of the way"


def test_what_training_depends_on_may_not_change(make_sweep, base_config, tmp_path):
    late = {"fit": "fit", "sample": "sample --model {ckpt}"}
    child = lambda **changes: load_sweep(  # noqa: E731
        make_sweep(config=base_config, grid=None, seeds=[0], **({"steps": late} | changes))
    ).children[0]
    write_child(child(), tmp_path / "child")
    write_child(child(steps=late | {"sample": "sample --model {ckpt} --num 4"}), tmp_path / "child")
    for other in ({"steps": late | {"fit": "fit --data.root x"}}, {"set": {"trainer.max_steps": 6}}):
        with pytest.raises(UserError, match="other settings"):
            write_child(child(**other), tmp_path / "child")


def test_a_failed_child_is_reported_and_the_others_go_on(make_sweep, tmp_path, capsys):
    path, out = make_sweep(grid={"lr": [9, 2.0]}, seeds=[0]), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "lr=9__seed0 failed: step work ended with exit code 1: the learning rate is far too high" in printed
    assert "    the learning rate is far too high" in printed, "the end of the log is shown"
    table = (out / "results.md").read_text()
    assert "| 9 | – | – | 0 |" in table and "| 2.0 | 2 | 0 | 1 |" in table and "- lr=9__seed0: step work" in table
    assert (out / "results.csv").read_text().splitlines()[1].startswith("lr=9__seed0,9,0,failed,,,step work")


def test_missing_and_infinite_numbers_fail_the_child(make_sweep, tmp_path, capsys):
    path = make_sweep(grid=None, seeds=[0], collect={"x": {"json": "m.json", "key": "runs.0.los"}})
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "m.json has no 'runs.0.los' ('los' is missing; there are loss)" in capsys.readouterr().out
    (tmp_path / "n.json").write_text('{"a": NaN, "b": null}')
    for key in "ab":
        with pytest.raises(UserError, match="not a finite number"):
            collect(tmp_path, {"x": {"json": "n.json", "key": key}}, {})
    with pytest.raises(UserError, match=r"no scalar 'val/loss' in the logs below .*; there are none at all"):
        collect(tmp_path, {"x": {"scalar": "val/loss"}}, {})


def test_prepare_runs_once_and_its_failure_stops_the_sweep(make_sweep, tmp_path, capsys):
    touch = f"$ {sys.executable} -c \"open(r'{tmp_path}/prepared', 'a').write('x')\""
    path, out = make_sweep(prepare={"touch": touch}, grid=None, seeds=[0]), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert (tmp_path / "prepared").read_text() == "x" and len(lines_of(tmp_path / "runs.txt")) == 2
    make_sweep(prepare={"no": f"$ {sys.executable} -c raise(SystemExit(3))"})
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "other")]) == 1
    assert "prepare failed: step no ended with exit code 3" in capsys.readouterr().out
    assert len(lines_of(tmp_path / "runs.txt")) == 2


def test_scalars_of_a_resumed_run_are_read_as_one(tmp_path):
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    for version, points in enumerate([{1: 5.0, 2: 4.0, 3: 9.0}, {3: 3.0, 4: 3.5}]):  # killed after 3, resumed from 2
        for logger in (TensorBoardLogger(tmp_path / "tb", version=version), CSVLogger(tmp_path / "csv", "", version)):
            tag = f"{type(logger).__name__}/loss"
            for step, value in points.items():
                logger.log_metrics({tag: value}, step)
            logger.save()
            logger.finalize("success")
        time.sleep(0.02)
    curves = read_scalars(tmp_path)
    assert curves["TensorBoardLogger/loss"] == curves["CSVLogger/loss"] == {1: 5.0, 2: 4.0, 3: 3.0, 4: 3.5}
    tag = "CSVLogger/loss"
    wanted = {"end": {"scalar": tag}, "best": {"scalar": tag, "pick": "min"}, "worst": {"scalar": tag, "pick": "max"}}
    found = collect(tmp_path, wanted | {"time": {"seconds": "fit"}}, {"fit": 2.5})
    assert found == {"end": 3.5, "best": 3.0, "worst": 5.0, "time": 2.5}


@pytest.mark.parametrize("rates, scale", [([1e-4, 1e-3, 1e-2], "log"), ([1, 2, 3], "linear"), ([0, 1e-3], "linear")])
def test_a_grid_of_learning_rates_has_a_logarithmic_axis(rates, scale):
    panel = new_figure(4, 3).subplots()
    _lines(panel, [Row(f"lr={rate}", {"lr": rate}, {"loss": [1.0, 2.0]}, 2) for rate in rates], "loss", ["lr"])
    assert panel.get_xscale() == scale


def test_the_live_table_shows_states_and_numbers(make_sweep, tmp_path):
    from rich.console import Console

    from videoar.sweeps.report import Outcome
    from videoar.sweeps.show import View

    children = load_sweep(make_sweep(), tmp_path / "out").children[:3]
    view = View(children, ["loss", "accuracy"])
    view.started(children[0])
    view.ended(Outcome(children[1], "finished", {"loss": 0.25, "accuracy": 1.0}, seconds=125.0))
    view.ended(Outcome(children[2], "failed", error="it [broke]"))
    console = Console(width=140)
    with console.capture() as captured:
        console.print(view.table())
    text = captured.get()
    assert re.search(r"lr=0.5__seed0 +started", text) and re.search(r"seed2 +finished +2:05 +0.25 +1", text)
    assert re.search(r"seed3 +failed .*it \[broke\]", text)
