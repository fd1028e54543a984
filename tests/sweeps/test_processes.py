"""`videoar sweep`: kill -9 and start again, interruption, launchers, devices. Everything is real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from videoar.cli import main as cli
from videoar.errors import UserError
from videoar.sweeps import launch
from videoar.sweeps.child import VIDEOAR, _command, read_json, write_child
from videoar.sweeps.spec import load_sweep


def lines_of(path):
    return path.read_text().splitlines() if path.is_file() else []


def wait_for(condition, what, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("killed", ["everything", "sweep and runner", "sweep only"])
def test_kill_minus_nine_and_start_again(make_sweep, tmp_path, killed):
    """Seed 1 waits for the file `go`: there the sweep is killed. The second start finishes with the same table."""
    path, out, log = make_sweep(grid=None, seeds=[0, 1, 2]), tmp_path / "out", tmp_path / "runs.txt"
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

    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "whole")]) == 0
    for name in ("results.csv", "results.md"):
        assert (out / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_sigterm_ends_the_children_too(make_sweep, tmp_path):
    path, log = make_sweep(grid=None, seeds=[1]), tmp_path / "runs.txt"
    sweep = subprocess.Popen([*VIDEOAR, "sweep", str(path), "--out", str(tmp_path / "out")], stderr=subprocess.PIPE)
    wait_for(lambda: lines_of(log), "the start of the child")
    step = int(lines_of(log)[0].split()[2])
    sweep.terminate()
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 143 and "SIGTERM: waiting for checkpoints" in err.decode()
    with pytest.raises(ProcessLookupError):
        os.kill(step, 0)


SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    time.sleep(1)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save if sys.argv[2] == "saves" else signal.SIG_IGN)
pathlib.Path(sys.argv[1] + ".ready").touch()
time.sleep(100)
"""


def begun(tmp_path, kind):
    """A job that saves one second after SIGTERM, or one that does not listen."""
    place = tmp_path / kind
    process = subprocess.Popen([sys.executable, "-c", SAVES, str(place), kind], start_new_session=True)
    wait_for(place.with_name(f"{kind}.ready").exists, "the start")
    return launch._Process(process), place


def test_children_that_are_to_end_get_time_for_their_checkpoints(tmp_path, monkeypatch):
    jobs, places = zip(*(begun(tmp_path / name, "saves") for name in ("a", "b") if not (tmp_path / name).mkdir()))
    launch.stop(jobs)
    assert [place.read_text() for place in places] == ["saved", "saved"]
    assert [job.process.returncode for job in jobs] == [143, 143]
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    deaf, _ = begun(tmp_path, "deaf")
    launch.stop([deaf])
    assert deaf.process.returncode == -signal.SIGKILL


def test_a_second_signal_does_not_wait_for_checkpoints(tmp_path, monkeypatch):
    deaf, _ = begun(tmp_path, "deaf")

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "time", SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        launch.stop([deaf])
    assert deaf.process.returncode == -signal.SIGKILL


def test_an_interrupted_fit_goes_on_from_its_last_checkpoint(make_sweep, base_config, tmp_path):
    path = make_sweep(config=base_config, grid=None, seeds=[0], steps={"fit": "fit", "sample": "sample --model {ckpt}"})
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


def test_submitit_runs_children_locally(make_sweep, tmp_path):
    path, out = make_sweep(grid=None, seeds=[0], launcher="local"), tmp_path / "out"
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


def test_slurm_jobs_outlive_the_sweep(make_sweep, tmp_path):
    """The sweep is killed while its job runs. Started again it waits for that job, and submits no other."""
    show = f"$ {sys.executable} -c \"import os; open(r'{{out}}/env', 'w').write(' '.join(os.environ))\""
    work = f"$ {sys.executable} {tmp_path}/work.py {{out}} {{log}} 1 1"
    slurm = {"slurm_partition": "debug", "gpus_per_node": 1}
    path, out = (
        make_sweep(grid=None, seeds=[1], steps={"show": show, "work": work}, launcher="slurm", slurm=slurm),
        tmp_path,
    )
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


def test_launchers_without_their_tools_say_so(make_sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert cli.main(["sweep", str(make_sweep()), "--out", str(tmp_path / "out"), "--launcher", "slurm"]) == 2
    assert "pip install 'videoar[sweep]'" in capsys.readouterr().err
    assert cli.main(["sweep", str(make_sweep()), "--jobs", "3", "--devices", "0,1"]) == 2
    assert "must name a GPU for each of 3 jobs" in capsys.readouterr().err


def test_devices_are_shared_out(make_sweep, tmp_path):
    show = f"$ {sys.executable} -c \"import os; open(r'{{out}}/d', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\""
    steps = {"show": show, "work": f"$ {sys.executable} {tmp_path}/work.py {{out}} {{log}} 1 0"}
    path, out = make_sweep(grid=None, seeds=[0, 2], steps=steps), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out), "--jobs", "2", "--devices", "4,7"]) == 0
    assert [(out / f"seed{seed}" / "d").read_text() for seed in (0, 2)] == ["4", "7"]
