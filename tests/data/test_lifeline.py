"""A trainer killed by SIGKILL takes its busy loader workers with it, on Linux and by the watchdog of other systems."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import Pipe, active_children, get_context
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data._utils import worker

from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.loader import Loading

WORKERS = 4


def train(root: Path, pids: Any, platform: str) -> None:
    """Draw batches slower than busy workers make them, like a Trainer, and say who they are.

    What they have prefetched fills the pipe in which they hand it over, so that they wait inside of it.
    """
    sys.platform = platform
    worker.MP_STATUS_CHECK_INTERVAL = 600  # how often torch's own watchdog looks; it never sees the busy ones anyway
    loading = Loading(workers=WORKERS, epoch_batches=10_000, prefetch=50)
    stage = Stage(resolution=16, frames=1, batch_size=16)
    data = MixedDataModule(str(root), stage=stage, reading=Reading(cache=True), loading=loading)
    for batch, _ in enumerate(data.train_dataloader()):
        if batch == WORKERS:
            time.sleep(1.0)
            pids.send([process.pid for process in active_children()])
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended may wait for its new parent to notice)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("platform", ["linux", "elsewhere"])
def test_workers_die_with_a_killed_trainer(class_folder, platform):
    receive, send = Pipe(duplex=False)
    trainer = get_context("fork").Process(target=train, args=(class_folder, send, platform))
    trainer.start()
    assert receive.poll(60)
    workers = receive.recv()
    try:
        assert len(workers) == WORKERS and all(alive(pid) for pid in workers)
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.join()
        deadline = time.monotonic() + 60
        while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not [pid for pid in workers if alive(pid)]
    finally:
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)
