"""The engine of `videoar sample`: jobs → mp4 and GIF files, a grid of all, and a JSON that tells how they were made."""

# T pixel frames · H W pixels

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from videoar import __version__
from videoar.data.folders import file_name_of
from videoar.data.sheets import contact_sheet, moving_grid
from videoar.data.writers import open_mp4_writer, to_uint8, write_gif, write_png
from videoar.gallery.folder import GRIDS, write_settings
from videoar.generator.model import VideoAR
from videoar.sampling.generate import generate_stream, shots
from videoar.sampling.given import latent_frames
from videoar.sampling.jobs import Job, in_batches
from videoar.sampling.request import Request, SamplingOptions
from videoar.tokenizer.model import VideoTokenizer


class Progress(Protocol):
    """Called after every transformer call: videos of this batch and before, of all; calls of this batch."""

    def __call__(self, videos: str, done: int, total: int) -> None: ...


class Source(Protocol):
    """What samples: the two networks (`Networks`), or an exported folder (`serving.backend.OnnxModel`)."""

    def facts(self) -> dict[str, Any]:
        """Which weights and which program, for `samples.json`."""

    def options(self, asked: Request) -> SamplingOptions:
        """How bits are drawn."""

    def latent_frames(self, frames: int) -> int:
        """Latent frames of so many pixel frames; UserError if there are none."""

    def stream(self, asked: Request) -> Iterator[Tensor]:
        """Pixels [B, 3, n, H, W], part after part."""


@dataclass(frozen=True)
class Networks:
    """Generator and tokenizer in PyTorch."""

    generator: VideoAR
    tokenizer: VideoTokenizer

    def facts(self) -> dict[str, Any]:
        prints = {part.part: part.fingerprint() for part in (self.generator, self.tokenizer)}
        return {"torch": torch.__version__, **prints}

    def options(self, asked: Request) -> SamplingOptions:
        return asked.options(self.generator)

    def latent_frames(self, frames: int) -> int:
        return latent_frames(self.tokenizer, frames)

    def stream(self, asked: Request) -> Iterator[Tensor]:
        return generate_stream(self.generator, self.tokenizer, asked)


@dataclass(frozen=True)
class Gallery:
    """How samples become files.

    Attributes:
        folder: of the files; `folder.claim_folder` says whether it is free.
        fps: frames a second of the files.
        batch: videos sampled together.
        row: videos of one condition, which follow each other; they make a row of the grid. None: no grid.
        seconds: go on shot after shot until a video is this long; None: one shot.
        overlap: pixel frames that two shots share, 1 + 4n.
    """

    folder: Path
    fps: float = 8.0
    batch: int = 8
    row: int | None = None
    seconds: float | None = None
    overlap: int = 5


def write_samples(
    source: Source,
    jobs: Sequence[Job],
    asked: Request,
    gallery: Gallery,
    facts: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Sample every job and write `<condition>_<seed>.mp4`, `.gif`, `samples.json` and perhaps `grid.gif`, `grid.png`.

    `samples.json` holds `facts`, the options and fingerprints. It is written after every batch, so that an interrupted
    run can be told from others' files.

    Args:
        asked: all but `condition` and `seed`, which the jobs give.

    Returns:
        The mp4 files.

    Raises:
        UserError: as `generate_stream` and `shots`.
    """
    started = time.perf_counter()
    videos: list[np.ndarray] = []
    files: list[Path] = []
    settings: dict[str, Any] = {**(facts or {}), "options": asdict(source.options(asked))}
    settings |= {"videoar": __version__, **source.facts(), "videos": []}
    for part, request in in_batches(jobs, asked, gallery.batch):
        stems = [
            gallery.folder / f"{'sample' if value is None else file_name_of(str(value))}_{seed:05d}"
            for value, seed in part
        ]
        if progress is not None:
            request = replace(request, progress=_told(progress, f"{len(files) + len(part)}/{len(jobs)}"))
        clips = _write_batch(_stream(source, request, gallery), stems, gallery.fps)
        files += [stem.with_suffix(".mp4") for stem in stems]
        settings["videos"] += [
            {"file": f"{stem.name}.mp4", "condition": value, "seed": seed} for stem, (value, seed) in zip(stems, part)
        ]
        settings["seconds_in_all"] = round(time.perf_counter() - started, 3)
        write_settings(gallery.folder, settings)
        videos += clips if gallery.row else []
    if gallery.row:
        names = ["sample" if value is None else str(value) for value, _ in jobs[:: gallery.row]]
        _write_grid(gallery, names, videos, gallery.row)
    return files


def _told(progress: Progress, videos: str) -> Any:
    return lambda done, total: progress(videos, done, total)


def _stream(source: Source, request: Request, gallery: Gallery) -> Iterator[Tensor]:
    if gallery.seconds is None:
        return source.stream(request)
    source.latent_frames(gallery.overlap)
    return shots(source.stream, request, seconds=gallery.seconds, fps=gallery.fps, overlap=gallery.overlap)


def _write_batch(parts: Iterator[Tensor], stems: list[Path], fps: float) -> list[np.ndarray]:
    """Write frames while later ones are sampled; the videos as bytes [T, H, W, 3]."""
    kept: list[list[np.ndarray]] = [[] for _ in stems]
    with ExitStack() as files:
        stems[0].parent.mkdir(parents=True, exist_ok=True)
        writers = [files.enter_context(open_mp4_writer(stem.with_suffix(".mp4"), fps)) for stem in stems]
        for part in parts:
            for clip, writer, frames in zip(part, writers, kept):
                frames.append(to_uint8(clip))
                writer.write(frames[-1])
    videos = [np.concatenate(frames) for frames in kept]
    for stem, video in zip(stems, videos):
        write_gif(stem.with_suffix(".gif"), video, fps)
    return videos


def _write_grid(gallery: Gallery, names: list[str], videos: list[np.ndarray], row: int) -> None:
    """All videos, a row a condition: moving in one GIF, five frames of each in one picture."""
    rows = [videos[start : start + row] for start in range(0, len(videos), row)]
    columns = [f"sample {n + 1}" for n in range(row)] if row > 1 else []
    gif, png = (gallery.folder / name for name in GRIDS)
    write_gif(gif, moving_grid(rows, names, columns, side=128), gallery.fps)
    write_png(png, contact_sheet(rows, 5, names, columns or ["sample"]))
