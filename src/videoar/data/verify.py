"""Whether the frames that a reader returns after a seek are those of decoding in order; else another reader reads."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from videoar.data.files import IMAGE_SUFFIXES
from videoar.data.index import keep, known
from videoar.data.probe import Probe, UnreadableClip, probe
from videoar.data.readers import PyAVReader, open_video, read_image, reader_for

_SEEKS = 6
_SIDE, _TOLERANCE = 48, 4.0
"""Every n-th pixel is compared, and may differ by this mean of 256: readers convert colours each its way."""


class Checked(NamedTuple):
    """What is written down of a file that decodes."""

    frames: int
    fps: float
    height: int
    width: int
    reader: str
    """decord, torchcodec, pyav, or `pyav in order` where time stamps do not tell frames apart; empty for a picture."""
    seeks: int
    """Random places at which the reader's frames were compared with those of decoding in order."""
    found: Probe | None
    """What the index keeps."""


def check(path: str | Path, backend: str) -> Checked:
    """Decode all of a file, then read it at random places as training will, and compare.

    Where `backend` returns other frames PyAV takes the file, and where PyAV's own seeks do, it decodes from the start.
    Raises `UnreadableClip` if any of the file does not decode, or the frames come out differently each time.
    """
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        _, height, width, _ = read_image(path).shape
        return Checked(1, 0.0, height, width, "", 0, None)
    first = probe(path)
    draw, convert = random.Random(first.length), PyAVReader(path, first).converter()
    places = sorted({draw.randrange(first.length) for _ in range(_SEEKS)} | {first.length - 1})
    wanted, truth = {n for place in places for n in (place, place + 1)}, {}

    def watch(number: int, frame: Any) -> None:
        if number in wanted:
            truth[number] = _small(convert(frame))

    found = probe(path, exact=True, watch=watch)
    attempts = [
        (backend, found),
        ("pyav", replace(found, unusual=f"{backend} returned other frames when it was checked")),
        ("pyav", replace(found, unusual="seeks end at other frames", keys=found.keys[:1], targets=found.targets[:1])),
    ]
    for reader, candidate in attempts:
        keep(path, candidate)
        if _agrees(path, reader, truth, places):
            kept = known(path)  # and not `candidate`: seeks may have shown that some keys are none
            name = reader_for(path, reader) + ("" if len(kept.stamps) else " in order")
            return Checked(kept.length, kept.fps, kept.height, kept.width, name, len(places), kept)
    raise UnreadableClip(path, "the frames after a seek are not those of decoding in order")


def _agrees(path: str | Path, backend: str, truth: dict[int, np.ndarray], places: list[int]) -> bool:
    for place in places:
        numbers = [number for number in (place, place + 1) if number in truth]
        if not numbers:
            continue
        try:
            frames = open_video(path, backend).get(numbers).numpy()
        except UnreadableClip:
            return False
        for number, frame in zip(numbers, frames):
            small = _small(frame)
            if small.shape != truth[number].shape or np.abs(small - truth[number]).mean() > _TOLERANCE:
                return False
    return True


def _small(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    return frame[:: 1 + height // _SIDE, :: 1 + width // _SIDE].astype(np.int16)
