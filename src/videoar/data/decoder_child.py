"""The child process of `decoding.KillableDecoder`: answers (job, path, …) messages on its standard streams."""

import os
import pickle
import struct
import sys
from typing import Any

import numpy as np

from videoar.data.decoding import send
from videoar.data.lifeline import die_with_parent
from videoar.data.probe import UnreadableClip
from videoar.data.readers import open_video
from videoar.data.verify import check
from videoar.errors import UserError


def probe(path: str, backend: str, frames: int | None) -> tuple[int, float]:
    """(length, fps)."""
    reader = open_video(path, backend, frames)
    return len(reader), reader.fps


def frames(path: str, backend: str, count: int | None, indices: list[int]) -> np.ndarray:
    """Frames as uint8 `[T, H, W, 3]`."""
    return open_video(path, backend, count).get(indices).numpy()


def main() -> None:
    """Answer until the parent closes the pipe or dies."""
    die_with_parent()  # a decoder that hangs would never see the closed pipe
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library's prints must not mix with the answers
    send(answers, "ready")
    jobs: dict[str, Any] = {"probe": probe, "frames": frames, "check": check}
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
