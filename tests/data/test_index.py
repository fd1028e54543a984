"""What was learned of files is kept beside them, used while they are the same, and not believed against the stamps."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numbered import Clip, encode, in_order, numbers_of

from videoar.data import index, verify
from videoar.data.index import INDEX, keep, known, write_index
from videoar.data.probe import Probe, probe
from videoar.data.readers import DecordReader, open_video

FILES = [Clip("plain.mp4", count=30), Clip("b.ts", count=30, bframes=2), Clip("old.avi", "mpeg4", count=30, bframes=2)]


@pytest.fixture
def forget(monkeypatch):
    """As in a new process."""

    def start_anew() -> None:
        monkeypatch.setattr(index, "_memory", index._Memory(10**6))
        index._find.cache_clear()
        index._connect.cache_clear()

    start_anew()
    yield start_anew
    index._refused.clear()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data set of three files."""
    for clip in FILES:
        encode(tmp_path, clip)
    return tmp_path


def test_what_is_written_comes_back_and_spares_the_walk(folder, forget, monkeypatch):
    write_index(folder, {clip.name: probe(folder / clip.name, exact=True) for clip in FILES})
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)
    expected = [probe(moved / clip.name, exact=True) for clip in FILES]
    monkeypatch.setattr(index, "probe", lambda path: pytest.fail(f"{path} was walked"))
    for clip, truth in zip(FILES, expected):
        forget()
        found = known(moved / clip.name)
        assert vars(found).keys() == vars(truth).keys()
        assert all(np.array_equal(value, getattr(truth, name)) for name, value in vars(found).items())
        assert numbers_of(open_video(moved / clip.name).get([20, 3])) == [20, 3]


def test_a_changed_file_is_looked_at_again(folder, forget):
    write_index(folder, {"plain.mp4": probe(folder / "plain.mp4")})
    encode(folder, Clip("plain.mp4", count=12))
    forget()
    assert len(open_video(folder / "plain.mp4")) == 12


@pytest.mark.parametrize("harm", ["no database", "other table", "lies", "other bytes"])
def test_an_index_that_is_broken_or_lies_does_no_harm(folder, forget, harm):
    truth = probe(folder / "plain.mp4")
    lie = replace(truth, stamps=truth.stamps[::-1].copy() if harm == "lies" else truth.stamps)
    write_index(folder, {"plain.mp4": lie})
    if harm == "no database":
        (folder / INDEX).write_bytes(b"SQLite format 3\0" + bytes(200))
    elif harm != "lies":
        with sqlite3.connect(folder / INDEX) as base:
            base.execute("DROP TABLE clips" if harm == "other table" else "UPDATE clips SET arrays = 'xxxxxxxxxx'")
    forget()
    assert numbers_of(open_video(folder / "plain.mp4").get([17, 4])) == [17, 4]


def test_a_folder_that_cannot_be_written_to_has_its_index_in_the_cache(folder, forget, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    write_index(folder, {"plain.mp4": replace(probe(folder / "plain.mp4"), fps=99.0)}, beside=False)
    assert not (folder / INDEX).exists()
    forget()
    assert known(folder / "plain.mp4").fps == 99.0


def test_an_index_that_cannot_be_written_is_only_said(folder, forget, monkeypatch, tmp_path_factory, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache") / "file"))
    Path(os.environ["XDG_CACHE_HOME"]).touch()
    (folder / INDEX).mkdir()
    with caplog.at_level("INFO", "videoar"):
        write_index(folder, {"plain.mp4": probe(folder / "plain.mp4")})
    assert caplog.text.count("cannot be written") == 2


def test_memory_forgets_what_was_used_longest_ago():
    memory = index._Memory(1000)
    row = Probe("mov", "h264", 300, 25.0, (48, 64), 48, 64, stamps=np.arange(300))
    for name in "abcd":  # 364 each
        memory.put((name, 1, 1), row)
        memory.get(("a", 1, 1))
    assert [name for name in "abcd" if memory.get((name, 1, 1))] == ["a", "d"]


def test_the_check_names_the_reader_and_compares(folder):
    assert [verify.check(folder / clip.name, "pyav")[4:6] for clip in FILES] == [
        ("pyav", 6),
        ("pyav", 6),
        ("pyav in order", 6),
    ]


def test_a_reader_that_returns_other_frames_is_not_used(folder, monkeypatch, forget):
    pytest.importorskip("decord")
    path = folder / "plain.mp4"
    keep(path, probe(path))
    assert verify.check(path, "decord").reader == "decord"
    decode = DecordReader._decode
    monkeypatch.setattr(DecordReader, "_decode", lambda self, at: decode(self, [max(0, n - 1) for n in at]))
    checked = verify.check(path, "decord")
    assert (checked.reader, checked.frames) == ("pyav", 30)
    assert checked.found.unusual == "decord returned other frames when it was checked"
    assert numbers_of(open_video(path, "decord").get([20, 3])) == [20, 3]


def test_frames_that_are_called_keys_and_are_none_are_no_place_to_start(folder, monkeypatch, forget):
    path = folder / "plain.mp4"
    looked = probe

    def wrong(path, *given, **named):
        found = looked(path, *given, **named)
        return replace(found, keys=np.arange(30), targets=found.stamps) if named.get("exact") else found

    monkeypatch.setattr(verify, "probe", wrong)
    checked = verify.check(path, "pyav")
    assert numbers_of(open_video(path).get([20, 3])) == [20, 3] == [in_order(path)[n] for n in (20, 3)]
    assert checked.frames == 30
