"""Who may touch torch's global random stream: nobody but the networks that a run trains, each from the run's seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_weights() -> Iterator[None]:
    """Draw the weights of what is trained from the run's seed, whatever else has drawn from the stream before.

    A callback more, or a data set that was looked at first, then changes no weight.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed())
        yield


@contextmanager
def stream_untouched() -> Iterator[None]:
    """Build a network that only observes (its weights come from a file) and leave the stream as it was."""
    with torch.random.fork_rng(devices=[]):
        yield
