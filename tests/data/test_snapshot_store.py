"""The data directory of snapshots: round trip, chunks, what it refuses."""

import itertools
import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.snapshot_store import open_snapshots, save_snapshots, writing_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import fingerprint, kind_of, open_stream, save_stream
from tgscale.data.stream import EventStream
from tgscale.errors import StoreError


def make_sequence(steps=6, nodes=9, edges=80, seed=0, **changes):
    rng = np.random.default_rng(seed)
    given = {
        "num_nodes": nodes,
        "num_steps": steps,
        "edge_weight": rng.random(edges),
        "edge_type": rng.integers(0, 3, edges),
        "edge_label": rng.integers(-5, 5, edges),
        "node_features": rng.normal(size=(steps, nodes, 4)),
        "target": rng.normal(size=(steps, nodes, 2)),
        "target_mean": rng.normal(size=(nodes, 2)),
        "target_std": 2.0,
        "step_time": np.arange(steps) * 60,
        "time_unit": "s",
        "name": "toy",
    }
    columns = (rng.integers(0, size, edges) for size in (steps, nodes, nodes))
    return SnapshotSequence.from_arrays(*columns, **(given | changes))


def assert_same(found, expected):
    for field in fields(SnapshotSequence):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        elif field.name != "path":
            assert a == b, field.name


def test_round_trip_of_everything(tmp_path):
    sequence = make_sequence()
    save_snapshots(sequence, tmp_path / "toy")
    found = open_snapshots(tmp_path / "toy", verify=True)
    assert_same(found, sequence)
    assert found.path == tmp_path / "toy"
    assert isinstance(found.neighbor, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.neighbor[0] = 1


def test_round_trip_of_the_least(tmp_path):
    sequence = SnapshotSequence.from_arrays([], [], [], num_nodes=2, num_steps=3)
    save_snapshots(sequence, tmp_path / "toy")
    assert_same(open_snapshots(tmp_path / "toy", verify=True), sequence)


def test_round_trip_of_a_static_topology(tmp_path):
    sequence = SnapshotSequence.from_arrays(
        [0, 0], [0, 1], [1, 0], graph_of=np.zeros(5, int), node_features=np.ones((2, 3)), undirected=True
    )
    save_snapshots(sequence, tmp_path / "toy")
    assert_same(open_snapshots(tmp_path / "toy"), sequence)


@settings(max_examples=30, deadline=None)
@given(edges=st.integers(0, 60), seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_written_in_chunks_it_is_the_same(tmp_path_factory, edges, seed, cuts):
    sequence = make_sequence(edges=edges, seed=seed)
    graph = np.repeat(np.arange(6), np.diff(sequence.offsets))
    dst = np.concatenate([sequence.edges(t)[1] for t in range(6)])
    borders = [0, *sorted(min(cut, len(dst)) for cut in cuts), len(dst)]
    out = tmp_path_factory.mktemp("chunks") / "toy"
    with writing_snapshots(out) as writer:
        writer.create_edges(6, 9, len(dst), ("edge_weight",))
        for first, last in itertools.pairwise(borders):
            rows = slice(first, last)
            writer.append_edges(graph[rows], dst[rows], sequence.neighbor[rows], edge_weight=sequence.edge_weight[rows])
        writer.finish_edges()
        writer.write("graph_of", sequence.graph_of)
        writer.commit(name="toy", num_relations=1, undirected=False, time_unit="s", source={})
    found = open_snapshots(out, verify=True)
    for name in ("offsets", "indptr", "neighbor", "edge_weight"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sequence, name))


def test_kinds_are_told_apart(tmp_path):
    save_snapshots(make_sequence(), tmp_path / "snapshots")
    save_stream(EventStream.from_arrays([0, 1], [1, 0], [3, 4]), tmp_path / "stream")
    assert kind_of(tmp_path / "snapshots") == "snapshots"
    assert kind_of(tmp_path / "stream") == "stream"
    with pytest.raises(StoreError, match="holds a snapshot sequence, an event stream is expected"):
        open_stream(tmp_path / "snapshots")
    with pytest.raises(StoreError, match=r"holds an event stream, a snapshot sequence is expected.*--every 1d"):
        open_snapshots(tmp_path / "stream")
    with pytest.raises(StoreError, match="not a tgscale data directory"):
        kind_of(tmp_path / "none")


def test_a_stream_written_before_there_were_kinds_is_a_stream(tmp_path):
    save_stream(EventStream.from_arrays([0, 1], [1, 0], [3, 4]), tmp_path / "old")
    meta = json.loads((tmp_path / "old" / "meta.json").read_text())
    del meta["kind"]
    (tmp_path / "old" / "meta.json").write_text(json.dumps(meta))
    assert kind_of(tmp_path / "old") == "stream"
    assert open_stream(tmp_path / "old").num_events == 2


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_snapshots(make_sequence(seed=seed), tmp_path / name)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") != fingerprint(tmp_path / "c")


def test_target_that_exists_is_refused_and_replaced_on_request(tmp_path):
    save_snapshots(make_sequence(name="old"), tmp_path / "toy")
    with pytest.raises(StoreError, match=r"already exists.*--overwrite"):
        save_snapshots(make_sequence(name="new"), tmp_path / "toy")
    save_snapshots(make_sequence(name="new"), tmp_path / "toy", overwrite=True)
    assert open_snapshots(tmp_path / "toy").name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "toy"
    save_snapshots(make_sequence(), path)
    column = np.load(path / "neighbor.npy")
    np.save(path / "neighbor.npy", (column + 1) % 9)
    open_snapshots(path)
    with pytest.raises(StoreError, match=r"neighbor\.npy does not match its SHA-256"):
        open_snapshots(path, verify=True)
    np.save(path / "neighbor.npy", column[:-1])
    with pytest.raises(StoreError, match=r"neighbor\.npy has .* bytes"):
        open_snapshots(path)


def test_columns_that_do_not_fit_one_another(tmp_path):
    path = tmp_path / "toy"
    save_snapshots(make_sequence(target_mean=None, target_std=None), path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"steps": 7}))
    with pytest.raises(StoreError, match="column graph_of has 6 rows, 7 expected"):
        open_snapshots(path)
    (path / "meta.json").write_text(json.dumps(meta | {"nodes": 8}))
    with pytest.raises(StoreError, match="do not fit one another"):
        open_snapshots(path)
    del meta["undirected"]
    (path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(StoreError, match=r"lacks \['undirected'\]"):
        open_snapshots(path)
