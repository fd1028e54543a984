"""Peak memory of a piece of code: the CUDA allocator's own count, or what the system says of this process."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

MMAP_THRESHOLD = -3  # of glibc's mallopt


def resident_mib() -> float:
    """Memory of this process in MiB, where /proc tells it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_at_once() -> None:
    """From now on, let glibc return every freed tensor to the system: kept for reuse, they fragment and take more."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 2**20)


@contextmanager
def freed_at_once() -> Iterator[None]:
    """Let glibc map tensors of 1 MiB and more, so that freed ones leave resident memory; also where models are built:
    holes that their temporaries leave in the heap would be filled later and be counted for what fills them."""
    free_at_once()
    ctypes.CDLL(None).malloc_trim(0)
    try:
        yield
    finally:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**25)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Peak MiB above what was in use before: `with peak_memory(device) as peak: …`, then `peak()`.

    On a CPU (Linux) resident memory is read every two milliseconds.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    with freed_at_once():
        yield from _watched()


def _watched() -> Iterator[Callable[[], float]]:
    readings, done = [resident_mib()], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            readings.append(resident_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(readings) - readings[0]
    finally:
        done.set()
        watcher.join()
