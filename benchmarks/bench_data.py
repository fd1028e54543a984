"""The data path: frames a second by reader, file and loader settings, time to the first batch, and a long soak.

    python -m pytest benchmarks/bench_data.py --benchmark-only            # a minute on two CPU cores
    python -m pytest benchmarks/bench_data.py -k step                     # a batch against a training step
    python -m pytest benchmarks/bench_data.py -k soak                     # 2,000 steps with random faults

Results hold frames a second of wall time and of CPU time; on a busy machine only the latter means anything.
With RESULTS=DIR what was measured is added to DIR/data.json.
The clips are made here: `small` like Atari or preprocessed sets, `ucf` like UCF-101's own files.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from videoar.data import index
from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.index import write_index
from videoar.data.items import Source
from videoar.data.latents import write_latent
from videoar.data.loader import Loading
from videoar.data.probe import probe
from videoar.data.readers import open_video
from videoar.data.writers import write_mp4
from videoar.generator.config import GeneratorConfig

FILES = {"small": (33, 128, 128, 15), "ucf": (180, 240, 320, 25)}
BATCH, FRAMES = 8, 17


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Callable[[str], Path]:
    """`folders(kind)`: 24 clips of drifting smooth noise, as hard to decode as natural video."""

    @cache
    def make(kind: str) -> Path:
        rng, root = np.random.default_rng(0), tmp_path_factory.mktemp(kind)
        count, height, width, fps = FILES[kind]
        for clip in range(24):
            coarse = rng.integers(0, 256, (height // 8 + 1, (width + count) // 8 + 2, 3), np.uint8)
            wide = coarse.repeat(8, 0).repeat(8, 1)
            frames = np.stack([wide[:height, t : t + width] for t in range(count)])
            write_mp4(root / f"{clip:02d}.mp4", frames, fps)
        return root

    return make


def record(name: str, values: dict[str, Any]) -> None:
    """Print what was measured, and add it to $RESULTS/data.json."""
    print(f"{name}: {values}")
    if folder := os.environ.get("RESULTS"):
        path = Path(folder) / "data.json"
        known = json.loads(path.read_text()) if path.is_file() else {"benchmark": "benchmarks/bench_data.py"}
        known["machine"] = (
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        )
        known[name] = values
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def _measure(benchmark, run, frames: int, rounds: int = 3, in_process: bool = True) -> None:
    """Benchmark `run`, which handles `frames` frames: by wall time and, if it all happens in this process, CPU time."""
    cpu = []

    def timed() -> None:
        cpu.append(_cpu_seconds(run))

    benchmark.pedantic(timed, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["frames_per_second"] = round(frames / benchmark.stats["median"])
    if in_process:
        benchmark.extra_info["frames_per_cpu_second"] = round(frames / float(np.median(cpu)))
    record(benchmark.name, dict(benchmark.extra_info))


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
@pytest.mark.parametrize("kind", FILES)
def test_reader(benchmark, folders, kind, backend):
    """Open a file and decode 17 consecutive frames from a random place; what is known of files is kept."""
    files, draw = sorted(folders(kind).iterdir()), random.Random(0)
    if backend == "torchcodec":
        pytest.importorskip("torchcodec.decoders", exc_type=(ImportError, OSError, RuntimeError))

    def run() -> None:
        for file in files:
            reader = open_video(file, backend)
            start = draw.randrange(len(reader) - FRAMES + 1)
            reader.get(range(start, start + FRAMES))

    _measure(benchmark, run, len(files) * FRAMES)


@pytest.mark.parametrize("known", ["nothing", "index", "memory"])
def test_hour_long_file(benchmark, folders, tmp_path, known):
    """Open a file of 90,000 frames and decode 17 from a random place: CPU seconds, by what is known of it."""
    path, draw = _hour_long(next(iter(sorted(folders("ucf").iterdir()))), tmp_path / "hour.mp4"), random.Random(0)
    if known == "index":
        write_index(tmp_path, {path.name: probe(path)})
    open_video(path).get([0])
    cpu: list[float] = []

    def run() -> None:
        if known != "memory":
            index._memory = index._Memory(10**7)
        start = draw.randrange(89_000)
        cpu.append(_cpu_seconds(lambda: open_video(path).get(range(start, start + FRAMES))))

    benchmark.pedantic(run, rounds=5)
    record(benchmark.name, {"cpu_seconds": round(float(np.median(cpu)), 4)})


def _hour_long(source: Path, target: Path) -> Path:
    """The packets of a clip, 500 times after each other."""
    import av

    with av.open(str(target), "w") as container:
        for turn in range(500):
            with av.open(str(source)) as clip:
                stream = clip.streams.video[0]
                if turn == 0:
                    out = container.add_stream_from_template(stream)
                for packet in clip.demux(stream):
                    if packet.size:
                        shift = round(turn * FILES["ucf"][0] / FILES["ucf"][3] / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, out
                        container.mux(packet)
    return target


def _data(folder: Path, workers: int, **reading) -> MixedDataModule:
    stage = Stage(resolution=128, frames=FRAMES, batch_size=BATCH)
    loading = Loading(workers=workers, epoch_batches=12)
    return MixedDataModule(str(folder), stage=stage, loading=loading, reading=Reading(**reading))


@pytest.mark.parametrize("settings", ["decord", "pyav", "cache", "isolate"])
@pytest.mark.parametrize("kind", FILES)
def test_loader_in_process(benchmark, folders, kind, settings):
    """Batches of 8 clips, 17 frames at 128 x 128, made in the training process: what one worker can do."""
    reading = {"cache": {"cache": True}, "isolate": {"isolate": True}}.get(settings, {"backend": settings})
    loader = _data(folders(kind), 0, **reading).train_dataloader()
    frames = len(loader) * BATCH * FRAMES
    _measure(benchmark, lambda: sum(1 for _ in loader), frames, in_process=settings != "isolate")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_time_to_first_batch(benchmark, folders, workers):
    """From nothing (index, workers) to the first batch."""

    def run() -> None:
        next(iter(_data(folders("small"), workers).train_dataloader()))

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    record(benchmark.name, {"seconds": round(benchmark.stats["median"], 3)})


@pytest.mark.parametrize("workers", [0, 1])
def test_cached_latents(benchmark, tmp_path, workers):
    """Batches of 16 latents of videoar-l's clips, 17x128x128, as a generator's training reads them; clips a second."""
    latent = torch.randn(GeneratorConfig.preset("videoar-l").latent_dim, 5, 8, 8)
    for clip in range(512):
        folder = tmp_path / f"class{clip % 8}"
        folder.mkdir(exist_ok=True)
        write_latent(folder / f"{clip:03d}.safetensors", latent)
    stage = Stage(resolution=128, frames=FRAMES, batch_size=16)
    loading = Loading(workers=workers, epoch_batches=64)
    batches = iter(MixedDataModule(str(tmp_path), stage=stage, loading=loading).train_dataloader())
    assert next(batches)["latent"].shape == (16, *latent.shape)
    benchmark.pedantic(lambda: next(batches), rounds=60)
    rates = {"clips_per_second": round(16 / benchmark.stats["mean"]), "kilobytes_a_clip": latent.nbytes / 1e3}
    record(benchmark.name, rates)


@pytest.mark.parametrize("name", ["demo", "atari"])
def test_batch_against_training_step(folders, name):
    """CPU seconds of a batch of a recipe's last stage, and of the tokenizer's forward and backward pass over it.

    The pass runs on one clip and is multiplied; without discriminator and optimizer it is the least a step can take.
    """
    from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer

    recipe = yaml.safe_load(Path(f"configs/tokenizer/{name}.yaml").read_text())
    stage, config = Stage(**recipe["data"]["stages"][-1]), recipe["model"]["init_args"]["tokenizer"]
    data = MixedDataModule(str(folders("small")), stage=stage, loading=Loading(workers=0, epoch_batches=6))
    batches = iter(data.train_dataloader())
    next(batches)
    batch = min(_cpu_seconds(lambda: next(batches)) for _ in range(5))
    torch.set_num_threads(1)
    model = VideoTokenizer(TokenizerConfig.preset(config) if isinstance(config, str) else TokenizerConfig(**config))
    video = torch.rand(1, 3, stage.frames, *stage.sizes()[0]) * 2 - 1

    def step() -> None:
        codes = model.quantize(model.encode(video), straight_through=True)
        (model.decoder(codes.latent) - video).square().mean().backward()

    seconds = stage.batch_size * _cpu_seconds(step)
    values = {"clips": stage.batch_size, "frames": stage.frames, "size": stage.sizes()[0]}
    values |= {"batch_cpu_s": round(batch, 4), "step_cpu_s": round(seconds, 1), "share": round(batch / seconds, 5)}
    record(f"recipe {name}", values)
    assert batch < seconds


def _cpu_seconds(run) -> float:
    before = time.process_time()
    run()
    return time.process_time() - before


def _resident() -> float:
    """Memory of this process and of the loader's workers in MiB."""
    own = Path("/proc/self/task") / str(os.getpid()) / "children"
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ["self", *own.read_text().split()]]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory through /proc")
@pytest.mark.parametrize("workers", [0, 2])
def test_soak(folders, tmp_path, workers):
    """2,000 steps over files of which a third is damaged at random: no hang, no leak, every fault counted."""
    rng = random.Random(0)
    for number, file in enumerate(sorted(folders("small").iterdir())):
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
        loading=Loading(workers=workers, epoch_batches=2000, max_bad=1.0),
    )
    started, after_warm_up, grown, ledger = time.perf_counter(), 0.0, 0.0, data_module.ledger
    for step, batch in enumerate(data_module.train_dataloader()):
        assert batch["video"].shape == (2, 3, 5, 64, 64)
        if step == 400:
            after_warm_up = _resident()
        if step == 1990:  # workers are still there
            grown = _resident() - after_warm_up
    values = {"steps": step + 1, "seconds": round(time.perf_counter() - started), "bad_files": len(ledger.bad)}
    values |= {"replaced": ledger.replaced, "of_samples": ledger.samples, "grown_mib_after_step_400": round(grown, 1)}
    record(f"soak, {workers} workers", values)
    assert step + 1 == 2000
    assert ledger.replaced > 100
    assert grown < 64
