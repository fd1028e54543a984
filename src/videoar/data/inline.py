"""Pixels -> a video that a notebook plays: H.264 inside the page, so that no file beside it is needed."""

import base64
import tempfile
from pathlib import Path

from videoar.data.writers import Video, write_mp4


class InlineVideo:
    """`InlineVideo(sample.video[0])` as the last line of a cell plays the video in a loop.

    Args:
        video: float `[3, T, H, W]` in [-1, 1] or uint8 `[T, H, W, 3]`; several side by side: `writers.tile(rows)`.
        fps: frames a second.
        height: height on the page in pixels; small videos are enlarged without smoothing.
    """

    def __init__(self, video: Video, fps: float = 8.0, height: int = 256) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            write_mp4(path, video, fps)
            self.mp4 = path.read_bytes()
        self.height = height

    def _repr_html_(self) -> str:
        """What Jupyter shows."""
        source = f"data:video/mp4;base64,{base64.b64encode(self.mp4).decode()}"
        style = f"height: {self.height}px; image-rendering: pixelated"
        return f'<video autoplay loop muted controls playsinline style="{style}" src="{source}"></video>'
