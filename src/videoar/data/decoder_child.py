"""The child process of `decoding.KillableDecoder`: answers (job, path, …) messages on its standard streams."""

import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from videoar.data.decoding import send
from videoar.data.files import IMAGE_SUFFIXES
from videoar.data.lifeline import die_with_parent
from videoar.data.probe import UnreadableClip
from videoar.data.readers import iterate, open_video, read_image
from videoar.errors import UserError


def probe(path: str, backend: str, frames: int | None) -> tuple[int, float]:
    """(length, fps)."""
    reader = open_video(path, backend, frames)
    return len(reader), reader.fps


def frames(path: str, backend: str, count: int | None, indices: list[int]) -> np.ndarray:
    """Frames as uint8 `[T, H, W, 3]`."""
    return open_video(path, backend, count).get(indices).numpy()


def count(path: str, backend: str) -> tuple[int, float, int, int]:
    """Decode all frames with PyAV, then the first and last with `backend`: (frames, fps, height, width).

    A file is unreadable if any of it does not decode: what decord makes of the rest depends on its threads' timing.
    """
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        _, height, width, _ = read_image(path).shape
        return 1, 0.0, height, width
    good, size = 0, (0, 0)
    try:
        for frame in iterate(path):
            good, size = good + 1, (frame.shape[0], frame.shape[1])
    except UnreadableClip as error:
        raise UnreadableClip(path, f"{good} frames decode, then: {error.reason}" if good else error.reason) from error
    if not good:
        raise UnreadableClip(path, "no frame decodes")
    reader = open_video(path, backend, good)
    reader.get([0, len(reader) - 1])
    return len(reader), reader.fps, size[0], size[1]


def main() -> None:
    """Answer until the parent closes the pipe or dies."""
    die_with_parent()  # a decoder that hangs would never see the closed pipe
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library's prints must not mix with the answers
    send(answers, "ready")
    jobs: dict[str, Any] = {"probe": probe, "frames": frames, "count": count}
    requests = sys.stdin.buffer
    while header := requests.read(8):
        job, *arguments = pickle.loads(requests.read(struct.unpack("<Q", header)[0]))
        try:
            send(answers, (True, jobs[job](*arguments)))
        except UnreadableClip as error:
            send(answers, (False, ("clip", error.reason)))
        except UserError as error:
            send(answers, (False, ("user", str(error))))
        except Exception as error:
            send(answers, (False, ("clip", f"{type(error).__name__}: {error}")))


if __name__ == "__main__":
    main()
