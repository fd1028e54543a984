"""The data path: frames a second by reader, file and loader settings, time to the first batch, and a long soak.

    python -m pytest benchmarks/bench_data.py --benchmark-only            # a minute on two CPU cores
    python -m pytest benchmarks/bench_data.py -k soak                     # 2,000 steps with random faults

`extra_info` holds frames a second of wall time and of CPU time; on a busy machine only the latter means anything.
The clips are made here: `small` like Atari or preprocessed sets, `ucf` like UCF-101's own files.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.items import Source
from videoar.data.loader import Loading
from videoar.data.readers import open_video
from videoar.data.writers import write_mp4

FILES = {"small": (33, 128, 128, 15), "ucf": (180, 240, 320, 25)}
BATCH, FRAMES = 8, 17


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """24 clips of each kind: drifting smooth noise, as hard to decode as natural video."""
    rng = np.random.default_rng(0)
    made = {}
    for name, (count, height, width, fps) in FILES.items():
        made[name] = tmp_path_factory.mktemp(name)
        for clip in range(24):
            coarse = rng.integers(0, 256, (height // 8 + 1, (width + count) // 8 + 2, 3), np.uint8)
            wide = coarse.repeat(8, 0).repeat(8, 1)
            frames = np.stack([wide[:height, t : t + width] for t in range(count)])
            write_mp4(made[name] / f"{clip:02d}.mp4", frames, fps)
    return made


def _measure(benchmark, run, frames: int, rounds: int = 3) -> None:
    """Benchmark `run`, which handles `frames` frames, by wall and CPU time (this process and finished children)."""
    cpu = []

    def timed() -> None:
        before = sum(os.times()[:4])
        run()
        cpu.append(sum(os.times()[:4]) - before)

    benchmark.pedantic(timed, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["frames_per_second"] = round(frames / benchmark.stats["median"])
    benchmark.extra_info["frames_per_cpu_second"] = round(frames / float(np.median(cpu)))


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
@pytest.mark.parametrize("kind", FILES)
def test_reader(benchmark, folders, kind, backend):
    """Open a file and decode 17 consecutive frames from its middle."""
    files = sorted(folders[kind].iterdir())
    if backend == "torchcodec":
        pytest.importorskip("torchcodec.decoders", exc_type=(ImportError, OSError, RuntimeError))

    def run() -> None:
        for file in files:
            reader = open_video(file, backend)
            start = (len(reader) - FRAMES) // 2
            reader.get(range(start, start + FRAMES))

    _measure(benchmark, run, len(files) * FRAMES)


def _data(folder: Path, workers: int, **reading) -> MixedDataModule:
    stage = Stage(resolution=128, frames=FRAMES, batch_size=BATCH)
    loading = Loading(workers=workers, epoch_batches=12)
    return MixedDataModule(str(folder), stage=stage, loading=loading, reading=Reading(**reading))


@pytest.mark.parametrize("settings", ["decord", "pyav", "cache", "isolate"])
@pytest.mark.parametrize("kind", FILES)
def test_loader_in_process(benchmark, folders, kind, settings):
    """Batches of 8 clips, 17 frames at 128 x 128, made in the training process: what one worker can do."""
    reading = {"cache": {"cache": True}, "isolate": {"isolate": True}}.get(settings, {"backend": settings})
    loader = _data(folders[kind], 0, **reading).train_dataloader()
    _measure(benchmark, lambda: sum(1 for _ in loader), len(loader) * BATCH * FRAMES)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_time_to_first_batch(benchmark, folders, workers):
    """From nothing (index, workers) to the first batch."""

    def run() -> None:
        next(iter(_data(folders["small"], workers).train_dataloader()))

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


def _resident() -> float:
    """Memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory through /proc")
def test_soak(folders, tmp_path):
    """2,000 steps over files of which a third is damaged at random: no hang, no leak, every fault counted."""
    rng = random.Random(0)
    for number, file in enumerate(sorted(folders["small"].iterdir())):
        data = bytearray(file.read_bytes())
        if number % 6 == 0:
            data = data[: rng.randrange(len(data))]
        elif number % 6 == 1:
            for _ in range(20):
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        (tmp_path / file.name).write_bytes(data)
    data_module = MixedDataModule(
        sources=[Source(str(tmp_path), holdout=0)],
        stage=Stage(resolution=64, frames=5, batch_size=2),
        loading=Loading(workers=0, epoch_batches=2000, max_bad=1.0),
    )
    started, after_warm_up = time.perf_counter(), 0.0
    for step, batch in enumerate(data_module.train_dataloader()):
        assert batch["video"].shape == (2, 3, 5, 64, 64)
        if step == 400:
            after_warm_up = _resident()
    grown = _resident() - after_warm_up
    print(
        f"{step + 1} steps in {time.perf_counter() - started:.0f} s, {data_module.ledger.replaced} samples replaced, "
        f"{len(data_module.ledger.bad)} bad files, memory grew {grown:.0f} MiB after step 400"
    )
    assert step + 1 == 2000
    assert data_module.ledger.replaced > 100
    assert grown < 64
