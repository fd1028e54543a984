"""Atari clips: real games, in UCF-101's layout, the same for a seed whatever the number of workers."""

from __future__ import annotations

import argparse
import filecmp
import re

import numpy as np
import pytest

from videoar.cli import data as command
from videoar.data.atari import AtariClips, Player, StaticGame, clip_name, motion, render_game
from videoar.data.atari_set import choose_games, render_set
from videoar.data.items import Source
from videoar.data.layout import read_manifest
from videoar.data.readers import open_video
from videoar.data.sources import index_source
from videoar.errors import UserError

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
    assert re.fullmatch(r"motion 0\.\d\d under random play is below 0\.5", dropped["othello"])
    assert "ended the process (exit code 1)" in dropped["combat"]
    assert sorted(path.name for path in out.iterdir()) == [
        "atari.json",
        "classInd.txt",
        "dropped.txt",
        "freeway",
        "manifest.csv",
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
        assert motion(reader.get(range(9)).numpy()) >= 0.4


def test_one_worker_gives_the_same_bytes_and_other_seeds_others(rendered, tmp_path):
    out, _, _ = rendered
    for seed in (0, 1):
        clips = AtariClips(**{**SMALL.__dict__, "seed": seed})
        render_set(tmp_path / str(seed), "pong", clips, workers=1)
        names = [file.name for file in sorted((out / "pong").iterdir())]
        same, different, _ = filecmp.cmpfiles(out / "pong", tmp_path / str(seed) / "pong", names, shallow=False)
        assert len(same if seed == 0 else different) == 6


def test_an_interrupted_run_goes_on(rendered, tmp_path, monkeypatch):
    out, _, _ = rendered
    seen = []
    render_set(out, "pong,freeway", SMALL, workers=1, report=lambda game, reason: seen.append((game, reason)))
    assert sorted(seen) == [("freeway", None), ("pong", None)]
    with pytest.raises(UserError, match=r"other settings \(size 32 -> 64\)"):
        render_set(out, "pong", AtariClips(**{**SMALL.__dict__, "size": 64}))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="was not made by this command"):
        render_set(tmp_path, "pong", SMALL)


def test_clips_move_and_hold_no_cuts(tmp_path):
    player = Player("breakout", 1, AtariClips(frames=9, size=64))
    clips = [player.clip() for _ in range(3)]
    assert all(clip.shape == (9, 64, 64, 3) for clip in clips)
    assert len({clip.tobytes() for clip in clips}) == 3
    brick_rows = np.stack(clips)[:, :, 18:26].reshape(-1, 3)
    assert len(np.unique(brick_rows, axis=0)) > 5  # the rainbow of bricks is on screen
    with pytest.raises(StaticGame):
        render_game("othello", tmp_path, SMALL)


def test_motion_counts_changing_frames():
    still = np.zeros((5, 32, 32, 3), np.uint8)
    assert motion(still) == 0.0
    moving = still.copy()
    moving[1::2, 4:8, 4:8] = 200
    assert motion(moving) == 1.0
    moving[3:] = moving[2]
    assert motion(moving) == 0.5


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
        choose_games(games)
    assert choose_games("3") == (choose_games("all")[0], 3)
    assert choose_games("pong, pong,breakout") == (["pong", "breakout"], 2)


@pytest.mark.parametrize("wrong", [{"size": 33}, {"fps": 7.0}, {"frames": 0}, {"sticky": 1.0}, {"clips_per_game": 0}])
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
