"""Files come out whole, with the right pixels, or not at all."""

from __future__ import annotations

import base64
import re

import av
import numpy as np
import pytest
import torch
from PIL import Image

from videoar.data.inline import InlineVideo
from videoar.data.readers import open_video
from videoar.data.writers import (
    open_mp4_writer,
    tile,
    to_uint8,
    write_gif,
    write_lossless,
    write_mp4,
)


def test_mp4_is_h264_and_gives_the_frames_back(tmp_path, frames):
    path = tmp_path / "deep" / "clip.mp4"
    write_mp4(path, frames, fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    reader = open_video(path, "pyav")
    assert (len(reader), reader.fps, reader.height, reader.width) == (24, 12.5, 48, 64)
    error = np.abs(reader.get(range(24)).numpy().astype(int) - frames)
    assert error.mean() < 3


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_lossless_files_give_back_every_pixel(tmp_path, frames, backend):
    write_lossless(tmp_path / "clip.mkv", torch.from_numpy(frames).permute(3, 0, 1, 2) / 127.5 - 1, 12)
    reader = open_video(tmp_path / "clip.mkv", backend)
    assert (len(reader), reader.fps) == (24, pytest.approx(12))
    assert np.array_equal(reader.get(range(24)).numpy(), frames)
    with pytest.raises(ValueError, match="no frame to write"):
        write_lossless(tmp_path / "none.mkv", frames[:0], 12)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_float_video_and_bytes_are_the_same_video(tmp_path, frames):
    video = torch.from_numpy(frames).permute(3, 0, 1, 2) / 127.5 - 1
    assert np.array_equal(to_uint8(video), frames)
    write_mp4(tmp_path / "a.mp4", video, 8)
    write_mp4(tmp_path / "b.mp4", frames, 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_streaming_equals_writing_at_once(tmp_path, frames):
    write_mp4(tmp_path / "whole.mp4", frames, 8)
    with open_mp4_writer(tmp_path / "parts.mp4", 8) as writer:
        writer.write(frames[:5])
        writer.write(frames[5])
        writer.write(frames[6:])
        assert writer.frames == 24
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "parts.mp4").read_bytes()


@pytest.mark.parametrize("wrong", ["range", "nan", "shape", "size", "empty"])
def test_bad_input_leaves_no_file(tmp_path, frames, wrong):
    video = torch.zeros(3, 2, 16, 16)
    with pytest.raises(ValueError), open_mp4_writer(tmp_path / "x.mp4", 8) as writer:
        if wrong == "range":
            writer.write(video + 100)
        elif wrong == "nan":
            writer.write(video * float("nan"))
        elif wrong == "shape":
            writer.write(torch.zeros(2, 3, 16, 16))
        elif wrong == "size":
            writer.write(video)
            writer.write(torch.zeros(3, 2, 32, 16))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, frames):
    path = tmp_path / "clip.mp4"
    write_mp4(path, frames, 8)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_mp4(path, torch.full((3, 1, 16, 16), 7.0), 8)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_odd_sizes_are_padded_with_a_warning(tmp_path, frames, caplog):
    write_mp4(tmp_path / "odd.mp4", frames[:, :47, :63], 8)
    reader = open_video(tmp_path / "odd.mp4", "pyav")
    assert (reader.height, reader.width) == (48, 64)
    assert "63x47" in caplog.text or "47x63" in caplog.text


def test_gif_plays_all_frames(tmp_path, frames):
    write_gif(tmp_path / "clip.gif", frames, fps=10)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (24, 100, 0)
        gif.seek(23)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[23]).mean() < 4


def test_tile_holds_the_last_frame_and_pads(frames):
    sheet = tile([[frames[:2], frames[:1, :16, :16]]], pad=2)
    assert sheet.shape == (2, 48 + 4, 2 * 64 + 6, 3)
    assert np.array_equal(sheet[1, 2:50, 2:66], frames[1])
    assert np.array_equal(sheet[1, 2:18, 68:84], frames[0, :16, :16])
    assert (sheet[:, :2] == 255).all()


def test_a_notebook_plays_what_it_is_given(tmp_path):
    clip = torch.rand(3, 5, 16, 32) * 2 - 1
    page = InlineVideo(clip, fps=8, height=100)._repr_html_()
    assert page.startswith("<video ") and "height: 100px" in page
    path = tmp_path / "inline.mp4"
    path.write_bytes(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]))
    reader = open_video(path)
    assert (len(reader), reader.height, reader.width, reader.fps) == (5, 16, 32, 8)
