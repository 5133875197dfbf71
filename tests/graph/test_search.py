import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.graph import search
from tgscale.graph.search import event_bound, index_tensors, lower_bound, lower_bound_near

from .random_streams import make_stream, streams

sorted_lists = st.lists(st.integers(0, 12), max_size=40).map(sorted)


@settings(deadline=None)
@given(values=sorted_lists, x=st.integers(-1, 14), data=st.data())
def test_lower_bounds_equal_searchsorted(values, x, data):
    values = np.array(values, np.int64)
    first = data.draw(st.integers(0, len(values)))
    end = data.draw(st.integers(first, len(values)))
    expected = first + np.searchsorted(values[first:end], x)
    assert lower_bound(values, x, first, end) == expected
    for near in range(first, end + 1):
        assert lower_bound_near(values, x, first, end, near) == expected


@settings(deadline=None)
@given(time=sorted_lists.filter(len), query=st.lists(st.integers(-2, 15), max_size=10), data=st.data())
def test_event_bound_equals_searchsorted_whatever_the_hint(time, query, data):
    time, query = np.array(time, np.int64), np.array(query, np.int64)
    expected = np.searchsorted(time, query)
    near = data.draw(st.lists(st.integers(-1, len(time) - 1), min_size=len(query), max_size=len(query)))
    np.testing.assert_array_equal(event_bound(time, query), expected)
    np.testing.assert_array_equal(event_bound(time, query, np.array(near, np.int64)), expected)


def test_event_bound_split_among_threads(monkeypatch):
    rng = np.random.default_rng(0)
    time, query = np.sort(rng.integers(0, 300, 1000)), rng.integers(-5, 310, 501)
    monkeypatch.setattr(search, "thread_count", lambda items: 4)
    np.testing.assert_array_equal(event_bound(time, query), np.searchsorted(time, query))


@settings(deadline=None)
@given(stream=streams())
def test_key_is_increasing_and_finds_each_segment(stream):
    index = index_tensors(stream, torch.device("cpu"))
    assert (index.key[1:] > index.key[:-1]).all()
    node = torch.arange(stream.num_nodes)
    assert torch.equal(index.place(node, torch.zeros_like(node)), index.indptr[:-1])
    assert torch.equal(index.place(node, torch.full_like(node, stream.num_events)), index.indptr[1:])


def test_index_is_shared_and_goes_with_its_stream():
    stream = make_stream(nodes=3, events=10, latest=5)
    assert index_tensors(stream, torch.device("cpu")) is index_tensors(stream, torch.device("cpu"))
    kept = len(search._index_tensors)
    del stream
    assert len(search._index_tensors) == kept - 1
