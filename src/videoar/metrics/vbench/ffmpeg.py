"""Offline substitutes from FFmpeg's filters (through PyAV, which we use for video files anyway).

- `minterpolate`: motion-compensated frame interpolation, for motion smoothness (VBench: AMT-S);
- `mestimate`: block motion vectors, for dynamic degree (VBench: RAFT).

Both are classical block matching on whole pixels: good for "does it move, does it jump", not comparable with
published VBench numbers, and therefore marked in every report.
"""

# N frames · H W pixels

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videoar.metrics.vbench.base import Backbone

_RATE = 8  # any rate: FFmpeg needs time stamps, the result does not depend on them


def _filter(planes: np.ndarray, name: str, options: str) -> list[Any]:
    """Pass uint8 frames of three planes [N, 3, H, W] through an FFmpeg filter; the frames that come out.

    The planes are handed over as Y, U, V without a colour conversion: what goes in unmoved comes out unchanged.
    """
    import av

    graph = av.filter.Graph()
    height, width = planes.shape[2:]
    picture_format = av.VideoFormat("yuv444p", width, height)
    source = graph.add_buffer(width=width, height=height, format=picture_format, time_base=Fraction(1, _RATE))
    step, sink = graph.add(name, options), graph.add("buffersink")
    source.link_to(step)
    step.link_to(sink)
    graph.configure()
    out: list[Any] = []
    for index, frame in enumerate([*planes, None]):
        if frame is None:
            source.push(None)
        else:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv444p")
            picture.pts, picture.time_base = index, Fraction(1, _RATE)
            source.push(picture)
        while True:
            try:
                out.append(sink.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    return out


def _planes(frames: Tensor) -> np.ndarray:
    """RGB frames → planes G, B, R: green comes first, because FFmpeg looks for motion in the first plane."""
    return frames[:, [1, 2, 0]].round().clamp(0, 255).byte().cpu().numpy()


def interpolate(frames: Tensor) -> Tensor:
    """The frames half-way between neighbours: float [n, 3, H, W] 0 … 255 → [n − 1, 3, H, W]."""
    planes = _planes(frames)
    height, width = planes.shape[2:]
    grow = (-height % 16, -width % 16)  # whole blocks; small frames are filled up to the filter's smallest size
    grow = (max(grow[0], 48 - height), max(grow[1], 48 - width))
    # The filter looks one frame back and two ahead: repeat the ends, so that every gap has its neighbours.
    padded = np.pad(planes, [(1, 2), (0, 0), (0, grow[0]), (0, grow[1])], mode="edge")
    options = f"fps={2 * _RATE}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
    made = {frame.pts: frame for frame in _filter(padded, "minterpolate", options)}
    wanted = [2 * (index + 1) + 1 for index in range(len(planes) - 1)]
    first = min(made)
    between = np.stack([made[first + pts].to_ndarray() for pts in wanted])[:, [2, 0, 1], :height, :width]
    return torch.from_numpy(between).to(frames)


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Block motion between pairs of frames: two float [N, 3, H, W] 0 … 255 → [N, 2, H/8, W/8] in pixels."""
    return torch.cat([_pair_flow(a, b) for a, b in zip(first.split(1), second.split(1))])


def _pair_flow(first: Tensor, second: Tensor) -> Tensor:
    side = 8
    height, width = first.shape[-2:]
    reach = max(7, round(12 * min(height, width) / 256))  # pixels; twice dynamic degree's threshold
    planes = np.concatenate([_planes(first), _planes(second), _planes(second)])
    planes = np.pad(planes, [(0, 0), (0, 0), (0, -height % side), (0, -width % side)], mode="edge")
    options = f"method=epzs:mb_size={side}:search_param={reach}"
    frame = _filter(planes, "mestimate", options)[1]
    vectors = frame.side_data.get("MOTION_VECTORS").to_ndarray()
    vectors = vectors[vectors["source"] < 0]  # block of `second` ← where it was in `first`
    field = torch.zeros(2, planes.shape[2] // side, planes.shape[3] // side)
    rows, columns = (torch.from_numpy(vectors[name].astype(np.int64)) // side for name in ("dst_y", "dst_x"))
    for axis, name in enumerate("xy"):
        moved = vectors[f"dst_{name}"].astype(np.float32) - vectors[f"src_{name}"].astype(np.float32)
        field[axis, rows, columns] = torch.from_numpy(moved)
    return field.unsqueeze(0).to(first)


INTERPOLATION = Backbone("FFmpeg minterpolate (overlapped block motion compensation)", interpolate, "ffmpeg")
FLOW = Backbone("FFmpeg mestimate (EPZS block motion, 8x8)", flow, "ffmpeg")
