"""Folders that one process holds, and what killed writers leave."""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context

import pytest
import torch
from safetensors.torch import save_file

from videoar.errors import UserError
from videoar.files import LOCK, atomic_folder, atomic_path, only_writer, remove_partial


def hold(folder, ready):
    with only_writer(folder):
        ready.send(os.getpid())
        signal.pause()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs locks of files")
def test_a_folder_is_held_until_its_writer_ends_however(tmp_path):
    folder, context = tmp_path / "run", get_context("fork")
    receive, send = context.Pipe(duplex=False)
    holder = context.Process(target=hold, args=(folder, send))
    holder.start()
    assert receive.poll(60)
    who = receive.recv()
    try:
        with pytest.raises(UserError, match=rf"run is being written by process {who} on .*choose another folder"):
            only_writer(folder).__enter__()
    finally:
        holder.kill()
        holder.join()
    assert (folder / LOCK).exists()
    with only_writer(folder):
        pass
    assert not (folder / LOCK).exists() and folder.exists()
    with only_writer(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_only_what_writers_left_is_removed(tmp_path):
    kept = ["last.ckpt", ".hidden", ".notes.part", "a.1.part.mp4", ".x.part.mp4"]
    for name in (*kept, ".last.12.part.ckpt", ".state.7.part"):
        (tmp_path / name).touch()
    (tmp_path / ".model.3.part").mkdir()
    with atomic_path(tmp_path / "b.txt") as file, atomic_folder(tmp_path / "c") as inner:
        file.touch()
        remove_partial(tmp_path)
        assert not file.exists() and not inner.exists()  # the names are those that writers give
        file.touch()
        inner.mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "b.txt", "c"])


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink(os.devnull, path)])
def test_only_files_are_replaced(tmp_path, make):
    make(tmp_path / "out.mp4")
    with (
        pytest.raises(UserError, match=r"out\.mp4 is no file that could be replaced"),
        atomic_path(tmp_path / "out.mp4"),
    ):
        pytest.fail("nothing is begun")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_weights_have_the_mode_of_other_files(tmp_path):
    """safetensors writes files that none but their owner can read, on a cluster as well."""
    (tmp_path / "other").touch()
    with atomic_path(tmp_path / "a.safetensors") as path:
        save_file({"a": torch.zeros(1)}, path)
    with atomic_folder(tmp_path / "model") as folder:
        save_file({"a": torch.zeros(1)}, folder / "b.safetensors")
    modes = {
        p.stat().st_mode
        for p in (tmp_path / "other", tmp_path / "a.safetensors", folder.parent / "model" / "b.safetensors")
    }
    assert len(modes) == 1
