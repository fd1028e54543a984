"""Decoding one clip, here or in a child process that can be killed.

decord can wait for ever holding the interpreter lock, and a broken file can crash a decoder. A child that does
not answer in time is killed and replaced; nothing ever waits for it. Frames come back through a pipe.
"""

import os
import pickle
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from videoar.data.items import Item
from videoar.data.probe import UnreadableClip
from videoar.data.readers import open_video
from videoar.data.shards import local_file
from videoar.data.verify import Checked
from videoar.errors import UserError
from videoar.ranges import SECONDS

Pick = Callable[[int, float], np.ndarray]


class Decoded(NamedTuple):
    """Frames uint8 `[T, H, W, 3]` and the rate of their file."""

    frames: torch.Tensor
    fps: float


class ClipDecoder:
    """Decodes clips with one backend; with `patience` (seconds), in a child process."""

    def __init__(self, backend: str, patience: float | None = None) -> None:
        self.backend = backend
        self._child = KillableDecoder(patience) if patience is not None else None

    def clip(self, item: Item, pick: Pick) -> Decoded:
        """Decode the frames that `pick(length, fps)` wants. Raises `UnreadableClip`, named after the item."""
        try:
            with local_file(item) as path:
                if self._child:
                    length, fps = self._child.probe(str(path), self.backend, item.frames)
                    frames = self._child.frames(str(path), self.backend, item.frames, pick(length, fps))
                    return Decoded(frames, fps)
                reader = open_video(path, self.backend, item.frames)
                return Decoded(reader.get(pick(len(reader), reader.fps).tolist()), reader.fps)
        except UnreadableClip as fault:
            raise UnreadableClip(item.path, fault.reason) from fault
        except UserError:
            raise
        except (ValueError, OSError) as error:
            raise UnreadableClip(item.path, error) from error


class KillableDecoder:
    """A child process that opens and decodes files; killed when a call takes longer than `patience` seconds.

    The child starts at the first call and after each kill. Safe inside loader workers, and not inherited by forks.
    """

    def __init__(self, patience: float) -> None:
        SECONDS.check("patience", patience)
        self.patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"patience": self.patience, "_process": None, "_owner": 0}

    def probe(self, path: str, backend: str, frames: int | None) -> tuple[int, float]:
        """(length, fps) of a file."""
        return self._call("probe", path, backend, frames)

    def frames(self, path: str, backend: str, frames: int | None, indices: np.ndarray) -> torch.Tensor:
        """Frames of a file, uint8 `[len(indices), H, W, 3]`."""
        return torch.from_numpy(self._call("frames", path, backend, frames, indices.tolist()))

    def check(self, path: str, backend: str) -> Checked:
        """Decode the whole file and compare what `backend` reads at random places; see `verify.check`."""
        return self._call("check", path, backend)

    def close(self) -> None:
        """End the child."""
        if self._process and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
        self._process = None

    def __del__(self) -> None:
        if sys is not None and not sys.is_finalizing():
            self.close()

    def _call(self, job: str, path: str, *arguments: Any) -> Any:
        if self._process is None or self._owner != os.getpid():
            self._start()
        process = self._process
        assert process and process.stdin and process.stdout
        try:
            send(process.stdin, (job, path, *arguments))
            ok, answer = _receive(process.stdout, time.monotonic() + self.patience)
        except TimeoutError:
            self.close()
            raise UnreadableClip(path, f"did not decode within {self.patience:g} s; decoder killed") from None
        except (EOFError, BrokenPipeError):
            code = process.wait()
            self.close()
            raise UnreadableClip(path, f"the decoder crashed (exit code {code})") from None
        if ok:
            return answer
        raise UserError(answer[1]) if answer[0] == "user" else UnreadableClip(path, answer[1])

    def _start(self) -> None:
        command = [sys.executable, "-m", "videoar.data.decoder_child"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self._owner = os.getpid()
        assert self._process.stdout
        try:
            _receive(self._process.stdout, time.monotonic() + 120)  # it says hello once its imports are done
        except (TimeoutError, EOFError) as error:
            self.close()
            raise UserError(f"cannot start the decoder process ({error!r})") from error


def send(pipe: Any, message: Any) -> None:
    """Write one length-prefixed pickle."""
    data = pickle.dumps(message, protocol=5)
    view = memoryview(struct.pack("<Q", len(data)) + data)
    while view:
        view = view[pipe.write(view) :]


def _receive(pipe: Any, deadline: float) -> Any:
    """Read one message. Raises `TimeoutError` past the deadline and `EOFError` if the other side has died."""
    size = struct.unpack("<Q", _read(pipe, 8, deadline))[0]
    return pickle.loads(_read(pipe, size, deadline))


def _read(pipe: Any, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(pipe.fileno(), min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
