"""`videoar sweep`: expansion, precedence, resuming after a kill, failures, tables. Children are real processes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml

from videoar.cli import main as cli
from videoar.cli.sweeps.child import VIDEOAR, _command, read_json, write_child
from videoar.cli.sweeps.collect import collect, read_scalars
from videoar.cli.sweeps.overrides import load_yaml, merge, nest
from videoar.cli.sweeps.report import spread
from videoar.cli.sweeps.spec import load_sweep
from videoar.errors import UserError

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
def make(tmp_path):
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
def base(tmp_path):
    """A base config."""
    path = tmp_path / "base.yaml"
    path.write_text("trainer: {max_steps: 5, precision: 32}\nmodel: {init_args: {optim: {lr: 1e-3}, generator: debug}}")
    return str(path)


def lines_of(path):
    return path.read_text().splitlines() if path.is_file() else []


# ---- expansion ------------------------------------------------------------------------------------------------------


def test_variants_times_grid_times_seeds(make, base, tmp_path):
    path = make(
        config=base,
        vars={"root": "videos"},
        variants={"off": {"model.init_args.corruption.mode": "off"}, "on": None},
        grid={"model.init_args.optim.lr": [1e-4, 1e-3], "data.loading.lr": [1]},
        seeds=[3, 4],
        steps={"fit": "fit --data.root {root}", "sample": "sample --model {ckpt} --seed {seed} --out {step}"},
        collect={"loss": {"scalar": "val/loss"}},
    )
    sweep = load_sweep(path, tmp_path / "out", {"root": "a b"})
    assert len(sweep.children) == 2 * 2 * 2
    child = sweep.children[1]
    assert (child.name, child.seed) == ("off__optim.lr=0.0001__loading.lr=1__seed4", 4)
    assert child.choice == {"variant": "off", "optim.lr": 1e-4, "loading.lr": 1}
    folder = tmp_path / "out" / child.name
    override = str(folder / "override.yaml")
    assert child.steps["fit"] == ["fit", "--data.root", "a b", "--config", base, "--config", override]
    assert child.steps["sample"][-5:] == ["{ckpt}", "--seed", "4", "--out", str(folder / "sample")]
    assert len({c.name for c in sweep.children}) == 8 and len({c.group for c in sweep.children}) == 4


def test_the_later_layer_wins(make, base):
    path = make(
        config=base,
        vars={"lr": 7},
        set={
            "trainer.max_steps": "{lr}",
            "data.name": "x{lr}",
            "model": {"init_args": {"optim": {"lr": 0.1, "clip": 2.0}}},
            "data.x": 0,
        },
        variants={"v": {"model.init_args.optim.lr": 0.2, "data.x": 1}},
        grid={"data.x": [2]},
        steps={"fit": "fit"},
    )
    child = load_sweep(path).children[0]
    assert child.override["model"]["init_args"]["optim"] == {"lr": 0.2, "clip": 2.0}
    assert child.override["data"] == {"x": 2, "name": "x7"} and child.override["seed_everything"] == 0
    assert child.override["trainer"] == {"max_steps": 7, "default_root_dir": f"outputs/sweeps/cheap/{child.name}"}


def test_lightnings_parser_lets_the_override_win(tmp_path):
    """The last --config replaces values deep inside the module's arguments and keeps its neighbours."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch.cli import LightningArgumentParser

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    base = {"class_path": "videoar.training.GeneratorModule", "init_args": {"generator": {"width": 64, "heads": 2}}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"model": base}))
    over = nest({"model.init_args.generator.position": "rope2d", "model.init_args.corruption.mode": "off"})
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(over))
    parsed = parser.parse_args(["--config", str(tmp_path / "base.yaml"), "--config", str(tmp_path / "over.yaml")])
    arguments = parsed.model.init_args
    assert (arguments.generator.width, arguments.generator.position) == (64, "rope2d")
    assert arguments.corruption.mode == "off"


def test_merge_and_yaml(tmp_path):
    assert merge({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}}
    assert nest({"a.b": 1, "a": {"c.d": 2}}) == {"a": {"b": 1, "c": {"d": 2}}}
    (tmp_path / "x.yaml").write_text("a: 1e-4\nb: -2.5e3\nc: '1e-4'\nd: 1e\ne: 5")
    assert load_yaml(tmp_path / "x.yaml") == {"a": 1e-4, "b": -2500.0, "c": "1e-4", "d": "1e", "e": 5}


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"grids": {}}, "a sweep has no grids; there are .*grid"),
        ({"grid": {"lr": 3}}, "`grid` needs a list of values for lr, got 3"),
        ({"grid": [1]}, "`grid` must map names to values"),
        ({"seeds": ["a"]}, "`seeds` must be a list of whole numbers"),
        ({"variants": {"a": 3}}, "variant 'a' must map keys"),
        ({"variants": {"a b": {}, "a/b": {}}}, "several children would be called a-b"),
        ({"steps": None}, "`steps` is missing"),
        ({"steps": {"a": ["fit"]}}, "step 'a' must be a command"),
        ({"steps": {"a": "fit", "b": "fit"}}, "a child has one `fit`"),
        ({"steps": {"a": "sample --model {modle}"}}, r"unknown placeholder \{modle\}.*there are .*seed.*ckpt"),
        ({"vars": {"lr": 1, "log": None}}, "give log: --set log=VALUE"),
        ({"grid": {"trainer.max_steps": [3]}}, "trainer.max_steps would change nothing: no step trains"),
        ({"collect": None}, "`collect` is missing"),
        ({"collect": {"x": {"scaler": "a"}}}, "needs one of scalar, json, seconds"),
        ({"collect": {"x": {"scalar": "a", "key": "b"}}}, "`collect` of 'x' has no key"),
        ({"collect": {"x": {"scalar": "a", "pick": "best"}}}, "`pick` of 'x' is last, min or max"),
        ({"collect": {"x": {"seconds": "fit"}}}, "there is no step 'fit'"),
        ({"config": "nowhere.yaml"}, "no file nowhere.yaml"),
        ({"jobs": 0}, "`jobs` must be a number from 1"),
        ({"launcher": "cloud"}, "unknown launcher 'cloud'; there are process, local, slurm"),
    ],
)
def test_bad_yaml_is_one_line(make, tmp_path, capsys, changes, match):
    assert cli.main(["sweep", str(make(**changes)), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(match, err)
    assert not list((tmp_path).glob("out/*/child.json")), "nothing is written before everything is checked"


@pytest.mark.parametrize(
    "text, match",
    [("a: [", "no valid YAML"), ("- a", "must hold a mapping"), ("a: 1\na: 2", "key 'a' comes twice")],
)
def test_files_that_are_no_sweep(tmp_path, capsys, text, match):
    (tmp_path / "x.yaml").write_text(text)
    assert cli.main(["sweep", str(tmp_path / "x.yaml")]) == 2
    assert match in capsys.readouterr().err
    assert cli.main(["sweep", str(tmp_path / "y.yaml")]) == 2


def test_a_key_below_a_preset_is_refused(make, base):
    path = make(config=base, grid={"model.init_args.generator.depth": [2]}, steps={"fit": "fit"})
    with pytest.raises(UserError, match=r"model.init_args.generator is 'debug' in .*base.yaml"):
        load_sweep(path)


def test_set_only_changes_what_there_is(make, capsys):
    assert cli.main(["sweep", str(make()), "--set", "data=x"]) == 2
    assert "has no data; there are log, lr" in capsys.readouterr().err
    assert cli.main(["sweep", str(make()), "--set", "data"]) == 2
    assert "--set takes KEY=VALUE" in capsys.readouterr().err


def test_dry_run_writes_nothing(make, tmp_path, capsys):
    assert cli.main(["sweep", str(make()), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert "work.py" in (out := capsys.readouterr().out) and "6 children" in out
    assert not (tmp_path / "out").exists()


# ---- running --------------------------------------------------------------------------------------------------------


def test_results_against_hand_computed_numbers(make, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["sweep", str(make()), "--out", str(out), "--jobs", "3"]) == 0
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


def test_spread():
    assert spread([]) == "–" and spread([0.12345678]) == "0.1235"
    assert spread([1.0, 1.0]) == "1.000 ± 0.000" and spread([100.0, 104.0]) == "102.0 ± 2.8"
    assert spread([0.001, 0.002]) == "0.00150 ± 0.00071"


def test_finished_children_are_not_run_again(make, tmp_path, capsys):
    path, out = make(), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out), "--jobs", "3"]) == 0
    first, before = (out / "results.csv").read_text(), lines_of(tmp_path / "runs.txt")
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert lines_of(tmp_path / "runs.txt") == before and (out / "results.csv").read_text() == first
    assert "finished before" in capsys.readouterr().out
    # other numbers are collected from the same runs
    make(collect={"b": {"json": "m.json", "key": "accuracy"}})
    assert cli.main(["sweep", str(path), "--out", str(out), "--jobs", "3"]) == 0
    assert lines_of(tmp_path / "runs.txt") == before and "0.17 ± 0.15" in (out / "results.md").read_text()
    # other settings under the same names are refused
    assert cli.main(["sweep", str(path), "--out", str(out), "--set", "log=elsewhere"]) == 2
    assert "was started with other settings" in capsys.readouterr().err


def test_a_base_config_that_was_edited_is_other_settings(make, base, tmp_path):
    path = make(config=base, grid=None, seeds=[0], steps={"fit": "fit"})
    write_child(load_sweep(path).children[0], tmp_path / "child")
    write_child(load_sweep(path).children[0], tmp_path / "child")
    Path(base).write_text(Path(base).read_text().replace("max_steps: 5", "max_steps: 6"))
    with pytest.raises(UserError, match="was started with other settings"):
        write_child(load_sweep(path).children[0], tmp_path / "child")


def test_a_failed_child_is_reported_and_the_others_go_on(make, tmp_path, capsys):
    path, out = make(grid={"lr": [9, 2.0]}, seeds=[0]), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "lr=9__seed0 failed: step work ended with exit code 1: the learning rate is far too high" in printed
    assert "    the learning rate is far too high" in printed, "the end of the log is shown"
    table = (out / "results.md").read_text()
    assert "| 9 | – | – | 0 |" in table and "| 2.0 | 2 | 0 | 1 |" in table and "- lr=9__seed0: step work" in table
    assert (out / "results.csv").read_text().splitlines()[1].startswith("lr=9__seed0,9,0,failed,,,step work")


def test_missing_and_infinite_numbers_fail_the_child(make, tmp_path, capsys):
    path = make(grid=None, seeds=[0], collect={"x": {"json": "m.json", "key": "runs.0.los"}})
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "m.json has no 'runs.0.los' ('los' is missing; there are loss)" in capsys.readouterr().out
    (tmp_path / "n.json").write_text('{"a": NaN, "b": null}')
    for key in "ab":
        with pytest.raises(UserError, match="not a finite number"):
            collect(tmp_path, {"x": {"json": "n.json", "key": key}}, {})
    with pytest.raises(UserError, match=r"no scalar 'val/loss' in the logs below .*; there are none at all"):
        collect(tmp_path, {"x": {"scalar": "val/loss"}}, {})


def test_prepare_runs_once_and_its_failure_stops_the_sweep(make, tmp_path, capsys):
    touch = f"$ {sys.executable} -c \"open(r'{tmp_path}/prepared', 'a').write('x')\""
    path, out = make(prepare={"touch": touch}, grid=None, seeds=[0]), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert (tmp_path / "prepared").read_text() == "x" and len(lines_of(tmp_path / "runs.txt")) == 2
    make(prepare={"no": f"$ {sys.executable} -c raise(SystemExit(3))"})
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "other")]) == 1
    assert "prepare failed: step no ended with exit code 3" in capsys.readouterr().out
    assert len(lines_of(tmp_path / "runs.txt")) == 2


# ---- kill -9 --------------------------------------------------------------------------------------------------------


def wait_for(condition, what, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("killed", ["everything", "sweep and runner", "sweep only"])
def test_kill_minus_nine_and_start_again(make, tmp_path, killed):
    """Seed 1 waits for the file `go`: there the sweep is killed. The second start finishes with the same table."""
    path, out, log = make(grid=None, seeds=[0, 1, 2]), tmp_path / "out", tmp_path / "runs.txt"
    command = [*VIDEOAR, "sweep", str(path), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    sweep = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    wait_for(lambda: any("begin seed1" in line for line in lines_of(log)), "the start of the second child")
    _, _, step, runner = next(line for line in lines_of(log) if "begin seed1" in line).split()
    victims = {"everything": [sweep.pid, int(runner), int(step)], "sweep and runner": [sweep.pid, int(runner)]}
    for victim in victims.get(killed, [sweep.pid]):
        os.kill(victim, signal.SIGKILL)
    sweep.wait()
    assert not (out / "results.csv").exists() and (out / "seed0" / "result.json").exists()

    again = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    if killed != "everything":  # an orphan still works on the folder: nobody else may
        time.sleep(1.0)
        assert sum("begin seed1" in line for line in lines_of(log)) == 1
    (tmp_path / "go").touch()
    assert again.wait(60) == 0
    runs = [line.split()[:2] for line in lines_of(log)]
    assert runs.count(["begin", "seed0"]) == 1 and runs.count(["begin", "seed2"]) == 1
    assert runs.count(["begin", "seed1"]) == (1 if killed == "sweep only" else 2)
    assert not list(out.rglob("*.part*")), "no half-written file is left"

    assert subprocess.call([*command[:-1], str(tmp_path / "whole")], stdout=subprocess.DEVNULL) == 0
    for name in ("results.csv", "results.md"):
        assert (out / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_sigterm_ends_the_children_too(make, tmp_path):
    path, log = make(grid=None, seeds=[1]), tmp_path / "runs.txt"
    sweep = subprocess.Popen([*VIDEOAR, "sweep", str(path), "--out", str(tmp_path / "out")], stderr=subprocess.PIPE)
    wait_for(lambda: lines_of(log), "the start of the child")
    step = int(lines_of(log)[0].split()[2])
    sweep.terminate()
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and err.decode().strip() == "videoar: interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(step, 0)


def test_an_interrupted_fit_goes_on_from_its_last_checkpoint(make, base, tmp_path):
    path = make(config=base, grid=None, seeds=[0], steps={"fit": "fit", "sample": "sample --model {ckpt}"})
    child = load_sweep(path, tmp_path / "out").children[0]
    folder = tmp_path / "out" / child.name
    write_child(child, folder)
    assert "--ckpt_path" not in _command(folder, "fit", child.steps["fit"])
    with pytest.raises(UserError, match=r"no last\.ckpt below"):
        _command(folder, "sample", child.steps["sample"])
    for version in (0, 1):
        last = folder / "lightning_logs" / f"version_{version}" / "checkpoints" / "last.ckpt"
        last.parent.mkdir(parents=True)
        last.write_bytes(b"")
        os.utime(last, (version, version))
    assert _command(folder, "fit", child.steps["fit"])[-2:] == ["--ckpt_path", str(last)]
    assert _command(folder, "sample", child.steps["sample"])[-1] == str(last)


# ---- numbers --------------------------------------------------------------------------------------------------------


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


def test_submitit_runs_children_locally(make, tmp_path):
    path, out = make(grid=None, seeds=[0], launcher="local"), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 0
    assert json.loads((out / "seed0" / "result.json").read_text())["metrics"] == {"loss": 1.0, "accuracy": 0.0}
    assert (out / "seed0" / "job.txt").is_file() and list((out / "jobs").iterdir())


CLUSTER = {  # SLURM's commands as submitit calls them, for a cluster of this machine
    "sbatch": """
        id=$(($(ls "$CLUSTER" | wc -l) + 1)); cp "$1" "$CLUSTER/$id"
        export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here
        export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
        setsid sh "$1" > "$CLUSTER/../job.log" 2>&1 &
        echo "Submitted batch job $id" """,
    "srun": """
        while [ "${1#--}" != "$1" ]; do case $1 in --output | --error) shift ;; esac; shift; done
        exec "$@" """,
    "sacct": "echo 'JobID|State|NodeList'; for id in $(ls $CLUSTER); do echo \"$id|RUNNING|here\"; done",
    "scancel": "exit 0",
}


def test_slurm_jobs_outlive_the_sweep(make, tmp_path):
    """The sweep is killed while its job runs. Started again it waits for that job, and submits no other."""
    show = f"$ {sys.executable} -c \"import os; open(r'{{out}}/env', 'w').write(' '.join(os.environ))\""
    work = f"$ {sys.executable} {tmp_path}/work.py {{out}} {{log}} 1 1"
    slurm = {"slurm_partition": "debug", "gpus_per_node": 1}
    path, out = make(grid=None, seeds=[1], steps={"show": show, "work": work}, launcher="slurm", slurm=slurm), tmp_path
    for folder in ("bin", "queue"):
        (tmp_path / folder).mkdir()
    for name, script in CLUSTER.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    search = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": search, "CLUSTER": str(tmp_path / "queue"), "OMP_NUM_THREADS": "1"}
    command, child = [*VIDEOAR, "sweep", str(path), "--out", str(out)], out / "seed1"
    sweep = subprocess.Popen(command, env=environment)
    wait_for(lambda: lines_of(tmp_path / "runs.txt"), "the start of the job")
    sweep.kill()
    sweep.wait()
    again = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    line = iter(again.stdout.readline, "")
    assert "seed1: started" in next(line)
    (tmp_path / "go").touch()
    assert again.wait(60) == 0, (tmp_path / "job.log").read_text()
    assert read_json(child / "result.json")["metrics"] == {"loss": 2.0, "accuracy": 0.1}
    (submitted,) = (tmp_path / "queue").iterdir()
    assert "#SBATCH --partition=debug" in submitted.read_text() and "#SBATCH --gpus-per-node=1" in submitted.read_text()
    assert "SLURM_" not in (child / "env").read_text(), "Lightning would take the step for a task of the job"


def test_launchers_without_their_tools_say_so(make, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert cli.main(["sweep", str(make()), "--out", str(tmp_path / "out"), "--launcher", "slurm"]) == 2
    assert "pip install 'videoar[sweep]'" in capsys.readouterr().err
    assert cli.main(["sweep", str(make()), "--jobs", "3", "--devices", "0,1"]) == 2
    assert "must name a GPU for each of 3 jobs" in capsys.readouterr().err


def test_devices_are_shared_out(make, tmp_path):
    show = f"$ {sys.executable} -c \"import os; open(r'{{out}}/d', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\""
    steps = {"show": show, "work": f"$ {sys.executable} {tmp_path}/work.py {{out}} {{log}} 1 0"}
    path, out = make(grid=None, seeds=[0, 2], steps=steps), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out), "--jobs", "2", "--devices", "4,7"]) == 0
    assert [(out / f"seed{seed}" / "d").read_text() for seed in (0, 2)] == ["4", "7"]


def test_the_live_table_shows_states_and_numbers(make, tmp_path):
    from rich.console import Console

    from videoar.cli.sweeps.report import Outcome
    from videoar.cli.sweeps.show import View

    children = load_sweep(make(), tmp_path / "out").children[:3]
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
