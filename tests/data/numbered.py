"""Video files whose frames carry their own number as a black-and-white code, over containers, codecs and GOPs.

The code survives lossy codecs: 12 squares of 16 pixels, nine bits of the number and three of a check sum, so that a
picture that is mixed, torn or grey reads as no number at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIDE, ROWS, COLUMNS = 16, 3, 4


def _bits(number: int) -> list[int]:
    check = (5 * number ^ number >> 3 ^ number >> 6) & 7
    return [number >> bit & 1 for bit in range(9)] + [check >> bit & 1 for bit in range(3)]


def picture(number: int) -> np.ndarray:
    """The frame that says `number` (0 to 511): uint8 [48, 64, 3]."""
    cells = np.array(_bits(number), np.uint8).reshape(ROWS, COLUMNS) * 200 + 28
    return cells.repeat(SIDE, 0).repeat(SIDE, 1)[..., None].repeat(3, 2)


def number_of(frame: np.ndarray) -> int:
    """What a decoded frame [H, W, 3] says, -1 if it says nothing."""
    height, width = frame.shape[0] / ROWS, frame.shape[1] / COLUMNS
    bits = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, left = round((row + 0.25) * height), round((column + 0.25) * width)
            cell = frame[top : round((row + 0.75) * height), left : round((column + 0.75) * width)]
            if 80 < cell.mean() < 176:
                return -1
            bits.append(int(cell.mean() > 128))
    number = sum(bit << place for place, bit in enumerate(bits[:9]))
    return number if bits == _bits(number) else -1


def numbers_of(frames: Iterable[np.ndarray]) -> list[int]:
    """`number_of` each."""
    return [number_of(np.asarray(frame)) for frame in frames]


@dataclass(frozen=True)
class Clip:
    """How a file is made. Frame t says t."""

    name: str
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    gop: int = 12
    bframes: int | None = None
    count: int = 60
    pix_fmt: str = "yuv420p"
    fps: Fraction = Fraction(25)
    stamps: str = "even"
    """even, offset (the first stamp is 1 s) or uneven (a variable rate)."""
    skip: int = 0
    """Packets cut from the front without decoding: the file starts in the middle of a group of pictures."""
    trim: int = 0
    """Frames that an edit list hides at the front."""
    muxer: dict[str, str] = field(default_factory=dict)


_STAMPS = {
    "even": lambda t: t,
    "offset": lambda t: t + 25,
    "uneven": lambda t: t + 7 * (t // 10) + t // 3,
}


def encode(folder: Path, clip: Clip) -> Path:
    """Make the file in `folder`. Raises what PyAV raises where its FFmpeg lacks the codec."""
    path = folder / clip.name
    with av.open(str(path), "w", options=clip.muxer) as container:
        stream = container.add_stream(clip.codec, rate=clip.fps, options=_QUALITY.get(clip.codec, {}) | clip.options)
        stream.height, stream.width, stream.pix_fmt = ROWS * SIDE, COLUMNS * SIDE, clip.pix_fmt
        stream.gop_size = clip.gop
        stream.codec_context.thread_count = 1
        if clip.bframes is not None:
            stream.codec_context.max_b_frames = clip.bframes
        for packet in _packets(stream, clip)[clip.skip :]:
            if clip.trim:
                shift = round(Fraction(clip.trim) / clip.fps / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            container.mux(packet)
    return path


def _packets(stream: Any, clip: Clip) -> list[Any]:
    packets = []
    for t in range(clip.count):
        frame = _frame(picture(t), clip.pix_fmt)
        frame.pts, frame.time_base = _STAMPS[clip.stamps](t), 1 / clip.fps
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _frame(pixels: np.ndarray, pix_fmt: str) -> av.VideoFrame:
    if pix_fmt == "pal8":
        grey = np.arange(256, dtype=np.uint8)[:, None].repeat(4, 1)
        grey[:, 0] = 255
        return av.VideoFrame.from_ndarray((np.ascontiguousarray(pixels[..., 0]), grey), format="pal8")
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)


def in_order(path: Path) -> list[int]:
    """The truth: what the frames say when the first video stream is decoded from its start, by PyAV alone."""
    with av.open(str(path)) as container:
        return numbers_of(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def _x265(parameters: str) -> dict[str, str]:
    return {"x265-params": f"log-level=none:pools=1:frame-threads=1:scenecut=0:b-adapt=0:{parameters}"}


_QUALITY = {
    "libx264": {"preset": "veryfast", "qp": "18", "sc_threshold": "0", "b_strategy": "0"},
    "libx265": {"preset": "ultrafast", "crf": "20"},
    "libsvtav1": {"preset": "8", "crf": "5", "svtav1-params": "lp=1:scd=0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
} | {
    name: {"b": "4M"}
    for name in ("mpeg4", "msmpeg4", "wmv1", "wmv2", "flv", "mpeg1video", "mpeg2video", "mjpeg", "svq1")
}
_OPEN = {"x264-params": "open-gop=1"}
_REFRESH = {"x264-params": "intra-refresh=1"}
_ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "12", "deadline": "good", "cpu-used": "5", "b": "2M"}

MATRIX = [
    Clip("plain.mp4", bframes=0),
    Clip("pyramid.mp4", bframes=3),
    Clip("pyramid.mov", bframes=3),
    Clip("pyramid.mkv", bframes=3),
    Clip("pyramid.flv", bframes=3),
    Clip("pyramid.avi", bframes=3),
    Clip("zerolatency.avi", options={"tune": "zerolatency"}),
    Clip("intra.mp4", gop=1),
    Clip("intra.avi", gop=1),
    Clip("intra.ts", gop=1),
    Clip("open.mp4", options=_OPEN, bframes=3),
    Clip("open.mov", options=_OPEN, bframes=3),
    Clip("open.mkv", options=_OPEN, bframes=3),
    Clip("open.flv", options=_OPEN, bframes=3),
    Clip("open.ts", options=_OPEN, bframes=3),
    Clip("refresh.mp4", options=_REFRESH, bframes=0),
    Clip("refresh.mkv", options=_REFRESH, bframes=0),
    Clip("refresh.ts", options=_REFRESH, bframes=0),
    Clip("refresh.avi", options=_REFRESH, bframes=0),
    Clip("one_key.mp4", gop=1000, bframes=2),
    Clip("two.mp4", gop=2, bframes=0),
    Clip("two.ts", gop=2, bframes=0),
    Clip("plain.ts", bframes=0),
    Clip("pyramid.ts", bframes=3),
    Clip("one_key.ts", gop=1000, bframes=2),
    Clip("offset.mp4", bframes=2, stamps="offset"),
    Clip("offset.mkv", bframes=2, stamps="offset"),
    Clip("offset.ts", bframes=2, stamps="offset"),
    Clip("uneven.mp4", bframes=2, stamps="uneven"),
    Clip("uneven.mkv", bframes=2, stamps="uneven"),
    Clip("uneven.ts", bframes=2, stamps="uneven"),
    Clip("edit_list.mp4", bframes=2, trim=7, muxer={"avoid_negative_ts": "disabled"}),
    Clip("edit_list.mov", bframes=0, trim=7, muxer={"avoid_negative_ts": "disabled"}),
    Clip("mid_gop.mp4", bframes=2, skip=5),
    Clip("mid_gop.mkv", bframes=2, skip=5),
    Clip("mid_gop.ts", bframes=2, skip=5),
    Clip("mid_gop.flv", bframes=0, skip=5),
    Clip("fragmented.mp4", bframes=2, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    Clip("hevc_open.mp4", "libx265", _x265("open-gop=1:keyint=12:min-keyint=12:bframes=4")),
    Clip("hevc_open.mkv", "libx265", _x265("open-gop=1:keyint=12:min-keyint=12:bframes=4")),
    Clip("hevc_open.ts", "libx265", _x265("open-gop=1:keyint=12:min-keyint=12:bframes=4")),
    Clip("hevc_closed.mp4", "libx265", _x265("open-gop=0:keyint=12:min-keyint=12:bframes=4")),
    Clip("hevc_two.mp4", "libx265", _x265("keyint=2:min-keyint=2:bframes=0"), count=10),
    Clip("hevc_mid.mkv", "libx265", _x265("open-gop=1:keyint=12:min-keyint=12:bframes=4"), skip=12),
    Clip("mpeg4.mp4", "mpeg4", bframes=0),
    Clip("mpeg4_b.mp4", "mpeg4", bframes=2),
    Clip("mpeg4.avi", "mpeg4", bframes=0),
    Clip("mpeg4_b.avi", "mpeg4", bframes=2),
    Clip("mpeg4_b.mkv", "mpeg4", bframes=2),
    Clip("msmpeg4.avi", "msmpeg4", bframes=0),
    Clip("mpeg2.mpg", "mpeg2video", bframes=2),
    Clip("mpeg2_open.mpg", "mpeg2video", {"flags": "-cgop"}, bframes=2, gop=9),
    Clip("mpeg1.mpg", "mpeg1video", bframes=2),
    Clip("mpeg2.ts", "mpeg2video", bframes=2),
    Clip("mpeg2.mkv", "mpeg2video", bframes=2),
    Clip("mpeg2.mp4", "mpeg2video", bframes=2),
    Clip("wmv1.wmv", "wmv1", bframes=0),
    Clip("wmv2.wmv", "wmv2", bframes=0),
    Clip("flv1.flv", "flv", bframes=0),
    Clip("vp8.webm", "libvpx"),
    Clip("vp8_alt_ref.webm", "libvpx", _ALT_REF),
    Clip("vp9.webm", "libvpx-vp9"),
    Clip("vp9_alt_ref.webm", "libvpx-vp9", _ALT_REF),
    Clip("vp9.mp4", "libvpx-vp9"),
    Clip("live.webm", "libvpx-vp9", muxer={"live": "1"}),
    Clip("av1.mp4", "libsvtav1"),
    Clip("av1.webm", "libsvtav1"),
    Clip("palette.gif", "gif", pix_fmt="rgb8"),
    Clip("palette.avi", "msrle", pix_fmt="pal8"),
    Clip("palette.mov", "smc", pix_fmt="pal8"),
    Clip("animation.mov", "qtrle", pix_fmt="rgb24"),
    Clip("cinepak.avi", "cinepak", pix_fmt="rgb24"),
    Clip("screen.avi", "zmbv", pix_fmt="bgr0"),
    Clip("prores.mov", "prores_ks", pix_fmt="yuv422p10le", gop=1),
    Clip("mjpeg.avi", "mjpeg", pix_fmt="yuvj420p", gop=1),
    Clip("mjpeg.mov", "mjpeg", pix_fmt="yuvj420p", gop=1),
    Clip("ffv1.mkv", "ffv1", gop=1),
    Clip("ffv1_gop.mkv", "ffv1", gop=12),
    Clip("huffyuv.avi", "huffyuv", pix_fmt="yuv422p", gop=1),
    Clip("raw.avi", "rawvideo", gop=1),
    # other suffixes of the same containers
    Clip("mpeg4.3gp", "mpeg4", bframes=0),
    Clip("pyramid.m2ts", bframes=3),
    Clip("mpeg2.vob", "mpeg2video", bframes=2),
    Clip("wmv2.asf", "wmv2", bframes=0),
    Clip("pyramid.asf", bframes=2),
    Clip("vp8.ogv", "libvpx"),
    # interlaced, stamps, cuts
    Clip("interlaced.mp4", options={"x264-params": "tff=1"}, bframes=2),
    Clip("interlaced.ts", options={"x264-params": "tff=1"}, bframes=2),
    Clip("interlaced.mpg", "mpeg2video", {"flags": "+ilme+ildct"}, bframes=2),
    Clip("uneven.flv", bframes=2, stamps="uneven"),
    Clip("uneven.webm", "libvpx-vp9", stamps="uneven"),
    Clip("offset.webm", "libvpx-vp9", stamps="offset"),
    Clip("edit_list_open.mp4", options=_OPEN, bframes=3, trim=7, muxer={"avoid_negative_ts": "disabled"}),
    Clip("hevc_edit_list.mp4", "libx265", _x265("keyint=12"), trim=7, muxer={"avoid_negative_ts": "disabled"}),
    Clip("mid_gop.mpg", "mpeg2video", bframes=2, skip=5),
    Clip("fragment_a_frame.mp4", bframes=2, muxer={"movflags": "frag_every_frame+empty_moov+default_base_moof"}),
    Clip("screen.flv", "flashsv", pix_fmt="bgr24"),
    Clip("sorenson.mov", "svq1", pix_fmt="yuv410p"),
    # several hundred frames, as encoders make them when nothing is asked for
    Clip("defaults.mp4", gop=250, count=300),
    Clip("defaults.ts", gop=250, count=300),
    Clip("hevc_defaults.mp4", "libx265", {"x265-params": "log-level=none:pools=1:frame-threads=1"}, 250, count=300),
    Clip("xvid_defaults.avi", "mpeg4", bframes=2, gop=250, count=300),
    Clip("vp9_defaults.webm", "libvpx-vp9", gop=128, count=300),
    Clip("av1_defaults.mp4", "libsvtav1", gop=160, count=300),
]
"""Files over container, codec and group of pictures. Not covered, for want of an encoder: Theora, VC-1, RealVideo."""
