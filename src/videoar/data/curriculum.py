"""The curriculum: which batches a run trains on, stage after stage (the paper's stages I to III).

A stage says until which batch it lasts, the share of image batches, resolution, frames, stride and batch sizes.
A batch has one kind (image or video) and one shape. Steps here are training batches, counted from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Literal

from videoar.data.transforms import SIDE_MULTIPLE, check_frames, check_size
from videoar.errors import UserError
from videoar.ranges import BATCH, FPS, FRAMES, SHARE, Range, check_given

Kind = Literal["image", "video"]
Size = tuple[int, int]


@dataclass
class Stage:
    """One stage of a run.

    Raises `UserError` for a frame count that is not 1 + 4n, a side that is not a multiple of 16, or a share,
    stride, rate or batch size out of range.
    """

    until: int | None = None
    """First training batch that is no longer part of the stage; None (last stage only): to the end."""
    resolution: int | list[int] = 128
    """A number p: images of p*p pixels in the shapes of `aspects`; or [height, width]."""
    aspects: list[str] = field(default_factory=lambda: ["1:1"])
    """Width:height templates, e.g. [1:1, 16:9, 9:16]; a clip goes to the nearest one. Not with [height, width]."""
    frames: int = 17
    """Frames of a video clip, 1 + 4n; images have one."""
    stride: int = 1
    """Take every so many frames of the file."""
    fps: float | None = None
    """Take frames at about this rate instead: the stride is the file's rate / fps, rounded, at least 1."""
    image_share: float = 0.0
    """Share of the batches that hold images."""
    batch_size: int = 8
    """Clips a video batch, per process."""
    image_batch_size: int | None = None
    """Images an image batch, per process; None: as many as batch_size."""

    def __post_init__(self) -> None:
        try:
            check_frames(self.frames)
            self.sizes()
            counts = {"stride": FRAMES, "until": Range(1), "batch_size": BATCH, "image_batch_size": BATCH}
            check_given(self, frames=FRAMES, fps=FPS, image_share=SHARE, **counts)
        except ValueError as error:
            raise UserError(f"stage until {self.until}: {error}") from error

    def sizes(self) -> list[Size]:
        """The (height, width) of each aspect template; one entry for an explicit [height, width]."""
        if not isinstance(self.resolution, int):
            if len(self.resolution) != 2 or self.aspects != ["1:1"]:
                raise ValueError(
                    f"resolution {self.resolution} must be one number with aspects, or [height, width] alone"
                )
            check_size(self.resolution)
            return [(self.resolution[0], self.resolution[1])]
        check_size((self.resolution, self.resolution))
        sizes = [template_size(self.resolution, aspect) for aspect in self.aspects]
        if not sizes or len(set(sizes)) < len(sizes):
            raise ValueError(f"aspects {self.aspects} must give different sizes, got {sizes}")
        return sizes

    def clips(self, kind: Kind) -> int:
        """Samples a batch of this kind holds, per process."""
        return self.image_batch_size or self.batch_size if kind == "image" else self.batch_size

    def pixel_bytes(self) -> int:
        """Memory of the pixels of the stage's largest batch: as bytes, and as the floats that are made of them."""
        area = max(height * width for height, width in self.sizes())
        return 5 * 3 * area * max(self.frames * self.clips("video"), self.clips("image"))

    def stride_for(self, fps: float) -> int:
        """The stride in a file of this rate (0: unknown)."""
        return max(1, round(fps / self.fps)) if self.fps and fps > 0 else self.stride


def template_size(pixel_sqrt: int, aspect: str) -> Size:
    """(height, width) of about pixel_sqrt² pixels: 512 with 16:9 is 384 x 672, the paper's. Sides round down to 16."""
    try:
        wide, high = (float(side) for side in aspect.split(":"))
        ratio = wide / high
    except (ValueError, ZeroDivisionError):
        ratio = 0.0
    if not 0.1 <= ratio <= 10:
        raise ValueError(f'aspect {aspect!r} must read like "16:9", between 1:10 and 10:1')
    height, width = (int(side + 1e-6) for side in (pixel_sqrt / sqrt(ratio), pixel_sqrt * sqrt(ratio)))
    size = (height - height % SIDE_MULTIPLE, width - width % SIDE_MULTIPLE)
    check_size(size, f"aspect {aspect} at {pixel_sqrt}")
    return size


def nearest(sizes: Sequence[Size], height: int, width: int) -> int:
    """Index of the size whose aspect ratio is nearest (in ratio) to height x width."""
    ratio = width / height
    return min(
        range(len(sizes)), key=lambda i: max(ratio * sizes[i][0] / sizes[i][1], sizes[i][1] / sizes[i][0] / ratio)
    )


class Curriculum:
    """Stages in order. Raises `UserError` unless `until` rises and only the last stage is open."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages:
            raise UserError("a curriculum needs at least one stage")
        ends = [stage.until for stage in stages]
        closed = [end for end in ends if end is not None]
        if None in ends[:-1] or any(a >= b for a, b in pairwise(closed)):
            raise UserError(f"stages must end one after another and only the last may be open, got until {ends}")
        self.stages = list(stages)
        self.starts = [0, *(end for end in ends[:-1] if end is not None)]

    def index(self, step: int) -> int:
        """Which stage batch `step` belongs to. Past the end of a closed last stage, that stage goes on."""
        return max(i for i, start in enumerate(self.starts) if start <= step)

    def at(self, step: int) -> Stage:
        """The stage that batch `step` belongs to."""
        return self.stages[self.index(step)]

    def describe(self, index: int) -> str:
        """One line for the log."""
        stage = self.stages[index]
        sizes = ", ".join(f"{height}x{width}" for height, width in stage.sizes())
        rate = f"{stage.fps:g} fps" if stage.fps else f"stride {stage.stride}"
        clips = f"{stage.clips('video')} clips or {stage.clips('image')} images"
        return (
            f"stage {index + 1} of {len(self.stages)} from batch {self.starts[index]}: {sizes}, {stage.frames} frames, "
            f"{rate}, {stage.image_share:.0%} image batches, {clips}"
        )
