"""Worker processes that die with the process that made them, however it dies."""

import ctypes
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait

PR_SET_PDEATHSIG = 1


def die_with_parent(worker: int = 0) -> None:
    """Called in a process that multiprocessing started (a loader's `worker_init_fn`): end it when its parent ends.

    A trainer killed by SIGKILL (out of memory, a scheduler) cannot tell its workers. Those then wait for ever to write
    into a pipe that their siblings keep open, each with its memory. On Linux the kernel sends them SIGKILL; elsewhere,
    and where a fork server stands between (which lives as long as one of its children), a thread waits for the end.
    """
    parent = parent_process()
    if sys.platform == "linux" and (parent is None or parent.pid == os.getppid()):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and not parent.is_alive():  # it died before the kernel was asked
            os._exit(1)
    elif parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(parent: int) -> None:
    """Ends this process when its parent, known by a sentinel, has ended."""
    wait([parent])
    os._exit(1)
