"""decord, PyAV and torchcodec give the same frames, whatever the container; bad files give one clear error."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import struct
import wave
import zlib
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from videoar.data.files import IMAGE_SUFFIXES
from videoar.data.probe import UnreadableClip, frame_size
from videoar.data.readers import BACKENDS, iterate, open_video, read_image
from videoar.data.writers import write_mp4
from videoar.errors import UserError

FILES = {
    "plain.mp4": {},
    "bframes.mp4": {"bf": "3"},
    "one_key.mp4": {"gop": "1000"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "bframes.avi": {"codec": "mpeg4", "bf": "2"},
    "vp9.webm": {"codec": "libvpx-vp9", "cpu-used": "8", "deadline": "realtime"},
    "lossless.mkv": {"codec": "ffv1"},
    "ten_bit_444.mp4": {"pix_fmt": "yuv444p10le"},
    "grey.mp4": {"pix_fmt": "gray"},
    "alpha.mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "motion_jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj422p"},
}


@cache
def torchcodec_works() -> bool:
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401

        return True
    except (ImportError, OSError, RuntimeError):
        return False


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    if request.param == "torchcodec" and not torchcodec_works():
        pytest.skip("torchcodec is optional, and it or its FFmpeg libraries are not installed")
    return request.param


@pytest.fixture(scope="module", params=FILES)
def video_file(request, tmp_path_factory, encoder, frames):
    return encoder(tmp_path_factory.mktemp("videos") / request.param, frames, **FILES[request.param])


def which(video: torch.Tensor, frames: np.ndarray) -> list[int]:
    """Index of the nearest original frame, judged by the square's place and the blue channel."""
    error = np.abs(video.numpy()[:, None].astype(int) - frames[None]).mean((2, 3, 4))
    return error.argmin(1).tolist()


@pytest.mark.parametrize("indices", [range(24), [23], [17, 3, 3, 20], [9], [22, 21, 1, 0]])
def test_every_reader_gives_the_frame_that_was_asked_for(video_file, backend, indices, frames):
    reader = open_video(video_file, backend)
    assert (len(reader), reader.height, reader.width) == (24, 48, 64)
    assert reader.fps == pytest.approx(12, abs=0.1)
    video = reader.get(indices)
    assert video.dtype == torch.uint8
    assert video.shape == (len(indices), 48, 64, 3)
    original = (frames @ np.array([0.299, 0.587, 0.114]))[..., None] if "grey" in video_file.name else frames
    assert which(video, original) == list(indices)


def test_readers_agree_within_codec_tolerance(video_file, backend):
    ours = open_video(video_file, backend).get(range(24)).int()
    reference = open_video(video_file, "pyav").get(range(24)).int()
    assert (ours - reference).abs().float().mean() < 1


def test_iterate_streams_the_same_frames(video_file, backend):
    whole = open_video(video_file, backend).get(range(24))
    assert torch.equal(torch.stack(list(iterate(video_file, backend, chunk=7))), whole)


def test_variable_frame_rate_counts_frames_and_means_the_rate(tmp_path, uneven, backend, frames):
    reader = open_video(uneven(tmp_path / "uneven.mp4"), backend)
    assert len(reader) == 24
    assert reader.fps == pytest.approx(23 / (86 / 24))  # the mean rate, and frames by number whatever their time
    assert which(reader.get(range(24)), frames) == list(range(24))
    assert which(reader.get([20, 3]), frames) == [20, 3]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_that_lie_are_turned_upright(tmp_path, encoder, frames, lying, backend, degrees):
    path = lying(encoder(tmp_path / "phone.mp4", frames), degrees)
    upright = np.rot90(frames, -degrees // 90, (1, 2))
    reader = open_video(path, backend)
    assert (reader.height, reader.width) == upright.shape[1:3] == frame_size(path)
    video = reader.get([0, 20, 7])
    assert video.shape[1:3] == upright.shape[1:3]
    assert which(video, upright) == [0, 20, 7]
    assert torch.equal(torch.stack(list(iterate(path, backend)))[[0, 20, 7]], video)


def test_a_verified_count_shortens_the_clip(tmp_path, encoder, frames, backend):
    path = encoder(tmp_path / "a.mp4", frames)
    reader = open_video(path, backend, frames=10)
    assert len(reader) == 10
    with pytest.raises(IndexError, match="clip of 10 frames"):
        reader.get([10])
    assert len(open_video(path, backend, frames=99)) == 24


def broken(kind: str, folder, encoder, frames):
    """A file of each bad kind."""
    good = encoder(folder / "good.mp4", frames, movflags="faststart").read_bytes()
    path = folder / "bad.mp4"
    if kind == "missing":
        return path
    if kind == "truncated":
        path.write_bytes(encoder(folder / "plain.mp4", frames).read_bytes()[:-1000])
    elif kind == "cut short":
        path.write_bytes(good[: len(good) * 6 // 10])
    elif kind == "cut avi":
        whole = encoder(folder / "good.avi", frames, "mpeg4").read_bytes()
        path.write_bytes(whole[: len(whole) * 9 // 10])
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no video\n" * 100)
    elif kind == "audio":
        with wave.open(str(path), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(16000))
    return path


@pytest.mark.parametrize("kind", ["missing", "truncated", "cut short", "cut avi", "empty", "text", "audio"])
def test_bad_files_are_named_with_a_reason(tmp_path, encoder, frames, backend, kind):
    path = broken(kind, tmp_path, encoder, frames)
    with pytest.raises(UnreadableClip) as caught:
        reader = open_video(path, backend)
        reader.get(range(len(reader)))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) > 10
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.reason) == (caught.value.path, caught.value.reason)


def test_huge_frames_are_refused_before_decoding(tmp_path, huge, backend):
    with pytest.raises(UnreadableClip, match="8208x8192 exceed the limit of 67108864 pixels"):
        open_video(huge(tmp_path / "huge.avi"), backend)


def test_one_frame_and_odd_rates_are_fine(tmp_path, encoder, frames, backend):
    assert len(open_video(encoder(tmp_path / "one.mp4", frames[:1]), backend)) == 1
    reader = open_video(encoder(tmp_path / "fast.mp4", frames, fps=60), backend)
    assert reader.fps == pytest.approx(60)


def test_unknown_and_missing_backends(tmp_path, encoder, frames, monkeypatch):
    path = encoder(tmp_path / "a.mp4", frames)
    with pytest.raises(UserError, match="unknown video backend 'opencv'; choose one of pyav, decord, torchcodec"):
        open_video(path, "opencv")
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(UserError, match=r"cannot use decord .* choose pyav"):
        open_video(path, "decord")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16", "1", "LA"])
def test_images_of_any_mode_are_rgb_clips_of_one_frame(tmp_path, mode):
    grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (16, 1))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) << 8)
    else:
        image = Image.fromarray(grey).convert(mode)
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    image.save(path)
    clip = read_image(path)
    assert (clip.shape, clip.dtype) == ((1, 16, 32, 3), torch.uint8)
    assert frame_size(path) == (16, 32)
    if mode not in ("1", "CMYK"):
        assert (clip[0, :, :, 0].int() - torch.from_numpy(grey).int()).abs().max() <= 1


def test_photographs_that_lie_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise
    Image.new("RGB", (32, 16), "red").save(tmp_path / "phone.jpg", exif=exif)
    assert read_image(tmp_path / "phone.jpg").shape == (1, 32, 16, 3)
    assert frame_size(tmp_path / "phone.jpg") == (32, 16)


def test_bad_images_are_named(tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(UnreadableClip, match=r"bad\.png: cannot read image"):
        read_image(path)
    Image.new("RGB", (64, 64)).save(tmp_path / "big.png")
    with pytest.raises(UnreadableClip, match="64x64 exceeds the limit of 100 pixels"):
        read_image(tmp_path / "big.png", max_pixels=100)


@pytest.mark.parametrize("width", [16, 24, 48, 56, 72, 100])
def test_narrow_videos_are_read_whatever_decord_says(tmp_path, width):
    ramp = torch.arange(width).mul(255 // width)[None, None, :, None].expand(3, 32, width, 3).to(torch.uint8)
    write_mp4(tmp_path / "narrow.mp4", ramp, 8)
    read = open_video(tmp_path / "narrow.mp4", "decord").get([0, 2])
    assert read.shape == (2, 32, width, 3)
    assert (read.int() - ramp[[0, 2]].int()).abs().max() <= 8


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_an_image_that_is_a_program_starts_none(tmp_path, monkeypatch, suffix):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    for read in (read_image, frame_size):
        with pytest.raises(UnreadableClip, match="picture"):
            read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("read", [read_image, frame_size])
def test_a_pipe_is_no_image(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableClip, match="no such file"):
        read(tmp_path / "pipe.png")  # and does not wait for ever


def test_a_picture_that_states_a_boundless_size_is_named(tmp_path):
    """Pillow has an error of its own for it, which is no ValueError."""
    path = tmp_path / "bomb.png"
    Image.new("RGB", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    for read in (read_image, frame_size):
        with pytest.raises(UnreadableClip, match=r"bomb\.png: "):
            read(path)


DAMAGED = {name: {} for name in ("a.png", "a.tiff", "plain.mp4", "plain.mkv", "plain.ts", "plain.flv")}
DAMAGED |= {"mpeg4.avi": {"codec": "mpeg4"}, "plain.gif": {"codec": "gif", "pix_fmt": "rgb8"}}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged files
@pytest.mark.parametrize("name", DAMAGED)
def test_random_damage_is_an_unreadable_clip_or_none(tmp_path, encoder, frames, name):
    path, draw = tmp_path / name, random.Random(name)
    if path.suffix in IMAGE_SUFFIXES:
        Image.fromarray(frames[0]).save(path)
    else:
        encoder(path, frames, **DAMAGED[name])
    whole = path.read_bytes()
    for turn in range(60):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 4, 30])):
            data[draw.randrange(len(data) if turn % 2 else min(len(data), 400))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        for look in (frame_size, read_image if path.suffix in IMAGE_SUFFIXES else read_some):
            with contextlib.suppress(UnreadableClip):
                look(path)


def read_some(path):
    """Two frames, one from the end."""
    reader = open_video(path)
    reader.get([len(reader) - 1, len(reader) // 2])
