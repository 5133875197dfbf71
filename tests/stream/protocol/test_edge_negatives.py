"""Historical and inductive edges, against sets that are built as DyGLib builds them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.stream.protocol.edge_negatives import EdgeNegatives
from tgscale.stream.protocol.first_meetings import FirstMeetings


def random_stream(seed, events=120, sources=6, destinations=7, times=40) -> EventStream:
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, sources, events), sources + rng.integers(0, destinations, events)
    return EventStream.from_arrays(src, dst, np.sort(rng.integers(0, times, events)), num_nodes=sources + destinations)


def pairs(stream, low, high):
    """Distinct pairs of the events with ``low <= time <= high``."""
    inside = (stream.time >= low) & (stream.time <= high)
    return set(zip(stream.src[inside].tolist(), stream.dst[inside].tolist(), strict=True))


def reference_pool(stream, kind, part_start, start, stop):
    """The set that DyGLib samples from."""
    begin, end = stream.time[start], stream.time[stop - 1]
    pool = pairs(stream, stream.time[0], begin) - pairs(stream, begin, end)
    return pool - pairs(stream, stream.time[0], stream.time[part_start - 1]) if kind == "inductive" else pool


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["historical", "inductive"]), st.integers(1, 25), st.integers(2, 60))
def test_draws_are_from_the_pool_and_fill_up_as_in_dyglib(seed, kind, size, times):
    stream = random_stream(seed, times=times)
    part_start, start = 70, 70 + seed % 20
    stop = min(start + size, stream.num_events)
    negatives = EdgeNegatives(stream, FirstMeetings(stream), kind, part_start, seed=3)
    drawn = negatives.draw(torch.arange(start, stop))
    assert drawn.node.shape == drawn.source.shape == (stop - start, 1)
    edges = list(zip(drawn.source[:, 0].tolist(), drawn.node[:, 0].tolist(), strict=True))
    pool = reference_pool(stream, kind, part_start, start, stop)
    number = stop - start
    if number <= len(pool):
        assert len(set(edges)) == number
        assert set(edges) <= pool
        return
    filled, known = edges[: number - len(pool)], edges[number - len(pool) :]
    assert set(known) == pool
    batch = set(zip(stream.src[start:stop].tolist(), stream.dst[start:stop].tolist(), strict=True))
    grid = {(s, d) for s in set(stream.src.tolist()) for d in set(stream.dst.tolist())} - batch
    assert set(filled) <= grid
    if len(filled) <= len(grid):  # otherwise with replacement, as there
        assert len(set(filled)) == len(filled)


def test_draws_depend_on_seed_and_batch_alone():
    stream, event = random_stream(1), torch.arange(90, 110)

    def draw(seed, event=event):
        drawn = EdgeNegatives(stream, FirstMeetings(stream), "historical", 80, seed).draw(event)
        return torch.stack([drawn.source, drawn.node])

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert not torch.equal(draw(0)[:, :10], draw(0, event[:10]))  # another batch is another draw, as there


def test_every_edge_of_the_pool_is_drawn_equally_often():
    stream = random_stream(4, times=400)
    meetings = FirstMeetings(stream)
    pool = reference_pool(stream, "historical", 80, 90, 95)
    seen = dict.fromkeys(pool, 0)
    for seed in range(600):
        drawn = EdgeNegatives(stream, meetings, "historical", 80, seed).draw(torch.arange(90, 95))
        for edge in zip(drawn.source[:, 0].tolist(), drawn.node[:, 0].tolist(), strict=True):
            seen[edge] += 1
    expected = 600 * 5 / len(pool)
    assert len(pool) > 20
    assert all(abs(count - expected) < 5 * expected**0.5 for count in seen.values())


def test_a_batch_that_holds_every_pair_is_still_answered():
    stream = EventStream.from_arrays(np.zeros(6, int), np.ones(6, int), np.arange(6), num_nodes=2)
    drawn = EdgeNegatives(stream, FirstMeetings(stream), "historical", 3, 0).draw(torch.arange(3, 6))
    assert drawn.node.tolist() == [[1], [1], [1]]


def test_too_few_pairs_are_repeated():
    """Where even all pairs but the batch's are fewer than wanted, DyGLib draws with replacement."""
    src, dst = np.array([0, 0, 0, 0, 0, 0]), np.array([1, 2, 1, 1, 1, 1])
    stream = EventStream.from_arrays(src, dst, np.arange(6), num_nodes=3)
    drawn = EdgeNegatives(stream, FirstMeetings(stream), "inductive", 2, 0).draw(torch.arange(2, 6))
    assert drawn.node.flatten().tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["historical", "inductive"])
def test_description(kind):
    stream = random_stream(0)
    told = EdgeNegatives(stream, FirstMeetings(stream), kind, 80, 0).describe()
    assert told["draw"] == kind
    assert told["population_size"] == len(pairs(stream, 0, 10**9))
