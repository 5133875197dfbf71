from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.generate import generate_stream
from tgscale.data.store import open_stream, save_stream
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.stream.captured import CapturedCurve, captured_curve


def make_stream(src, dst, num_nodes=None) -> EventStream:
    return EventStream.from_arrays(np.array(src), np.array(dst), np.arange(len(src)), num_nodes=num_nodes)


def reference(stream: EventStream, events: int, size: int) -> tuple[int, int, int, int, int]:
    """Incidences and survivors, number of busy nodes, their incidences and survivors; by sets."""
    incidences = {(int(n), e) for e in range(events) for n in (stream.src[e], stream.dst[e])}
    survivors = {(node, event // size) for node, event in incidences}
    degree = Counter(node for node, _ in incidences)
    ranked = sorted(degree, key=lambda node: (-degree[node], node))
    busy = set(ranked[: -(-len(ranked) // 100)])
    counts = [sum(node in busy for node, _ in pairs) for pairs in (incidences, survivors)]
    return len(incidences), len(survivors), len(busy), *counts


@st.composite
def cut_streams(draw):
    """A stream with repeats, self-loops and unused nodes, and how many of its events to count."""
    nodes, events = draw(st.sampled_from([1, 3, 12, 250])), draw(st.integers(1, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    skewed = (nodes * rng.random((2, events)) ** draw(st.sampled_from([1, 3]))).astype(int)
    return make_stream(*skewed, num_nodes=nodes + draw(st.integers(0, 2))), draw(st.integers(1, events))


@settings(deadline=None)
@given(cut_streams(), st.lists(st.integers(1, 500), min_size=1, max_size=6))
def test_counts_are_those_of_sets(cut, sizes):
    stream, events = cut
    curve = captured_curve(stream, events, sizes)
    assert curve.batch_sizes == tuple(sorted(set(sizes)))
    for at, size in enumerate(curve.batch_sizes):
        got = (curve.incidences, curve.survivors[at], curve.busy_nodes, curve.busy_incidences, curve.busy_survivors[at])
        assert got == reference(stream, events, size)
        assert 0 <= curve.missing[at] < 1
        assert 0 <= curve.missing_busy[at] < 1


@settings(deadline=None)
@given(cut_streams())
def test_nothing_is_missed_one_event_at_a_time_and_all_but_one_in_one_batch(cut):
    stream, events = cut
    curve = captured_curve(stream, events, [1, events])
    assert curve.missing[0] == curve.missing_busy[0] == 0
    assert curve.survivors[-1] == len(np.unique([stream.src[:events], stream.dst[:events]]))


@settings(deadline=None)
@given(cut_streams(), st.integers(1, 20), st.integers(2, 20))
def test_a_multiple_of_a_batch_size_never_captures_more(cut, size, times):
    curve = captured_curve(*cut, [size, size * times])
    assert curve.survivors[1] <= curve.survivors[0]


def test_by_hand():
    # batches of 2: [0-1 0-2] [0-3 0-0] [1-2]: node 0 loses an event twice
    curve = captured_curve(make_stream([0, 0, 0, 0, 1, 3], [1, 2, 3, 0, 2, 3]), 5, [2])
    assert (curve.incidences, curve.survivors) == (9, (7,))
    assert (curve.busy_nodes, curve.busy_incidences, curve.busy_survivors) == (1, 4, (2,))
    assert curve.missing == (pytest.approx(2 / 9),)
    assert curve.missing_busy == (0.5,)


def test_of_equally_busy_nodes_the_lower_ids_count():
    nodes = np.arange(202)
    assert captured_curve(make_stream(nodes, np.roll(nodes, 1)), 202, [202]).busy_nodes == 3  # 1 %, rounded up
    # Nodes 0 and 1 have two events each: first those of 0 share a batch of 3, then those of 1 do.
    assert captured_curve(make_stream([0, 0, 1, 1], [2, 3, 4, 5]), 4, [3]).busy_survivors == (1,)
    assert captured_curve(make_stream([0, 1, 1, 0], [2, 3, 4, 5]), 4, [3]).busy_survivors == (2,)


def test_the_curve_may_dip_and_a_lucky_size_is_not_taken():
    # Node 0 has events 3 and 4: batches of 2 and 4 put a border between them, batches of 3 do not.
    stream = make_stream([1, 2, 3, 0, 0, 4], [11, 12, 13, 14, 15, 16])
    curve = captured_curve(stream, 6, [1, 2, 3, 4])
    assert [missing > 0 for missing in curve.missing] == [False, False, True, False]
    assert curve.largest(0.0, 1.0) == 2
    assert curve.largest(1.0, 1.0) == 4


def test_both_limits_hold_and_none_may_be_met():
    curve = CapturedCurve((10, 20, 30), 100, (90, 80, 70), 1, 10, (8, 7, 3))
    assert curve.largest(0.5, 0.5) == 20
    assert curve.largest(0.15, 0.5) == 10
    assert curve.largest(0.05, 1.0) is None


def test_a_stored_stream_counts_the_same(tmp_path):
    stream = generate_stream(events=2_000, nodes=100, edge_features=0)
    save_stream(stream, tmp_path / "data")
    sizes = [10, 100, 1000]
    assert captured_curve(open_stream(tmp_path / "data"), 1_400, sizes) == captured_curve(stream, 1_400, sizes)


@pytest.mark.parametrize(
    ("events", "sizes", "words"), [(0, [1], "give 1 to 1"), (1, [], "at least one"), (1, [0], "1")]
)
def test_mistakes_are_answered(events, sizes, words):
    with pytest.raises(ConfigError, match=words):
        captured_curve(make_stream([0], [1]), events, sizes)
