"""One rule for every reader: which stream, which way up, how wide, how many frames; and whose files are opened."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered import Clip, encode, in_order, number_of, numbers_of, picture

from videoar.data import readers
from videoar.data.probe import UnreadableClip, frame_size, probe
from videoar.data.readers import PyAVReader, iterate, open_video
from videoar.data.walk import MIRRORED, TRANSPOSED, UPSIDE_DOWN

ONE = 1 << 16
MATRICES = {  # (a, b, c, d): x = a·column + c·row, y = b·column + d·row
    "mirrored": ((-ONE, 0, 0, ONE), lambda p: p[:, ::-1], MIRRORED),
    "upside down": ((ONE, 0, 0, -ONE), lambda p: p[::-1], UPSIDE_DOWN),
    "half turn": ((-ONE, 0, 0, -ONE), lambda p: p[::-1, ::-1], MIRRORED + UPSIDE_DOWN),
    "clockwise": ((0, ONE, -ONE, 0), lambda p: np.rot90(p, -1), TRANSPOSED + MIRRORED),
    "anticlockwise": ((0, -ONE, ONE, 0), lambda p: np.rot90(p), TRANSPOSED + UPSIDE_DOWN),
    "transposed": ((0, ONE, ONE, 0), lambda p: p.swapaxes(0, 1), TRANSPOSED),
    "front camera": ((0, -ONE, -ONE, 0), lambda p: p[::-1, ::-1].swapaxes(0, 1), TRANSPOSED + MIRRORED + UPSIDE_DOWN),
}


@pytest.fixture
def plain(tmp_path) -> Path:
    """Twelve numbered frames as H.264 mp4."""
    return encode(tmp_path, Clip("plain.mp4", gop=4, count=12))


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize("name", MATRICES)
def test_pictures_are_turned_and_mirrored_as_the_display_matrix_says(plain, name, backend):
    pytest.importorskip("decord" if backend == "decord" else "av")
    (a, b, c, d), show, orientation = MATRICES[name]
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    plain.write_bytes(data)
    frames = open_video(plain, backend).get([7, 2])
    assert probe(plain).orientation == orientation
    assert frames.shape[1:3] == show(picture(0)).shape[:2] == frame_size(plain)
    for frame, number in zip(frames.numpy(), (7, 2)):
        assert np.abs(frame.astype(int) - show(picture(number))).mean() < 12
    assert torch.equal(list(iterate(plain, backend))[7], frames[0])


def write(
    path: Path, *streams: list[np.ndarray], aspect: Fraction | None = None, rate: Fraction = Fraction(10)
) -> Path:
    """A file of several H.264 streams."""
    with av.open(str(path), "w") as container:
        made = []
        for frames in streams:
            stream = container.add_stream("libx264", rate=rate, options={"qp": "12", "preset": "veryfast"})
            stream.height, stream.width, stream.pix_fmt, stream.gop_size = *frames[0].shape[:2], "yuv420p", 5
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            made.append(stream)
        for stream, frames in zip(made, streams):
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_the_first_of_two_video_streams_is_read(tmp_path, backend):
    pytest.importorskip("decord" if backend == "decord" else "av")
    big = [np.kron(picture(100 + t), np.ones((2, 2, 1), np.uint8)) for t in range(30)]
    path = write(tmp_path / "two.mp4", [picture(t) for t in range(12)], big)
    reader = open_video(path, backend)
    assert (len(reader), reader.height, reader.width) == (12, 48, 64)
    assert numbers_of(reader.get([11, 0, 6])) == [11, 0, 6]


def test_a_cover_picture_is_no_video(tmp_path):
    with av.open(str(tmp_path / "cover.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
        container.mux(cover.encode(grey.reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        for t in range(6):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(t), format="rgb24")))
        container.mux(video.encode(None))
    assert numbers_of(open_video(tmp_path / "cover.mp4").get(range(6))) == list(range(6))


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 86), (Fraction(8, 9), 56), (Fraction(50), 64)])
def test_pixels_become_square(tmp_path, aspect, width, backend):
    pytest.importorskip("decord" if backend == "decord" else "av")
    path = write(tmp_path / "wide.mp4", [picture(t) for t in range(8)], aspect=aspect)
    reader = open_video(path, backend)
    assert (reader.height, reader.width) == (48, width) == frame_size(path)
    assert numbers_of(reader.get([5, 1])) == [5, 1]
    assert list(iterate(path, backend))[3].shape == (48, width, 3)


def _mux(container, stream, packets) -> None:
    for packet in packets:
        packet.stream = stream
        container.mux(packet)


def test_a_size_that_changes_stays_that_of_the_first_frame(tmp_path):
    path = tmp_path / "changes.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        large = av.CodecContext.create("libx264", "w")
        large.height, large.width, large.pix_fmt, large.time_base = 96, 128, "yuv420p", Fraction(1, 25)
        for coder, numbers, scale in ((stream, range(25), 1), (large, range(25, 50), 2)):
            for t in numbers:
                big = np.kron(picture(t), np.ones((scale, scale, 1), np.uint8))
                frame = av.VideoFrame.from_ndarray(big, format="rgb24")
                frame.pts, frame.time_base = t, Fraction(1, 25)
                _mux(container, stream, coder.encode(frame))
            _mux(container, stream, coder.encode(None))
    truth = in_order(path)
    assert len(truth) >= 48
    reader = open_video(path)
    assert (len(reader), reader.height, reader.width) == (len(truth), 48, 64)
    assert numbers_of(reader.get([1, len(truth) - 1, 20, 30])) == [truth[n] for n in (1, len(truth) - 1, 20, 30)]
    assert [number_of(frame.numpy()) for frame in iterate(path)] == truth


@pytest.mark.parametrize("width", [8, 12, 96, 144])
def test_widths_at_which_decord_fails(tmp_path, width):
    pytest.importorskip("decord")
    ramp = [np.full((32, width, 3), 20 * t, np.uint8) for t in range(6)]
    frames = open_video(write(tmp_path / "narrow.mp4", ramp), "decord").get([4, 1]).float().mean((1, 2, 3))
    assert (frames - torch.tensor([80.0, 20.0])).abs().max() < 4


def test_a_frame_every_third_second(tmp_path):
    path = write(tmp_path / "slow.mp4", [picture(t) for t in range(6)], rate=Fraction(1, 3))
    reader = open_video(path)
    assert reader.fps == pytest.approx(1 / 3)
    assert numbers_of(reader.get([4, 0])) == [4, 0]


def test_everything_is_read_where_there_is_no_decord(plain):
    script = (
        "import sys; sys.modules['decord'] = None\n"
        "from videoar.data.readers import open_video\n"
        f"print(type(open_video({str(plain)!r})).__name__, open_video({str(plain)!r}).get([3]).shape[0])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["PyAVReader", "1"]


def test_what_another_reader_cannot_open_is_read_by_pyav_and_said_once(plain, caplog, monkeypatch):
    monkeypatch.setattr(readers, "_said", set())
    broken = type("Broken", (readers.DecordReader,), {"__init__": lambda self, *given: [][0]})
    monkeypatch.setitem(readers._READERS, "decord", broken)
    caplog.set_level("INFO", logger="videoar.data.readers")
    for _ in range(3):
        assert type(open_video(plain, "decord")) is PyAVReader
    assert [record.message for record in caplog.records] == [
        f"{plain}: decord cannot open it: list index out of range; such files are read by PyAV, not decord"
    ]


@pytest.mark.parametrize("size", [344, 500, 40, 9])
def test_a_file_of_a_few_bytes_is_unreadable(plain, size):
    fast = plain.with_name("fast.mp4")
    encode(plain.parent, Clip("fast.mp4", count=12, muxer={"movflags": "faststart"}))
    for path in (plain, fast):
        path.write_bytes(path.read_bytes()[:size])
        for look in (open_video, frame_size, lambda path: list(iterate(path))):
            with pytest.raises(UnreadableClip):
                look(path)


SCRIPTS = {
    "ffconcat": "ffconcat version 1.0\nfile plain.mp4\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-VERSION:3\n#EXTINF:1.0,\nplain.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
}


@pytest.mark.parametrize("backend", readers.BACKENDS)
@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_text_that_names_other_files_is_no_video(plain, kind, suffix, backend):
    encode(plain.parent, Clip("plain.ts", count=12))
    path = plain.with_name(f"script{suffix}")
    path.write_text(SCRIPTS[kind])
    for look in (lambda path: open_video(path, backend), frame_size, lambda path: list(iterate(path, backend))):
        with pytest.raises(UnreadableClip):
            look(path)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["http:x.mp4", "concat:a|b.mp4", "pipe:0.mp4", "file:x.mp4", "-i.mp4", "a%03d?.mp4"])
def test_a_name_is_a_file_whatever_it_looks_like(plain, monkeypatch, name, backend):
    pytest.importorskip("decord" if backend == "decord" else "av")
    monkeypatch.chdir(plain.parent)
    shutil.copy(plain, plain.parent / name)
    reader = open_video(name, backend)
    assert numbers_of(reader.get([3, 9])) == [3, 9]
    assert type(reader).__name__ == ("DecordReader" if backend == "decord" else "PyAVReader")
    assert frame_size(name) == (48, 64)
