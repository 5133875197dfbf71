import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data import append
from tgscale.data.append import UNTOLD, UNTOLD_CLASSES, More, append_events
from tgscale.data.store import open_stream, save_stream
from tgscale.data.stream import EventStream, Split

ends = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40)


def stream_of(pairs, nodes, features=True):
    src, dst = np.array(pairs, np.int64).T
    rng = np.random.default_rng(len(pairs))
    return EventStream.from_arrays(
        src,
        dst,
        np.arange(len(pairs)) // 2,
        num_nodes=nodes,
        edge_features=rng.normal(size=(len(pairs), 3)).astype(np.float32) if features else None,
        node_features=rng.normal(size=(nodes, 2)).astype(np.float32) if features else None,
    )


@settings(deadline=None, max_examples=60)
@given(pairs=ends, taken=st.data(), block=st.sampled_from([1, 5, 1000]))
def test_appended_equals_a_stream_made_at_once(tmp_path_factory, pairs, taken, block):
    """Columns and both indices, with base events left out, new nodes, self-loops, repeated pairs, several blocks."""
    whole = stream_of(pairs, nodes=9)
    first = taken.draw(st.integers(1, len(pairs)))
    cut = taken.draw(st.integers(first, len(pairs)))  # the base has events that are not taken, too
    nodes = 1 + max(max(pair) for pair in pairs[:cut])
    base = EventStream.from_arrays(
        whole.src[:cut],
        whole.dst[:cut],
        whole.time[:cut],
        num_nodes=nodes,
        edge_features=whole.edge_features[:cut],
        node_features=whole.node_features[:nodes],
    )
    folder = tmp_path_factory.mktemp("append")
    save_stream(base, folder / "base")
    more = More(whole.src[first:], whole.dst[first:], whole.time[first:], 9, whole.edge_features[first:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(append, "BLOCK_ROWS", block)
        patch.setattr(append, "PIECE_EVENTS", block)
        append_events(open_stream(folder / "base"), first, more, folder / "all", Split(1, 1, len(pairs)))
    made = open_stream(folder / "all", verify=True)
    assert made.num_nodes == 9
    assert made.source_split == Split(1, 1, len(pairs))
    for name in ("src", "dst", "time", "edge_features"):
        np.testing.assert_array_equal(getattr(made, name), getattr(whole, name))
    np.testing.assert_array_equal(made.node_features[:nodes], whole.node_features[:nodes])
    assert not made.node_features[nodes:].any()
    for index in ("tcsr", "pairs"):
        for name, column in vars(getattr(whole, index)).items():
            np.testing.assert_array_equal(getattr(getattr(made, index), name), column, err_msg=f"{index}.{name}")
            assert getattr(getattr(made, index), name).dtype == column.dtype


def test_no_features(tmp_path):
    whole = stream_of([(0, 1), (1, 2), (2, 0), (3, 3)], nodes=4, features=False)
    save_stream(stream_of([(0, 1), (1, 2)], nodes=3, features=False), tmp_path / "base")
    more = More(whole.src[2:], whole.dst[2:], whole.time[2:], 4)
    append_events(open_stream(tmp_path / "base"), 2, more, tmp_path / "all", Split(1, 2, 4))
    made = open_stream(tmp_path / "all")
    assert made.edge_features is None
    np.testing.assert_array_equal(made.tcsr.neighbor, whole.tcsr.neighbor)


@pytest.mark.parametrize("name", ["label", "edge_classes"])
def test_labels_of_the_older_events_stay_with_untold_ones_behind(tmp_path, name):
    base = stream_of([(0, 1), (1, 2), (2, 0)], nodes=3, features=False)
    older = {"label": np.array([1, 0, 1], np.int32), "edge_classes": np.eye(3, 2, dtype=np.uint8)}
    newer = {"label": np.array([UNTOLD, 0], np.int32), "edge_classes": np.full((2, 2), UNTOLD_CLASSES, np.uint8)}
    classes = {column: ("a", "b") for column in older}
    save_stream(dataclasses.replace(base, **older, classes=classes), tmp_path / "base")
    ends = np.array([0, 1])
    more = More(ends, ends, np.array([5, 6]), 3, **{name: newer[name]})
    append_events(open_stream(tmp_path / "base"), 2, more, tmp_path / "all", Split(1, 2, 4))
    made = open_stream(tmp_path / "all")
    np.testing.assert_array_equal(getattr(made, name), np.concatenate([older[name][:2], newer[name]]))
    assert made.classes == {name: ("a", "b")}
    other = {"label": "edge_classes", "edge_classes": "label"}[name]
    assert getattr(made, other) is None
