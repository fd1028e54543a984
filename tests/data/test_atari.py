"""Atari clips: real games, in UCF-101's layout, the same for a seed whatever the number of workers."""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_lifeline import alive

from videoar.cli import data as command
from videoar.data import atari_set
from videoar.data.atari import AtariClips, GameMotion, Player, StaticGame, clip_name, probe_game, render_game
from videoar.data.atari_set import parse_games, read_motion, render_set
from videoar.data.items import Source
from videoar.data.layout import read_manifest
from videoar.data.readers import open_video
from videoar.data.sources import index_source
from videoar.data.transforms import to_pixels
from videoar.errors import UserError
from videoar.motion import changing_share

SMALL = AtariClips(clips_per_game=5, test_clips=1, frames=9, size=32)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Two games that play, one that stands still, one that ends the process."""
    out = tmp_path_factory.mktemp("data") / "atari"
    kept, dropped = render_set(out, "pong,othello,combat,freeway", SMALL, workers=2)
    return out, kept, dropped


def test_games_that_do_not_play_are_dropped_with_the_reason(rendered):
    out, kept, dropped = rendered
    assert kept == ["freeway", "pong"]
    still = r"50 recordings in a row are no use \(of 50, 50 stood still, 0 held a cut\)"
    assert re.fullmatch(still, dropped["othello"])
    assert "ended the process (exit code 1)" in dropped["combat"]
    assert sorted(path.name for path in out.iterdir()) == [
        "atari.json",
        "classInd.txt",
        "dropped.txt",
        "freeway",
        "manifest.csv",
        "motion.csv",
        "pong",
        "testlist01.txt",
        "trainlist01.txt",
    ]


def test_layout_is_ucf101s_and_train_and_test_share_no_run(rendered):
    out, _, _ = rendered
    index = index_source(Source(str(out)))
    assert index.class_names == ("freeway", "pong")
    assert [len(index.splits[split]) for split in ("train", "test")] == [10, 2]
    groups = {split: {item.path.split("_g")[1][:2] for item in items} for split, items in index.splits.items()}
    assert groups["train"] == {"02", "03"}
    assert groups["test"] == {"01"}
    for name, row in read_manifest(out).items():
        reader = open_video(out / name, "pyav")
        assert (len(reader), reader.fps, reader.height, reader.width) == (9, 15.0, 32, 32)
        assert (row.frames, row.fps, row.height, row.width) == (9, 15.0, 32, 32)
        frames = reader.get(range(9))
        change = changing_share(to_pixels(frames.permute(3, 0, 1, 2)[None]))[0]
        assert 0 < row.motion < 0.05  # measured before H.264, which changes it at this size
        assert (change > 0).float().mean() >= 0.8


def test_motion_of_every_game_is_written_down(rendered):
    out, _, _ = rendered
    lines = (out / "motion.csv").read_text().splitlines()
    assert lines[0] == "game,motion,cut,still"
    shares = {name: [] for name in ("freeway", "pong")}
    for row in read_manifest(out).values():
        shares[row.class_name].append(row.motion)
    for line, (game, values) in zip(lines[1:], shares.items(), strict=True):
        found = read_motion(out / game)
        motion, cut, still = found.motion, found.cut / found.drawn, found.still / found.drawn
        assert line == f"{game},{motion:.4f},{cut:.3f},{still:.3f}"
        assert motion == pytest.approx(sum(values) / 6)
        assert found.drawn - found.cut - found.still == 6
    assert read_motion(out / "freeway").motion > read_motion(out / "pong").motion


def test_one_worker_gives_the_same_bytes_and_other_seeds_others(rendered, tmp_path):
    out, _, _ = rendered
    for seed in (0, 1):
        clips = AtariClips(**{**SMALL.__dict__, "seed": seed})
        render_set(tmp_path / str(seed), "pong", clips, workers=1)
        names = [file.name for file in sorted((out / "pong").iterdir())]
        same, different, _ = filecmp.cmpfiles(out / "pong", tmp_path / str(seed) / "pong", names, shallow=False)
        assert len(same if seed == 0 else different) == 7  # 6 clips and their motion


def test_an_interrupted_run_goes_on(rendered, tmp_path, monkeypatch):
    out, _, _ = rendered
    seen = []
    render_set(out, "pong,freeway", SMALL, workers=1, report=lambda *done: seen.append(done))
    assert sorted(seen) == [("render_game", "freeway", None), ("render_game", "pong", None)]
    with pytest.raises(UserError, match=r"other settings \(size 32 -> 64\)"):
        render_set(out, "pong", AtariClips(**{**SMALL.__dict__, "size": 64}))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="was not made by this command"):
        render_set(tmp_path, "pong", SMALL)


def test_a_killed_run_goes_on_to_the_same_bytes(rendered, tmp_path):
    """What is left by a run that was killed in its second game: the first one, and half a clip."""
    out, _, _ = rendered
    shutil.copytree(out / "freeway", tmp_path / "freeway")
    shutil.copy(out / "atari.json", tmp_path)
    (tmp_path / ".pong.part").mkdir()
    (tmp_path / ".pong.part" / "v_pong_g01_c01.mp4").write_bytes(b"half")
    render_set(tmp_path, "pong,freeway", SMALL, workers=1)
    for name in ("manifest.csv", "motion.csv", "trainlist01.txt", "testlist01.txt"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    files = [path.name for path in (out / "pong").iterdir()]
    assert filecmp.cmpfiles(out / "pong", tmp_path / "pong", files, shallow=False)[0] == files
    assert not (tmp_path / ".pong.part").exists()


def _command(out, *options) -> list[str]:
    render = [sys.executable, "-m", "videoar", "data", "atari", "--out", str(out), "--games", "pong", "--workers", "1"]
    return [*render, "--size", "32", "--frames", "5", *options]


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
def test_a_disk_that_is_full_stops_the_run_and_drops_no_game(tmp_path):
    done = subprocess.run(
        _command(tmp_path / "out", "--clips-per-game", "1", "--test-clips", "1"),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # Python leaves cut-off .pyc files behind
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),  # no file may be larger
    )
    assert done.returncode == 2, done.stdout
    assert re.search(r"error: pong: cannot write .*v_pong_g01_c01\.mp4: File too large", done.stderr), done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["atari.json"]


def a_bug(game, folder, clips):
    return np.ones(2)[game]


def a_kill(game, folder, clips):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("job", "said"), [(a_bug, "pong: IndexError: only"), (a_kill, "pong: .* was killed")])
def test_what_is_no_fault_of_the_game_stops_the_run(tmp_path, monkeypatch, job, said):
    monkeypatch.setattr(atari_set, "render_game", job)
    with pytest.raises(UserError, match=said):
        render_set(tmp_path / "out", "pong", SMALL, workers=1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["atari.json"]


def _descendants(pid: int) -> list[int]:
    """The processes that a process has made, and those that they have made."""
    made: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                made += [int(stat.parent.name), *_descendants(int(stat.parent.name))]
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_renderers_end_with_a_killed_run(tmp_path):
    command = _command(tmp_path / "out", "--games", "pong,freeway", "--clips-per-game", "9999", "--workers", "2")
    run, made = subprocess.Popen(command, stdout=subprocess.DEVNULL), []
    try:
        deadline = time.monotonic() + 300
        while len(list((tmp_path / "out").glob(".*.part/*.mp4"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        made = _descendants(run.pid)
        assert len(made) >= 3  # a fork server and two renderers
        run.kill()
        run.wait()
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in made) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in made if alive(pid)]
    finally:
        for pid in filter(alive, [run.pid, *made]):
            os.kill(pid, signal.SIGKILL)


def test_clips_move_and_hold_no_cuts(tmp_path):
    player = Player("breakout", 1, AtariClips(frames=9, size=64))
    clips = [player.clip() for _ in range(3)]
    assert all(clip.shape == (9, 64, 64, 3) for clip in clips)
    assert len({clip.tobytes() for clip in clips}) == 3
    brick_rows = np.stack(clips)[:, :, 18:26].reshape(-1, 3)
    assert len(np.unique(brick_rows, axis=0)) > 5  # the rainbow of bricks is on screen
    with pytest.raises(StaticGame):
        render_game("othello", tmp_path, SMALL)


def test_a_recording_with_a_cut_or_a_standstill_is_no_use():
    clips, found = AtariClips(frames=11, size=32), GameMotion()
    playing = np.zeros((11, 32, 32, 3), np.uint8)
    for t in range(11):
        playing[t, 4:8, 2 * t : 2 * t + 4] = 200  # a sprite: 8 + 8 of 1024 pixels change a frame
    assert found.usable(playing, "playing", clips)
    flash, stop, pause = (playing.copy() for _ in range(3))
    flash[6, :8] = 255  # more than a fifth of the picture, for one frame
    stop[8:] = playing[8]  # 2 of 10 changes are missing
    pause[10] = playing[9]  # 1 of 10
    assert not found.usable(flash, "flash", clips)
    assert not found.usable(stop, "stop", clips)
    assert found.usable(pause, "pause", clips)
    assert found == GameMotion(drawn=4, cut=1, still=1, shares={"playing": 0.01562, "pause": 0.01406})
    assert found.motion == pytest.approx(0.01484)
    assert GameMotion().motion == 0


def test_cuts_are_drawn_again(tmp_path):
    """Random play in up_n_down crashes, and the picture changes at once."""
    clips = AtariClips(clips_per_game=8, test_clips=8, frames=17, size=32)
    found = render_game("up_n_down", tmp_path, clips)
    assert found.cut > 0 and found.drawn == 16 + found.cut + found.still
    for path in tmp_path.glob("*.mp4"):
        frames = open_video(path, "pyav").get(range(17))
        assert changing_share(to_pixels(frames.permute(3, 0, 1, 2)[None])).max() < 0.21


def test_the_most_moving_games_and_all_that_move(tmp_path, monkeypatch):
    monkeypatch.setattr(atari_set, "all_games", lambda: ["bowling", "boxing", "combat", "othello", "pong"])
    jobs = []
    kept, dropped = render_set(tmp_path / "2", "2", SMALL, 2, lambda *job: jobs.append(job[:2]))
    assert kept == ["boxing", "pong"] and list(dropped) == ["combat"]
    assert sorted(jobs[:5]) == [("probe_game", game) for game in atari_set.all_games()]
    assert sorted(jobs[5:]) == [("render_game", "boxing"), ("render_game", "pong")]
    assert read_motion(tmp_path / "2" / ".probes" / "boxing") == probe_game("boxing", tmp_path, SMALL)
    assert index_source(Source(str(tmp_path / "2"))).class_names == ("boxing", "pong")
    kept, _ = render_set(tmp_path / "2", "moving", SMALL, 2)
    assert kept == ["boxing"]


@pytest.mark.parametrize(
    ("games", "message"),
    [
        ("pong,nonsense", "no such game: nonsense"),
        ("0", "there are 1 to"),
        ("999", "there are 1 to"),
        (",", "no such game"),
    ],
)
def test_unknown_games(games, message):
    with pytest.raises(UserError, match=message):
        parse_games(games)
    everything, _ = parse_games("all")
    assert parse_games("3") == (everything, 3)
    assert parse_games("moving") == (everything, 0)
    assert parse_games("pong, pong,breakout") == (["pong", "breakout"], None)


@pytest.mark.parametrize(
    "wrong", [{"size": 33}, {"fps": 7.0}, {"frames": 0}, {"sticky": 1.0}, {"clips_per_game": 0}, {"max_change": 2}]
)
def test_bad_settings(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        AtariClips(**wrong)


def test_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    games = ["--games", "pong", "--clips-per-game", "1", "--test-clips", "1", "--workers", "1"]
    out = ["--out", str(tmp_path / "atari"), "--frames", "5", "--size", "32"]
    command.run(parser.parse_args(["atari", *games, *out]))
    assert "1 games x 2 clips of 5 frames; 0 games dropped" in capsys.readouterr().out
    assert (tmp_path / "atari" / "pong" / clip_name("pong", 2, 1)).is_file()
