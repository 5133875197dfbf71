"""Snapshots written and read back are the same; what a format cannot hold is said."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgscale.data.export.snapshots import export_snapshots
from tgscale.data.ingest import import_events
from tgscale.data.snapshot_ingest import import_snapshots
from tgscale.data.snapshot_pgt import import_pgt
from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError, StoreError

COLUMNS = ("offsets", "indptr", "neighbor", "graph_of", "edge_weight", "edge_type", "edge_label")
QUICK = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ids_of_nodes():
    numbers = st.lists(st.integers(0, 10**9) | st.integers(0, 12), min_size=2, max_size=6, unique=True)
    return numbers | numbers.map(lambda ids: [f"n{i}" for i in ids])


@st.composite
def sources(draw):
    """Rows with self-loops, several edges of a pair, empty steps between others, and ids of text or with gaps; or with
    sources and destinations that have ids of their own, of one kind or two."""
    count, bipartite = draw(st.integers(1, 20)), draw(st.booleans())
    ids = draw(ids_of_nodes())
    sides = {"src": ids, "dst": draw(st.just(ids) | ids_of_nodes()) if bipartite else ids}
    table = {side: draw(st.lists(st.sampled_from(ids), min_size=count, max_size=count)) for side, ids in sides.items()}
    table["step"] = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    if draw(st.booleans()):
        table["weight"] = draw(st.lists(st.floats(-100, 100, width=32), min_size=count, max_size=count))
    if draw(st.booleans()):
        table["kind"] = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    if draw(st.booleans()):
        table["label"] = draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count))
    return table, {"undirected": draw(st.booleans()), "bipartite": bipartite}


@pytest.mark.parametrize("format", ["csv", "parquet"])
@QUICK
@given(sources())
def test_rows_come_back(tmp_path, format, source):
    table, options = source
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    options |= {"edge_type": "kind"} if "kind" in table else {}
    import_snapshots(tmp_path / "rows.parquet", tmp_path / "store", snapshots="step", overwrite=True, **options)
    report = export_snapshots(tmp_path / "store", tmp_path / "out", format=format, overwrite=True)
    import_snapshots(tmp_path / "out", tmp_path / "back", overwrite=True, **report.reading)
    before, after = open_snapshots(tmp_path / "store"), open_snapshots(tmp_path / "back")
    for name in COLUMNS:
        one, other = getattr(before, name), getattr(after, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert (before.num_nodes, before.undirected) == (after.num_nodes, after.undirected)
    assert report.lost == []


def edges_by_id(path):
    """Edges of each step, by the ids of the source."""
    sequence, ids = open_snapshots(path), pq.read_table(path / "node_ids.parquet")["id"].to_pylist()
    return [sorted((ids[u], ids[v]) for u, v in zip(*sequence.edges(t), strict=True)) for t in range(2)]


@pytest.mark.parametrize("through", ["snapshots", "events"])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_ids_on_both_sides_come_back_as_two_nodes(tmp_path, through, format):
    (tmp_path / "e.csv").write_text("src,dst,time\na,a,0\nb,a,0\na,b,1\nc,c,1\n")
    if through == "snapshots":
        import_snapshots(tmp_path / "e.csv", tmp_path / "store", snapshots="time", bipartite=True)
    else:
        import_events(tmp_path / "e.csv", tmp_path / "stream", bipartite=True)
        import_snapshots(tmp_path / "stream", tmp_path / "store", every=1)
    report = export_snapshots(tmp_path / "store", tmp_path / "out", format=format)
    assert report.reading["bipartite"]
    import_snapshots(tmp_path / "out", tmp_path / "back", **report.reading)
    before, after = open_snapshots(tmp_path / "store"), open_snapshots(tmp_path / "back")
    assert before.num_nodes == after.num_nodes == 6
    for name in ("offsets", "indptr", "neighbor"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)
    for name in ("store", "back"):
        assert edges_by_id(tmp_path / name) == [[("a", "a"), ("b", "a")], [("a", "b"), ("c", "c")]]


@pytest.mark.parametrize(
    ("ids", "features", "message"),
    [
        (["a", "b", "a"], False, "several nodes have the same one, and the sides .* do not tell them apart"),
        (["a", "a", "b"], False, "do not tell them apart"),
        (["a", "b", "a"], True, "the node features do not go into a table beside this one"),
        (["b", "b", "a"], True, "do not tell them apart"),
    ],
)
def test_nodes_of_one_id_that_a_table_cannot_tell_apart(tmp_path, ids, features, message):
    """Nodes 0 and 1 are sources of node 2; without features, node 1 is a destination of node 0, too."""
    src, dst = ([0, 1], [2, 2]) if features else ([0, 1], [1, 2])
    more = {"node_features": np.zeros((3, 1), np.float32)} if features else {}
    save_snapshots(SnapshotSequence.from_arrays([0, 1], src, dst, **more), tmp_path / "store")
    if features:  # of a source with two sides
        meta = json.loads((tmp_path / "store" / "meta.json").read_text())
        (tmp_path / "store" / "meta.json").write_text(json.dumps(meta | {"num_sources": 2}))
    pq.write_table(pa.table({"node": [0, 1, 2], "id": ids}), tmp_path / "store" / "node_ids.parquet")
    with pytest.raises(DataError, match=message):
        export_snapshots(tmp_path / "store", tmp_path / "x.csv", format="csv")
    assert not (tmp_path / "x.csv").exists()


def test_an_id_of_empty_text_goes_into_parquet_alone(tmp_path):
    pq.write_table(pa.table({"src": ["", "b"], "dst": ["b", "c"], "step": [0, 1]}), tmp_path / "rows.parquet")
    import_snapshots(tmp_path / "rows.parquet", tmp_path / "store", snapshots="step")
    with pytest.raises(DataError, match=r"empty text, .* use parquet"):
        export_snapshots(tmp_path / "store", tmp_path / "x.csv", format="csv")
    report = export_snapshots(tmp_path / "store", tmp_path / "x.parquet", format="parquet")
    import_snapshots(tmp_path / "x.parquet", tmp_path / "back", **report.reading)
    assert edges_by_id(tmp_path / "back") == [[("", "b")], [("b", "c")]]


def lagged(graphs, scaled, lags=3, steps=6, nodes=4):
    """A sequence whose features are the last values of a series."""
    generator = np.random.default_rng(1)
    series = generator.normal(size=(steps + lags, nodes)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, lags, axis=0)
    edges = [(g, s, (s + g + 1) % nodes) for g in range(graphs) for s in range(nodes)]
    step, src, dst = np.array(edges).T
    more = {"target_mean": 2.0, "target_std": 3.0} if scaled else {}
    return SnapshotSequence.from_arrays(
        step, src, dst,
        graph_of=np.zeros(steps, np.int64) if graphs == 1 else np.arange(steps),
        edge_weight=generator.random(len(step)),
        node_features=windows[:-1], target=series[lags:], **more,
    )  # fmt: skip


@pytest.mark.parametrize(("graphs", "scaled"), [(1, False), (1, True), (6, True)])
def test_pgt_comes_back(tmp_path, graphs, scaled):
    """Graphs and values in their own units; its readers scale a series by its own mean and deviation."""
    before = lagged(graphs, scaled)
    save_snapshots(before, tmp_path / "store")
    report = export_snapshots(tmp_path / "store", tmp_path / "x.json", format="pgt")
    options = {name: value for name, value in report.reading.items() if name != "format"}
    import_pgt(tmp_path / "x.json", tmp_path / "back", **options)
    after = open_snapshots(tmp_path / "back")
    for name in ("offsets", "indptr", "neighbor", "graph_of", "edge_weight"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)
    units = [s.target if s.target_std is None else s.target * s.target_std + s.target_mean for s in (before, after)]
    np.testing.assert_allclose(*units, rtol=1e-5, atol=1e-5)
    if not scaled:
        np.testing.assert_array_equal(before.node_features, after.node_features)
    assert report.lost == []


def test_pgt_refuses_what_is_no_lagged_series(tmp_path):
    save_snapshots(SnapshotSequence.from_arrays([0, 1], [0, 1], [1, 2]), tmp_path / "none")
    with pytest.raises(DataError, match="this sequence has none"):
        export_snapshots(tmp_path / "none", tmp_path / "x.json", format="pgt")
    sequence = lagged(6, False)
    features = np.array(sequence.node_features)
    features[3] += 1
    changed = SnapshotSequence.from_arrays([0], [0], [1], node_features=features, target=sequence.target)
    save_snapshots(changed, tmp_path / "changed")
    with pytest.raises(DataError, match="features of step 3 are not the 3 values before it"):
        export_snapshots(tmp_path / "changed", tmp_path / "x.json", format="pgt")
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("name", ["england_covid", "chickenpox", "pedalme_london", "montevideo_bus"])
def test_real_files_of_pgt_come_back(tmp_path, name, shared_data):
    """Export of what was imported has the series and the graphs of the original file."""
    import_pgt(shared_data(f"pgt/{name}.json.xz"), tmp_path / "store")
    report = export_snapshots(tmp_path / "store", tmp_path / "x.json", format="pgt")
    import_pgt(tmp_path / "x.json", tmp_path / "back", lags=report.reading["lags"])
    before, after = open_snapshots(tmp_path / "store"), open_snapshots(tmp_path / "back")
    for column in ("offsets", "indptr", "neighbor", "graph_of", "edge_weight"):
        np.testing.assert_array_equal(getattr(before, column), getattr(after, column), err_msg=column)
    np.testing.assert_allclose(before.node_features, after.node_features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(before.target, after.target, rtol=1e-4, atol=1e-4)


def test_a_real_sequence_with_other_features_is_refused(tmp_path, shared_data):
    import_pgt(shared_data("pgt/twitter_tennis_rg17.json.xz"), tmp_path / "store")
    with pytest.raises(DataError, match="features of step 1 are not the 16 values before it"):
        export_snapshots(tmp_path / "store", tmp_path / "x.json", format="pgt")
    report = export_snapshots(tmp_path / "store", tmp_path / "x.csv.gz", format="csv")
    import_snapshots(tmp_path / "x.csv.gz", tmp_path / "back", **report.reading)
    before, after = open_snapshots(tmp_path / "store"), open_snapshots(tmp_path / "back")
    assert (before.num_steps, before.num_edges) == (after.num_steps, after.num_edges)
    for step in (0, before.num_steps - 1):
        np.testing.assert_array_equal(
            before.edge_weight[before.edge_rows(step)].sum(), after.edge_weight[after.edge_rows(step)].sum()
        )


def test_what_rows_do_not_hold_is_said(tmp_path):
    save_snapshots(lagged(1, False), tmp_path / "store")
    report = export_snapshots(tmp_path / "store", tmp_path / "x.csv", format="csv")
    assert report.lost == [
        "node features of each step", "what there is to predict", "that all steps show the same graph",
    ]  # fmt: skip
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 1 + 6 * 4


def test_constant_node_features_lie_beside_the_rows(tmp_path):
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    save_snapshots(SnapshotSequence.from_arrays([0, 1], [0, 1], [1, 2], node_features=features), tmp_path / "store")
    report = export_snapshots(tmp_path / "store", tmp_path / "x.parquet", format="parquet")
    import_snapshots(tmp_path / "x.parquet", tmp_path / "back", **report.reading)
    np.testing.assert_array_equal(open_snapshots(tmp_path / "back").node_features, features)


def test_json_is_plain(tmp_path):
    save_snapshots(lagged(6, True), tmp_path / "store")
    export_snapshots(tmp_path / "store", tmp_path / "x.json", format="pgt")
    content = json.loads((tmp_path / "x.json").read_text())
    assert sorted(content) == ["edge_mapping", "time_periods", "y"]
    assert sorted(content["edge_mapping"]["edge_index"]) == list("012345")


def test_formats_of_events_are_not_for_snapshots(tmp_path):
    save_snapshots(lagged(1, False), tmp_path / "store")
    with pytest.raises(ConfigError, match="choose csv, parquet, pgt"):
        export_snapshots(tmp_path / "store", tmp_path / "x", format="tgl")
    with pytest.raises(StoreError):
        export_snapshots(tmp_path / "nowhere", tmp_path / "x", format="csv")
