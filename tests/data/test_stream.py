import numpy as np
import pytest

from tgscale.data import stream as stream_module
from tgscale.data.stream import EventStream, Split, mark_nodes
from tgscale.errors import ConfigError, DataError


def small(**options) -> EventStream:
    return EventStream.from_arrays(np.array([3, 0, 1]), np.array([1, 2, 1]), np.array([5, 2, 5]), **options)


def test_events_are_sorted_by_time_and_ties_keep_their_order():
    stream = small(label=np.array([7, 8, 9]), edge_features=np.array([[1.0], [2.0], [3.0]]))
    assert stream.time.tolist() == [2, 5, 5]
    assert stream.src.tolist() == [0, 3, 1]
    assert stream.dst.tolist() == [2, 1, 1]
    assert stream.label is not None
    assert stream.label.tolist() == [8, 7, 9]
    assert stream.edge_features is not None
    assert stream.edge_features.tolist() == [[2.0], [1.0], [3.0]]
    assert (stream.num_events, stream.num_nodes, stream.edge_dim, stream.node_dim) == (3, 4, 1, 0)
    assert stream.time.dtype == np.int64


def test_indices_are_built_on_demand():
    stream = small()
    assert stream.tcsr.event_id.tolist() == [0, 1, 2, 0, 1]
    assert stream.pairs.partner.tolist() == [2, 1, 3]
    assert stream.destinations.tolist() == [1, 2]


def test_split_by_time():
    stream = EventStream.from_arrays(np.arange(100) % 7, np.arange(100) % 5, np.arange(100))
    split = stream.split()
    assert split == Split(train=70, val=85, test=100)
    assert [split.range(part) for part in ("train", "val", "test")] == [(0, 70), (70, 85), (85, 100)]
    assert stream.split(val=0.1, test=0.3) == Split(train=60, val=70, test=100)


def test_nodes_are_marked_a_piece_at_a_time(monkeypatch):
    monkeypatch.setattr(stream_module, "MARK_EVENTS", 3)
    seen = mark_nodes(9, np.array([1, 1, 2, 5, 1, 1, 8], np.int32), np.array([], np.int32), np.array([4]))
    assert np.flatnonzero(seen).tolist() == [1, 2, 4, 5, 8]


def test_new_nodes_are_those_without_a_training_event():
    stream = small(num_nodes=5)
    assert stream.new_nodes(Split(train=1, val=2, test=3)).tolist() == [False, True, False, True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"src": [], "dst": [], "time": []}, "no events"),
        ({"dst": [1, 2]}, "dst has 2 rows, src has 3"),
        ({"src": ["a", "b", "c"]}, "src is <U1: number the nodes first"),
        ({"time": [0.5, 1.0, 2.0]}, "time is float64"),
        ({"time": [3, -1, 2]}, "time is negative at row 1"),
        ({"src": [0, -1, 2]}, "found -1"),
        ({"num_nodes": 2}, r"must lie in \[0, 2\)"),
        ({"node_features": np.zeros((2, 3))}, "node_features has 2 rows for 3 nodes"),
        ({"edge_features": np.array([[0.0], [np.nan], [1.0]])}, "edge_features .* row 1"),
        ({"label": np.array([1])}, "label has 1 rows"),
    ],
)
def test_refuses_bad_columns(change, message):
    columns = {"src": [0, 1, 2], "dst": [1, 2, 0], "time": [0, 1, 2]} | change
    ends = {name: np.array(columns.pop(name)) for name in ("src", "dst", "time")}
    with pytest.raises(DataError, match=message):
        EventStream.from_arrays(**ends, **columns)


def test_parts_that_cannot_be_are_refused():
    stream = EventStream.from_arrays([0, 1], [1, 0], [0, 1])
    for val, test in ((0.6, 0.6), (0, 0.1), (0.1, float("nan"))):
        with pytest.raises(ConfigError, match="must both be above 0 and leave something to train on"):
            stream.split(val, test)
    with pytest.raises(ConfigError, match="part 'valid' is unknown: choose train, val or test"):
        stream.split().range("valid")


def test_a_stream_in_words():
    stream = EventStream.from_arrays([0, 1], [1, 0], [0, 1], edge_features=np.zeros((2, 3)), name="mine")
    assert repr(stream) == "EventStream('mine': 2 events, 2 nodes, 3 edge features)"
