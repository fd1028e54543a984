"""The stateless sampler: batch = f(seed, step, rank, world). Nothing is remembered, so any step can be resumed.

    step -> stage -> kind -> shape -> slots -> (source, position in its stream) -> item of a pass over the source

Every choice comes from a `Schedule`, which spreads choices evenly and counts them in closed form, so that the
number of samples drawn from a source before any step is known without replaying. A stream visits all items of a
source (of one shape) once, in a new order, before it visits any a second time. Ranks take disjoint slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from videoar.data.curriculum import Curriculum, Kind, Size, Stage
from videoar.errors import UserError

PERIOD = 1024


class Schedule:
    """An endless sequence of choices among weighted options, even over every PERIOD and countable at any point."""

    def __init__(self, weights: Sequence[float], seed: Sequence[int]) -> None:
        total = float(sum(weights))
        if not weights or min(weights) < 0 or not total > 0:
            raise UserError(f"weights must be at least 0 with a positive sum, got {list(weights)}")
        quotas = _apportion([weight / total for weight in weights])
        offsets = np.random.default_rng(list(seed)).random(len(weights))
        due = np.concatenate([(np.arange(q) + offset) / max(q, 1) for q, offset in zip(quotas, offsets)])
        choice = np.repeat(np.arange(len(weights)), quotas)
        self._cycle = choice[np.argsort(due, kind="stable")]
        self._quotas = np.asarray(quotas)
        self._before = np.zeros((PERIOD + 1, len(weights)), np.int64)
        np.cumsum(np.eye(len(weights), dtype=np.int64)[self._cycle], axis=0, out=self._before[1:])

    def choice(self, n: int) -> int:
        """The n-th choice."""
        return int(self._cycle[n % PERIOD])

    def counts(self, n: int) -> np.ndarray:
        """How often each option is chosen among the first n choices."""
        return n // PERIOD * self._quotas + self._before[n % PERIOD]


def _apportion(shares: Sequence[float]) -> list[int]:
    """Integers that sum to PERIOD and are nearest to the shares; a positive share gets at least one."""
    quotas = [max(int(share * PERIOD), 1) if share > 0 else 0 for share in shares]
    order = sorted(range(len(shares)), key=lambda i: quotas[i] - shares[i] * PERIOD)
    for i in range(PERIOD - sum(quotas)):
        quotas[order[i]] += 1
    while sum(quotas) > PERIOD:
        quotas[int(np.argmax(quotas))] -= 1
    return quotas


@dataclass(frozen=True)
class SampleRef:
    """What a worker needs to make one sample: which item, in which shape, and the key of its random numbers."""

    source: int
    item: int
    stream: tuple[int, int]
    """(shape index within the stage, position in the source's stream): with the seed, the key of the sample."""
    kind: Kind
    size: Size
    frames: int
    stage: int
    first: int | None = None
    """First frame of the file that is wanted; None: the dataset decides."""


@dataclass(frozen=True)
class Pool:
    """Items of one source that suit one shape. `blocks` groups items stored together (shards), kept near in order."""

    items: np.ndarray
    blocks: np.ndarray | None = None

    def order(self, key: Sequence[int]) -> np.ndarray:
        """A random order of the items; with blocks, blocks are shuffled and items within runs of four blocks."""
        rng = np.random.default_rng(list(key))
        if self.blocks is None:
            return self.items[rng.permutation(len(self.items))]
        _, block = np.unique(self.blocks, return_inverse=True)
        rank = rng.permutation(block.max() + 1)[block] // 4
        return self.items[np.lexsort((rng.random(len(self.items)), rank))]


class MixedSampler:
    """Batches of `SampleRef` for one curriculum over sources.

    pools:    pools[stage][kind][shape][source] -> Pool (possibly empty)
    weights:  one a source; within a kind, samples are drawn from the sources in this proportion

    Raises `UserError` if a stage asks for a kind that no source has.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        pools: Sequence[dict[Kind, list[list[Pool]]]],
        weights: Sequence[float],
        seed: int = 0,
    ) -> None:
        self.curriculum, self.pools, self.weights, self.seed = curriculum, pools, list(weights), seed
        self._order = lru_cache(maxsize=64)(self._make_order)
        self._drawn_before = cache(self._count_drawn_before)
        self._kinds: list[Schedule] = []
        self._shapes: list[dict[Kind, Schedule]] = []
        self._sources: list[dict[Kind, list[Schedule | None]]] = []
        for index, stage in enumerate(curriculum.stages):
            self._kinds.append(Schedule([stage.image_share, 1 - stage.image_share], (seed, index, 0)))
            self._plan_stage(index, stage)

    def _plan_stage(self, index: int, stage: Stage) -> None:
        """Schedules of shapes and sources, for each kind that the stage shows."""
        shapes: dict[Kind, Schedule] = {}
        sources: dict[Kind, list[Schedule | None]] = {}
        shares: dict[Kind, float] = {"image": stage.image_share, "video": 1 - stage.image_share}
        for code, (kind, share) in enumerate(shares.items(), start=1):
            if share == 0:
                continue
            mass = self._mass(index, kind)
            if not mass.sum() > 0:
                raise UserError(f"stage {index + 1} has {share:.0%} {kind} batches, but no source holds any")
            shapes[kind] = Schedule(list(mass.sum(1)), (self.seed, index, code))
            sources[kind] = [
                Schedule(list(row), (self.seed, index, code, shape)) if row.sum() > 0 else None
                for shape, row in enumerate(mass)
            ]
        self._shapes.append(shapes)
        self._sources.append(sources)

    def _mass(self, index: int, kind: Kind) -> np.ndarray:
        """[shape, source] share of the samples: a source's weight, spread over shapes as its items are."""
        sizes = np.array([[len(pool.items) for pool in row] for row in self.pools[index][kind]], np.float64)
        return sizes / np.maximum(sizes.sum(0), 1) * np.asarray(self.weights)

    def kind(self, step: int) -> Kind:
        """The kind of batch `step`, the same on all ranks."""
        index = self.curriculum.index(step)
        return ("image", "video")[self._kinds[index].choice(step - self.curriculum.starts[index])]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[SampleRef]:
        """The samples of batch `step` on `rank` of `world`."""
        index = self.curriculum.index(step)
        stage, within = self.curriculum.stages[index], step - self.curriculum.starts[index]
        kind = self.kind(step)
        batches = int(self._kinds[index].counts(within)[int(kind == "video")])
        shape = self._shapes[index][kind].choice(batches)
        size, clips = stage.sizes()[shape], stage.clips(kind)
        first = (int(self._shapes[index][kind].counts(batches)[shape]) * world + rank) * clips
        schedule = self._sources[index][kind][shape]
        assert schedule is not None  # a shape without items has weight 0
        refs = []
        for slot in range(first, first + clips):
            source = schedule.choice(slot)
            position = int(schedule.counts(slot)[source]) + self._drawn_before(index, kind, shape, source, world)
            item = self._item(index, kind, shape, source, position)
            frames = 1 if kind == "image" else stage.frames
            refs.append(SampleRef(source, item, (shape, position), kind, size, frames, index))
        return refs

    def _count_drawn_before(self, index: int, kind: Kind, shape: int, source: int, world: int) -> int:
        """Samples that earlier stages with the same pool drew from it, so that a pass goes on across a switch."""
        total = 0
        for earlier in range(index):
            if kind in self._shapes[earlier] and self._same_pool(earlier, index, kind, shape, source):
                total += int(self._stage_counts(earlier, kind, shape, world)[source])
        return total

    def _same_pool(self, earlier: int, index: int, kind: Kind, shape: int, source: int) -> bool:
        shapes = self.pools[earlier][kind]
        if len(shapes) != len(self.pools[index][kind]):
            return False
        return np.array_equal(shapes[shape][source].items, self.pools[index][kind][shape][source].items)

    def _stage_counts(self, index: int, kind: Kind, shape: int, world: int) -> np.ndarray:
        """Samples drawn from each source for one shape during the whole of a stage that has ended."""
        stage, start = self.curriculum.stages[index], self.curriculum.starts[index]
        steps = self.curriculum.starts[index + 1] - start
        batches = int(self._kinds[index].counts(steps)[int(kind == "video")])
        slots = int(self._shapes[index][kind].counts(batches)[shape]) * world * stage.clips(kind)
        schedule = self._sources[index][kind][shape]
        return schedule.counts(slots) if schedule else np.zeros(len(self.weights), np.int64)

    def _item(self, index: int, kind: Kind, shape: int, source: int, position: int) -> int:
        pool = self.pools[index][kind][shape][source]
        turn, place = divmod(position, len(pool.items))
        return int(self._order(index, kind, shape, source, turn)[place])

    def _make_order(self, index: int, kind: Kind, shape: int, source: int, turn: int) -> np.ndarray:
        """The order of one pass; keyed without the stage, so that a pass goes on across a stage switch."""
        return self.pools[index][kind][shape][source].order((self.seed, kind == "video", shape, source, turn))
