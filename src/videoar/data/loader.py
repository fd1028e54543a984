"""Loaders over `ClipDataset`: they count faults, turn worker errors into clear ones, and know where they are.

A training loader's epoch is a fixed number of batches. `position` counts the batches handed out, whatever the
workers have prefetched; an iterator starts there, so a loader put at position n goes on with batch n.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import proxy

import torch
from torch.utils.data import DataLoader

from videoar.data.datasets import ClipDataset, collate
from videoar.data.lifeline import die_with_parent
from videoar.data.sampler import SampleRef
from videoar.errors import UserError, dead_worker
from videoar.ranges import COUNT, LOADERS, SECONDS, SEED, SHARE, WORKERS, check_given

log = logging.getLogger(__name__)
Plan = Callable[[int], list[SampleRef]]
MIN_SAMPLES = 20


@dataclass
class Loading:
    """How batches are made."""

    workers: int = 2
    """Loader processes; 0 decodes in the training process."""
    epoch_batches: int | None = None
    """Batches an epoch (validation and schedules count epochs); None: one pass over the clips, at least 50."""
    prefetch: int = 2
    """Batches each worker prepares ahead."""
    timeout: float = 300.0
    """Seconds to wait for a batch before the run stops: a decoder hangs."""
    max_bad: float = 0.05
    """The run stops when more than this share of the samples could not be read."""
    seed: int = 0
    """Order of the clips, and where they are cut; everything about batch n follows from this seed."""

    def __post_init__(self) -> None:
        check_given(self, workers=LOADERS, prefetch=WORKERS, epoch_batches=COUNT, timeout=SECONDS, max_bad=SHARE)
        SEED.check("seed", self.seed)


@dataclass
class Ledger:
    """What was drawn, and how many samples had to be replaced. `bad` holds each unreadable file and its reason."""

    max_bad: float
    samples: int = 0
    replaced: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    drawn: Counter[str] = field(default_factory=Counter)

    def enter(self, faults: list[list[tuple[str, str]]], sources: list[str]) -> None:
        """Count one batch, `faults` by sample; `UserError` once more than `max_bad` of at least 20 samples failed."""
        self.samples += len(sources)
        self.replaced += sum(bool(failed) for failed in faults)
        self.drawn.update(sources)
        for path, reason in (fault for failed in faults for fault in failed):
            if path not in self.bad:
                self.bad[path] = reason
                log.warning("unreadable clip replaced: %s: %s", path, reason)
        if self.samples >= MIN_SAMPLES and self.replaced > self.max_bad * self.samples:
            path, reason = next(reversed(self.bad.items()))
            raise UserError(
                f"{self.replaced} of {self.samples} samples could not be read, more than max_bad {self.max_bad:.0%}; "
                f"the last one is {path}: {reason}. `videoar data check` lists all bad files of a folder"
            )

    def state_dict(self) -> dict[str, Any]:
        """The counts, for a checkpoint."""
        return {"samples": self.samples, "replaced": self.replaced, "drawn": dict(self.drawn)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.samples, self.replaced = state.get("samples", 0), state.get("replaced", 0)
        self.drawn = Counter(state.get("drawn", {}))


class ClipLoader:
    """Batches `plan(position)`, `plan(position + 1)`, … of a dataset; `length` of them an epoch.

    A plain iterable with a length: Lightning uses it as it is, without a distributed sampler of its own.
    With `endless`, an epoch starts where the last one stopped; otherwise every iteration starts at 0.
    `finish` is applied to each batch in the main process.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        plan: Plan,
        length: int,
        loading: Loading,
        ledger: Ledger,
        finish: Callable[[dict[str, Any]], dict[str, Any]],
        endless: bool = False,
    ) -> None:
        self.dataset, self.plan, self.length, self.loading = dataset, plan, length, loading
        self.ledger, self.finish, self.endless = ledger, finish, endless
        self.position = 0
        self._inner = DataLoader(
            dataset,
            batch_sampler=_Steps(self),
            collate_fn=collate,
            num_workers=loading.workers,
            prefetch_factor=loading.prefetch if loading.workers else None,
            timeout=loading.timeout if loading.workers else 0,
            persistent_workers=bool(loading.workers) and endless,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=die_with_parent,
        )

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._fetch():
            faults, sources = batch.pop("faults"), batch.pop("source")
            self.ledger.enter(faults, [self.dataset.names[source] for source in sources])
            self.position += self.endless
            if "path" in batch:  # else nothing in it could be read
                yield self.finish(batch)

    def close(self) -> None:
        """Let the workers go, here and now: found by the garbage collector, torch waits 5 s for each of them."""
        self._inner._iterator = None

    def state_dict(self) -> dict[str, int]:
        """Lightning saves it with the loop."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after a checkpoint."""
        self.position = state["position"]

    def _fetch(self) -> Iterator[dict[str, Any]]:
        try:
            yield from self._inner
        except UserError as error:  # from a worker it comes with the worker's traceback in the message
            last = str(error).strip().splitlines()[-1]
            raise UserError(last.removeprefix(f"{UserError.__module__}.UserError: ")) from error
        except RuntimeError as error:
            if "timed out" in str(error):
                raise UserError(
                    f"no batch within {self.loading.timeout:g} s: a decoder hangs. Find the file with "
                    "`videoar data check`, or set data.reading.isolate=true"
                ) from error
            if (dead := dead_worker(error)) is not None:
                raise dead from error
            raise


class _Steps(Iterable[list[SampleRef]]):
    """The batches of one epoch of a loader, from its position."""

    def __init__(self, loader: ClipLoader) -> None:
        self._loader: ClipLoader = proxy(loader)  # which owns this; a cycle would be left to the garbage collector

    def __len__(self) -> int:
        return self._loader.length

    def __iter__(self) -> Iterator[list[SampleRef]]:
        start = self._loader.position
        for step in range(start, start + self._loader.length):
            yield self._loader.plan(step)
