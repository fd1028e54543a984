"""Finding files and reading text as people store them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from videoar.data.files import as_text, is_text, read_text, walk
from videoar.errors import UserError


def test_walk_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "set" / "cats").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("set/cats/b.MP4", "set/cats/a.mp4", "set/cats/.hidden.mp4", "set/cats/notes.txt", "elsewhere/c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "set" / ".cache").mkdir()
    (tmp_path / "set" / ".cache" / "d.mp4").touch()
    (tmp_path / "set" / "dogs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "cats" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone.mp4").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(tmp_path / "set").as_posix() for path in walk(tmp_path / "set", {".mp4"})]
    assert found == ["cats/a.mp4", "cats/b.MP4", "dogs/c.mp4"]


def test_names_that_are_no_text(tmp_path):
    assert is_text("Käse 猫.mp4")
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    assert [is_text(path) for path in walk(tmp_path, {".mp4"})] == [False]


@pytest.mark.parametrize("data", [b"caf\xc3\xa9", b"\xef\xbb\xbfcaf\xc3\xa9", "café".encode("utf-16")])
def test_text_with_and_without_a_mark(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt") == "café"


def test_text_of_another_encoding_is_named(tmp_path):
    path = Path(tmp_path / "a.txt")
    path.write_bytes(b"caf\xe9")
    assert as_text(path.read_bytes()) is None
    with pytest.raises(UserError, match=r"a\.txt: not UTF-8 text"):
        read_text(path)
