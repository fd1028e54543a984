"""Every reader gives exactly the frames asked for, from files over container x codec x group of pictures x stamps.

The quick core is a part of the matrix; the whole is slow. `numbered.MATRIX` lists the files.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numbered import MATRIX, Clip, encode, in_order, numbers_of

from videoar.data import readers
from videoar.data.index import known
from videoar.data.readers import BACKENDS, DecordReader, PyAVReader, iterate, open_video

CORE = (
    *("pyramid.mp4", "open.mp4", "refresh.mp4", "edit_list.mp4", "mid_gop.mkv", "hevc_open.mp4", "mpeg4_b.mp4"),
    *("pyramid.ts", "mpeg2.mpg", "intra.avi", "vp8.webm", "live.webm", "palette.mov", "palette.gif"),
)
DECORD_IS_RIGHT = (
    *("plain.mp4", "pyramid.mp4", "pyramid.mov", "pyramid.mkv", "intra.mp4", "one_key.mp4", "two.mp4"),
    *("offset.mp4", "offset.mkv", "uneven.mp4", "uneven.mkv", "fragmented.mp4", "fragment_a_frame.mp4"),
    *("interlaced.mp4", "defaults.mp4"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[Clip], Path]:
    """The file of a clip, made once."""
    folder = tmp_path_factory.mktemp("numbered")
    return cache(lambda name: encode(folder, next(clip for clip in MATRIX if clip.name == name)))


def wrong_starts(path: Path, backend: str, truth: list[int]) -> list[list[int]]:
    """What was asked for and not given: every start, forward; some strides, orders and repeats."""
    draw, count = random.Random(0), len(truth)
    asked = [list(range(start, min(start + 4, count))) for start in range(count)]
    asked += [list(range(draw.randrange(step), count, step)) for step in (2, 5, 17)]
    asked += [list(range(count - 1, -1, -3)), [count - 1], [0], [count // 2, 0, count // 2, count - 1]]
    asked += [draw.choices(range(count), k=5) for _ in range(4)]
    return [
        indices
        for indices in asked
        if numbers_of(open_video(path, backend).get(indices)) != [truth[index] for index in indices]
    ]


def check(path: Path, backend: str) -> None:
    truth = in_order(path)
    assert -1 not in truth
    assert len(truth) >= 10
    reader = open_video(path, backend)
    assert len(reader) == len(truth)
    assert (reader.height, reader.width) == (48, 64)
    assert wrong_starts(path, backend, truth) == []
    assert numbers_of(iterate(path, backend)) == truth


@pytest.mark.parametrize("name", CORE)
def test_core_of_the_matrix(made, name):
    check(made(name), "pyav")


@pytest.mark.slow
@pytest.mark.parametrize("name", [clip.name for clip in MATRIX if clip.name not in CORE])
def test_rest_of_the_matrix(made, name):
    check(made(name), "pyav")


@pytest.mark.parametrize("name", [clip.name for clip in MATRIX if clip.name in (*CORE, "one_key.mp4", "plain.mp4")])
def test_decord_reads_only_what_it_reads_rightly(made, name):
    pytest.importorskip("decord")
    reader = open_video(made(name), "decord")
    assert type(reader) is (DecordReader if name in DECORD_IS_RIGHT else PyAVReader)
    assert name not in DECORD_IS_RIGHT or known(made(name)).unusual == ""


@pytest.mark.slow
@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "pyav"])
@pytest.mark.parametrize("name", [clip.name for clip in MATRIX])
def test_the_other_readers_on_what_they_read(made, name, backend, monkeypatch, caplog):
    monkeypatch.setattr(readers, "_said", set())
    reader = open_video_or_skip(made(name), backend)
    if name in DECORD_IS_RIGHT:
        with caplog.at_level(logging.INFO, "videoar"):
            check(made(name), backend)
        assert "read by PyAV" not in caplog.text
    else:
        assert isinstance(reader, PyAVReader)


def test_torchcodec_hands_over_no_frame_of_another_stamp(made, caplog):
    path = made("pyramid.mp4")
    reader, truth, right = open_video_or_skip(path, "torchcodec"), in_order(path), known(path)
    for stamps, said in ((right.stamps, ""), (np.roll(right.stamps, -1), "torchcodec returned other frames")):
        reader._probe = replace(right, stamps=stamps)
        with caplog.at_level(logging.INFO, "videoar"):
            assert numbers_of(reader.get([7, 3])) == [truth[7], truth[3]]
        assert said in caplog.text and bool(said) == bool(caplog.text)


def open_video_or_skip(path: Path, backend: str):
    pytest.importorskip(
        "decord" if backend == "decord" else "torchcodec.decoders", exc_type=(ImportError, OSError, RuntimeError)
    )
    return open_video(path, backend)
