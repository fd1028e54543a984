"""Every sample is seen as promised, over stages x sources x ranks x resume points."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoar.data.curriculum import Curriculum, Stage
from videoar.data.sampler import PERIOD, MixedSampler, Pool, SampleRef, Schedule
from videoar.errors import UserError

EMPTY = Pool(np.array([], np.int64))


def make_sampler(plan: dict[str, Any], batch_factor: int = 1) -> MixedSampler:
    """A sampler for a drawn plan; `batch_factor` multiplies every batch size."""
    stages = []
    end = 0
    for number, (length, share, frames, clips, images, wide) in enumerate(plan["stages"]):
        end += length
        stages.append(
            Stage(
                until=None if number == len(plan["stages"]) - 1 else end,
                image_share=share,
                resolution=64,
                aspects=["1:1", "16:9"] if wide else ["1:1"],
                frames=frames,
                batch_size=clips * batch_factor,
                image_batch_size=images * batch_factor,
            )
        )
    pools = []
    for stage in stages:
        shapes = len(stage.sizes())
        rows: dict[str, list[list[Pool]]] = {"image": [], "video": []}
        for kind, row in rows.items():
            for shape in range(shapes):
                items = [np.arange(size)[shape::shapes] for _, size, _ in plan["sources"]]
                kinds = [own for own, _, _ in plan["sources"]]
                row.append([Pool(own) if name == kind else EMPTY for own, name in zip(items, kinds)])
        pools.append(rows)
    return MixedSampler(Curriculum(stages), pools, [weight for _, _, weight in plan["sources"]], plan["seed"])


plans = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 5),
        "stages": st.lists(
            st.tuples(
                st.integers(1, 12),
                st.sampled_from([0.0, 0.25, 0.5, 1.0]),
                st.sampled_from([1, 5, 17]),
                st.integers(1, 4),
                st.integers(1, 4),
                st.booleans(),
            ),
            min_size=1,
            max_size=3,
        ),
        "sources": st.lists(
            st.tuples(st.sampled_from(["image", "video"]), st.integers(2, 9), st.sampled_from([0.5, 1.0, 3.0])),
            max_size=2,
        ).map(lambda more: [("video", 7, 1.0), ("image", 5, 1.0), *more]),
    }
)


@settings(max_examples=60, deadline=None)
@given(plan=plans, world=st.integers(1, 3), steps=st.integers(1, 40), resume=st.integers(0, 39))
def test_every_sample_is_seen_as_promised(plan, world, steps, resume):
    sampler = make_sampler(plan)
    run = [[sampler.batch(step, rank, world) for rank in range(world)] for step in range(steps)]

    # A fresh sampler, asked for any batch alone, gives the same one: nothing is remembered.
    at = resume % steps
    assert make_sampler(plan).batch(at, world - 1, world) == run[at][world - 1]

    # All ranks together are what one process with the joint batch size would take.
    joint = make_sampler(plan, batch_factor=world).batch(at)
    assert [ref for rank in run[at] for ref in rank] == joint

    streams: dict[tuple[str, int, int], list[SampleRef]] = defaultdict(list)
    for step, ranks in enumerate(run):
        stage = sampler.curriculum.at(step)
        shapes = {(ref.kind, ref.size, ref.frames, ref.stage) for rank in ranks for ref in rank}
        assert len(shapes) == 1  # homogeneous, and the same on all ranks
        kind, size, frames, index = shapes.pop()
        assert index == sampler.curriculum.index(step)
        assert size in stage.sizes()
        assert frames == (1 if kind == "image" else stage.frames)
        assert all(len(rank) == stage.clips(kind) for rank in ranks)
        for rank in ranks:
            for ref in rank:
                assert plan["sources"][ref.source][0] == kind
                streams[f"{kind} {len(stage.sizes())}", ref.source, ref.stream[0]].append(ref)

    # Within a stream nothing is left out or repeated before the pass is over, also across stage switches.
    for refs in streams.values():
        refs.sort(key=lambda ref: ref.stream[1])
        assert [ref.stream[1] for ref in refs] == list(range(len(refs)))
        pool = len(sampler.pools[refs[0].stage][refs[0].kind][refs[0].stream[0]][refs[0].source].items)
        for start in range(0, len(refs), pool):
            items = [ref.item for ref in refs[start : start + pool]]
            assert len(set(items)) == len(items)


@given(
    weights=st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(lambda w: sum(w) > 0.1),
    n=st.integers(0, 5000),
    seed=st.integers(0, 9),
)
def test_schedules_count_what_they_choose(weights, n, seed):
    schedule = Schedule(weights, [seed])
    choices = Counter(schedule.choice(i) for i in range(n))
    assert schedule.counts(n).tolist() == [choices[i] for i in range(len(weights))]
    shares = np.array(weights) / sum(weights)
    assert np.abs(schedule.counts(n) - shares * n).max() <= 1.5 * len(weights) + n * len(weights) / PERIOD
    assert all(choices[i] == 0 for i, weight in enumerate(weights) if weight == 0)


def test_shares_hold_from_the_start():
    schedule = Schedule([0.25, 0.75], [0])
    for n in range(1, 400):
        assert abs(schedule.counts(n)[0] - 0.25 * n) <= 1.5


def test_passes_are_shuffled_and_seeds_differ():
    plan = {"seed": 0, "stages": [(1, 0.0, 5, 8, 1, False)], "sources": [("video", 64, 1.0)]}
    orders = []
    for seed in (0, 1):
        sampler = make_sampler({**plan, "seed": seed})
        run = [ref.item for step in range(16) for ref in sampler.batch(step)]
        assert sorted(run[:64]) == sorted(run[64:]) == list(range(64))
        orders += [tuple(run[:64]), tuple(run[64:])]
    assert len(set(orders)) == 4


def test_blocks_are_read_in_runs():
    blocks = np.repeat(np.arange(40), 25)
    order = Pool(np.arange(1000), blocks).order((0,))
    assert sorted(order) == list(range(1000))
    runs = [set(blocks[order[start : start + 100]]) for start in range(0, 1000, 100)]
    assert all(len(run) == 4 for run in runs)
    assert order.tolist() != sorted(order)


def test_far_ahead_costs_no_more():
    plan = {"seed": 0, "stages": [(3, 0.5, 5, 2, 2, True), (1, 0.25, 17, 3, 5, False)]}
    sampler = make_sampler({**plan, "sources": [("video", 7, 1.0), ("image", 5, 1.0)]})
    assert len(sampler.batch(10**9, 1, 64)) in (3, 5)


def test_a_kind_that_is_not_there_is_an_error():
    plan = {"seed": 0, "stages": [(1, 0.5, 5, 1, 1, False)], "sources": [("video", 3, 1.0)]}
    with pytest.raises(UserError, match="stage 1 has 50% image batches, but no source holds any"):
        make_sampler(plan)
