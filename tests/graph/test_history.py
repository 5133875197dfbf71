import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph import history as history_module
from tgscale.graph import search
from tgscale.graph.firsts import first_events
from tgscale.graph.history import History

from .random_streams import make_stream, needs_cuda, random_queries, streams


def past(stream: EventStream, chosen: np.ndarray, time: int) -> list[int]:
    return np.flatnonzero(chosen & (stream.time < time)).tolist()


def touches(stream: EventStream, u: int) -> np.ndarray:
    return (stream.src == u) | (stream.dst == u)


def joins(stream: EventStream, u: int, v: int) -> np.ndarray:
    return ((stream.src == u) & (stream.dst == v)) | ((stream.src == v) & (stream.dst == u))


def count_and_last(events: list[int]) -> tuple[int, int]:
    return len(events), events[-1] if events else -1


def rows(answer: tuple[torch.Tensor, torch.Tensor]) -> list[tuple[int, int]]:
    return list(zip(answer[0].tolist(), answer[1].tolist(), strict=True))


@settings(max_examples=100, deadline=None)
@given(stream=streams(), seed=st.integers(0, 10_000))
def test_equals_brute_force(stream, seed):
    a, time = random_queries(stream, 15, seed)
    b, _ = random_queries(stream, 15, seed + 1)
    queries = list(zip(a.tolist(), b.tolist(), time.tolist(), strict=True))
    of_node = [past(stream, touches(stream, u), t) for u, _, t in queries]
    of_pair = [past(stream, joins(stream, u, v), t) for u, v, t in queries]
    rng = np.random.default_rng(seed)
    event = [int(rng.choice([-1, *events])) for events in of_node]
    age = [-1 if e < 0 else sum(x > e for x in events) for e, events in zip(event, of_node, strict=True)]
    for backend in ("numba", "tensor"):
        history = History(stream, backend=backend)
        before = history.bound(time)
        assert before.tolist() == [int((stream.time < t).sum()) for t in time.tolist()]
        for given_time, bound in ((time, None), (None, before)):
            assert rows(history.node(a, given_time, before=bound)) == [count_and_last(e) for e in of_node]
            assert rows(history.pair(a, b, given_time, before=bound)) == [count_and_last(e) for e in of_pair]
            assert history.age(a, torch.tensor(event), given_time, before=bound).tolist() == age


def other_end(stream: EventStream, u: int, event: int) -> int:
    return int(stream.dst[event] if stream.src[event] == u else stream.src[event])


def padded(values: list[int], k: int) -> list[int]:
    return (values + [-1] * k)[:k]


@settings(max_examples=60, deadline=None)
@given(stream=streams(), seed=st.integers(0, 10_000), k=st.integers(1, 5))
def test_latest_events_and_first_times_equal_brute_force(stream, seed, k):
    a, time = random_queries(stream, 10, seed)
    b, _ = random_queries(stream, 10, seed + 1)
    queries = list(zip(a.tolist(), b.tolist(), time.tolist(), strict=True))
    of_node = [past(stream, touches(stream, u), t) for u, _, t in queries]
    of_pair = [past(stream, joins(stream, u, v), t) for u, v, t in queries]
    first = [
        [e for e in row if not joins(stream, u, other_end(stream, u, e))[:e].any()]
        for (u, _, _), row in zip(queries, of_node, strict=True)
    ]
    new = [
        [e for e in row if not touches(stream, other_end(stream, u, e))[:e].any()]
        for (u, _, _), row in zip(queries, of_node, strict=True)
    ]
    since = [int(np.random.default_rng(seed).choice([-1, *row])) for row in of_node]
    for backend in ("numba", "tensor"):
        history = History(stream, backend=backend)
        before = history.bound(time)
        count, partner, event = history.recent(a, k, before)
        assert count.tolist() == [len(row) for row in of_node]
        assert event.tolist() == [padded(row[::-1], k) for row in of_node]
        ends = [
            [-1 if e < 0 else other_end(stream, u, e) for e in row]
            for u, row in zip(a.tolist(), event.tolist(), strict=True)
        ]
        assert partner.tolist() == ends
        assert history.meetings(a, b, k, before).tolist() == [padded(row[::-1], k) for row in of_pair]
        for which, expected in ((0, first), (1, new)):
            count, event = history.firsts(which, a, (1, 3), before)
            assert count.tolist() == [len(row) for row in expected]
            assert event.tolist() == [padded(row[::-1], 3)[::2] for row in expected]
        later = [[e for e in row if e > x] for row, x in zip(of_node, since, strict=True)]
        nexts = [other_end(stream, u, row[0]) if row else -1 for (u, _, _), row in zip(queries, later, strict=True)]
        assert history.following(a, torch.tensor(since), before).tolist() == nexts


@pytest.mark.parametrize("piece", [1, 5, 10_000])
def test_first_times_are_found_a_piece_at_a_time(monkeypatch, piece):
    stream = make_stream(nodes=12, events=200, latest=50)
    expected = first_events(make_stream(nodes=12, events=200, latest=50))
    monkeypatch.setattr(search, "PIECE_ROWS", piece)
    for part, whole in zip(first_events(stream), expected, strict=True):
        assert np.array_equal(part.indptr, whole.indptr)
        assert np.array_equal(part.event_id, whole.event_id)


@pytest.mark.parametrize("piece", [1, 5, 10_000])
def test_tensors_of_pairs_are_made_a_piece_at_a_time(monkeypatch, piece):
    stream = make_stream(nodes=12, events=200, latest=50)
    monkeypatch.setattr(search, "PIECE_ROWS", piece)
    history = History(stream, backend="tensor")
    reference = History(stream, backend="numba")
    a, time = random_queries(stream, 300, 0)
    b, _ = random_queries(stream, 300, 1)
    assert rows(history.pair(a, b, time)) == rows(reference.pair(a, b, time))
    assert rows(history.node(a, time)) == rows(reference.node(a, time))


@pytest.mark.parametrize("backend", ["numba", "tensor"])
def test_self_pair_counts_self_loops_and_ties_are_not_past(backend):
    stream = EventStream.from_arrays(np.array([0, 1, 0, 0]), np.array([0, 0, 0, 1]), np.array([1, 2, 5, 5]))
    history = History(stream, backend=backend)
    zero, one = torch.tensor([0, 0]), torch.tensor([1, 1])
    assert rows(history.pair(zero, zero, torch.tensor([5, 6]))) == [(1, 0), (2, 2)]
    assert rows(history.pair(zero, one, torch.tensor([5, 6]))) == [(1, 1), (2, 3)]
    assert rows(history.pair(one, zero, torch.tensor([5, 6]))) == [(1, 1), (2, 3)]
    assert rows(history.node(zero, torch.tensor([5, 6]))) == [(2, 1), (4, 3)]


@pytest.mark.parametrize("backend", ["numba", "tensor"])
def test_no_queries(backend):
    history = History(make_stream(nodes=3, events=5, latest=5), backend=backend)
    none = torch.empty(0, dtype=torch.int64)
    assert history.age(none, none, none).shape == (0,)
    assert all(x.shape == (0,) for x in (*history.node(none, none), *history.pair(none, none, none)))


def test_split_among_threads(monkeypatch):
    stream = make_stream(nodes=20, events=2000, latest=300)
    a, time = random_queries(stream, 301, seed=1)
    b, _ = random_queries(stream, 301, seed=2)
    history = History(stream)
    last = history.node(a, time - 50)[1]
    expected = (*history.node(a, time), *history.pair(a, b, time), history.age(a, last, time))
    for module in (history_module, search):
        monkeypatch.setattr(module, "thread_count", lambda items: 3)
    again = (*history.node(a, time), *history.pair(a, b, time), history.age(a, last, time))
    assert all(torch.equal(x, y) for x, y in zip(expected, again, strict=True))


def test_refuses_bad_queries():
    history = History(make_stream(nodes=3, events=5, latest=5))
    ids, time = torch.tensor([0, 1]), torch.tensor([1, 2])
    with pytest.raises(ConfigError, match="neither time nor before"):
        history.node(ids, None)
    with pytest.raises(ConfigError, match="b has shape"):
        history.pair(ids, ids[:1], time)
    with pytest.raises(ConfigError, match="a runs from 0 to 7"):
        history.pair(torch.tensor([0, 7]), ids, time)
    with pytest.raises(ConfigError, match="event has shape"):
        history.age(ids, ids[:1], time)
    with pytest.raises(ConfigError, match=r"time is torch\.float32"):
        history.node(ids, time.float())
    with pytest.raises(ConfigError, match="unknown backend 'numpy'"):
        History(history.stream, backend="numpy")


@pytest.mark.cuda
@needs_cuda
def test_cuda_equals_cpu():
    stream = make_stream(nodes=20, events=2000, latest=300)
    a, time = random_queries(stream, 300, seed=1)
    b, _ = random_queries(stream, 300, seed=2)
    host, device = History(stream), History(stream, device="cuda")
    last = host.node(a, time - 50)[1]
    expected = (*host.node(a, time), *host.pair(a, b, time), host.age(a, last, time))
    a, b, time, last = (x.cuda() for x in (a, b, time, last))
    torch.cuda.set_sync_debug_mode("error")
    try:
        answers = (*device.node(a, time), *device.pair(a, b, time), device.age(a, last, time))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(x, y.cpu()) for x, y in zip(expected, answers, strict=True))
