"""What is written in a format and read back is the same stream; and it is what the format's own loaders expect."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgscale.data.export import WRITERS, export_events
from tgscale.data.export.outgoing import PARTS, Outgoing
from tgscale.data.formats import FORMATS
from tgscale.data.ingest import import_events
from tgscale.data.store import OPTIONAL, open_stream, save_stream
from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError, DataError, StoreError

ID_TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=6)


@st.composite
def tables(draw, two_sides=False, text=None):
    """Source rows: self-loops, ties, several edges of a pair, ids with gaps or of text, features, labels, a split."""
    events = draw(st.integers(1, 25))
    text = draw(st.booleans()) if text is None else text
    known = draw(st.lists(ID_TEXT if text else st.integers(0, 10**12), min_size=2, max_size=8, unique=True))
    half = len(known) // 2
    sides = (known[:half], known[half:]) if two_sides else (known, known)
    table = {
        side: draw(st.lists(st.sampled_from(ids), min_size=events, max_size=events))
        for side, ids in zip(("src", "dst"), sides, strict=True)
    }
    table["time"] = sorted(draw(st.lists(st.integers(0, 30) | st.integers(0, 2**53), min_size=events, max_size=events)))
    if draw(st.booleans()):
        table["label"] = draw(st.lists(st.integers(-5, 2**40), min_size=events, max_size=events))
    for i in range(draw(st.sampled_from([0, 0, 1, 3]))):
        finite = st.floats(-(2.0**100), 2.0**100, width=32)
        table[f"f{i}"] = draw(st.lists(finite, min_size=events, max_size=events))
    if draw(st.booleans()):
        table["split"] = sorted(draw(st.lists(st.integers(0, 2), min_size=events, max_size=events)))
    nodes = None
    if draw(st.booleans()):
        ids = sorted({*table["src"], *table["dst"]})
        nodes = {"id": ids, "a": [i / 3 for i in range(len(ids))], "b": [float(-i) for i in range(len(ids))]}
    return table, nodes


def make_store(folder, table, nodes=None, **options):
    pq.write_table(pa.table(table), folder / "source.parquet")
    if nodes is not None:
        pq.write_table(pa.table(nodes), folder / "source_nodes.parquet")
        options["node_features"] = folder / "source_nodes.parquet"
    if any(name.startswith("f") for name in table):
        options["edge_features"] = "f*"
    if "split" in table:
        options["split"] = "split"
    import_events(folder / "source.parquet", folder / "store", overwrite=True, **options)
    return folder / "store"


def ids_of(path):
    file = path / "node_ids.parquet"
    return pq.read_table(file).column("id").to_pylist() if file.exists() else None


def same(a, b, parts):
    for name in ("src", "dst", "time", *parts):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)


def round_trip(folder, store, format):
    """Export, import by the options that the report names, and both streams."""
    out = folder / f"out_{format}"
    report = export_events(store, out, format=format, overwrite=True)
    import_events(out, folder / "back", overwrite=True, **report.reading)
    return report, open_stream(store), open_stream(folder / "back")


FEW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=60)
ARRAYS = ("label", "edge_features", "node_features")


def check_round_trip(folder, format, source):
    store = make_store(folder, *source)
    report, before, after = round_trip(folder, store, format)
    carries = WRITERS[format].carries
    same(before, after, [part for part in ARRAYS if part in carries])
    assert after.num_nodes == before.num_nodes
    if "split" in carries and before.source_split is not None:
        assert after.source_split == before.source_split
    if format in ("csv", "parquet"):
        assert ids_of(folder / "back") == ids_of(store)
    has = Outgoing.open(store).parts
    assert set(report.lost) == {PARTS[part] for part in has - carries}


def check_round_trip_of_two_sides(folder, format, source):
    store = make_store(folder, *source, bipartite=True)
    _, before, after = round_trip(folder, store, format)
    same(before, after, [part for part in ARRAYS if part in WRITERS[format].carries])
    assert (after.num_nodes, after.num_sources) == (before.num_nodes, before.num_sources)


ONE_SIDE = sorted(set(WRITERS) - {"jodie", "tgb-csv"})


@pytest.mark.parametrize("format", ONE_SIDE)
@FEW
@given(tables())
def test_round_trip(tmp_path, format, source):
    check_round_trip(tmp_path, format, source)


@pytest.mark.parametrize("format", sorted(WRITERS))
@FEW
@given(tables(two_sides=True))
def test_round_trip_of_two_sides(tmp_path, format, source):
    check_round_trip_of_two_sides(tmp_path, format, source)


@pytest.mark.slow
@pytest.mark.parametrize("format", ONE_SIDE)
@MANY
@given(tables())
def test_round_trip_of_many(tmp_path, format, source):
    check_round_trip(tmp_path, format, source)


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(WRITERS))
@MANY
@given(tables(two_sides=True))
def test_round_trip_of_many_of_two_sides(tmp_path, format, source):
    check_round_trip_of_two_sides(tmp_path, format, source)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_classes_and_finer_times(tmp_path, format):
    """Names of classes, several classes per event, classes of nodes and milliseconds come back."""
    table = {"src": ["a", "b", "b"], "dst": ["b", "b", "c"], "time": [1, 5, 5], "kind": ["sale", "gift", "sale"]}
    pq.write_table(pa.table(table | {"is new": [1, 0, 1], "is big": [0, 0, 1]}), tmp_path / "e.parquet")
    pq.write_table(pa.table({"id": ["a", "c"], "club": ["x", "y"]}), tmp_path / "n.parquet")
    options = {"time_unit": "ms", "source_time_unit": "ms", "node_labels": tmp_path / "n.parquet"}
    for number, classes in enumerate(["kind", ["is new", "is big"]]):
        store = tmp_path / f"store{number}"
        import_events(tmp_path / "e.parquet", store, edge_classes=classes, **options)
        report = export_events(store, tmp_path / f"out{number}", format=format)
        import_events(tmp_path / f"out{number}", tmp_path / f"back{number}", **report.reading)
        before, after = open_stream(store), open_stream(tmp_path / f"back{number}")
        same(before, after, ["label", "edge_classes", "node_label"])
        assert (after.classes, after.time_unit) == (before.classes, "ms")
        assert ids_of(tmp_path / f"back{number}") == ["a", "b", "c"]


def a_stream(**changes):
    """Six events with a self-loop, a tie and two edges of a pair; 4 nodes."""
    columns = {
        "src": np.array([0, 2, 2, 1, 0, 3]),
        "dst": np.array([1, 2, 1, 0, 1, 0]),
        "time": np.array([1, 4, 4, 6, 7, 9]),
        "edge_features": np.arange(12, dtype=np.float32).reshape(6, 2) / 3,
        "node_features": np.arange(8, dtype=np.float32).reshape(4, 2),
        "label": np.array([0, 1, 0, 0, 1, 0]),
    }
    return EventStream.from_arrays(**columns | changes)


def saved(folder, stream):
    save_stream(stream, folder / "store")
    return folder / "store"


def test_tgl_is_what_tgl_makes(tmp_path):
    """ext_full.npz has the arrays that TGL's gen_graph.py --add_reverse computes, event by event."""
    stream = replace(a_stream(), source_split=Split(3, 4, 6))
    export_events(saved(tmp_path, stream), tmp_path / "TOY", format="tgl")
    lists = [[] for _ in range(4)]
    for event, (src, dst, time) in enumerate(zip(stream.src, stream.dst, stream.time, strict=True)):
        lists[src].append((time, event, dst))
        lists[dst].append((time, event, src))
    flat = [entry for node in lists for entry in sorted(node, key=lambda entry: entry[:2])]
    with np.load(tmp_path / "TOY" / "ext_full.npz") as graph:
        assert set(graph.files) == {"indptr", "indices", "ts", "eid"}
        assert graph["indptr"].tolist() == np.cumsum([0, *map(len, lists)]).tolist()
        assert graph["ts"].tolist() == [time for time, _, _ in flat]
        assert graph["eid"].tolist() == [event for _, event, _ in flat]
        assert graph["indices"].tolist() == [node for _, _, node in flat]
        assert graph["indptr"].dtype == graph["indices"].dtype == graph["eid"].dtype == np.int32
    lines = (tmp_path / "TOY" / "edges.csv").read_text().splitlines()
    assert lines[:3] == [",src,dst,time,ext_roll", "0,0,1,1,0", "1,2,2,4,0"]
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == list("000122")
    assert (tmp_path / "TOY" / "labels.csv").read_text().splitlines()[:3] == [
        ",node,time,label,ext_roll", "0,0,1,0,0", "1,2,4,1,0",
    ]  # fmt: skip
    for name in ("edge_features", "node_features"):
        loaded = torch.load(tmp_path / "TOY" / f"{name}.pt", weights_only=True)
        np.testing.assert_array_equal(loaded.numpy(), getattr(stream, name))
    assert sorted(file.name for file in (tmp_path / "TOY").iterdir()) == [
        "edge_features.pt", "edges.csv", "ext_full.npz", "labels.csv", "node_features.pt",
    ]  # fmt: skip


def test_tgl_labels_that_are_not_the_events_are_left_out(tmp_path):
    store = saved(tmp_path, a_stream())
    export_events(store, tmp_path / "TOY", format="tgl")
    lines = (tmp_path / "TOY" / "labels.csv").read_text().splitlines()
    (tmp_path / "TOY" / "labels.csv").write_text("\n".join(lines[:-1]) + "\n")
    report = import_events(tmp_path / "TOY", tmp_path / "back")
    assert open_stream(tmp_path / "back").label is None
    assert "labels.csv has not a row for each event" in report.note


def test_tgl_gets_the_split_of_training_where_there_is_none(tmp_path):
    report = export_events(saved(tmp_path, a_stream()), tmp_path / "TOY", format="tgl")
    assert any("70/15/15" in remark for remark in report.remarks)
    import_events(tmp_path / "TOY", tmp_path / "back")
    assert open_stream(tmp_path / "back").source_split == a_stream().split()


def test_dyglib_counts_from_one(tmp_path):
    stream = a_stream()
    export_events(saved(tmp_path, stream), tmp_path / "toy", format="dyglib")
    lines = (tmp_path / "toy" / "ml_toy.csv").read_text().splitlines()
    assert lines[:3] == [",u,i,ts,label,idx", "0,1,2,1,0,1", "1,3,3,4,1,2"]
    edges, nodes = np.load(tmp_path / "toy" / "ml_toy.npy"), np.load(tmp_path / "toy" / "ml_toy_node.npy")
    assert not edges[0].any()
    assert not nodes[0].any()
    np.testing.assert_array_equal(edges[1:], stream.edge_features)
    np.testing.assert_array_equal(nodes[1:], stream.node_features)


def test_dyglib_without_features_has_tables_without_columns(tmp_path):
    """DyGLib opens both tables and pads them to its width."""
    stream = a_stream(edge_features=None, node_features=None)
    export_events(saved(tmp_path, stream), tmp_path / "toy", format="dyglib")
    assert np.load(tmp_path / "toy" / "ml_toy.npy").shape == (7, 0)
    assert np.load(tmp_path / "toy" / "ml_toy_node.npy").shape == (5, 0)
    import_events(tmp_path / "toy", tmp_path / "back")
    assert open_stream(tmp_path / "back").edge_features is None


def test_jodie_has_its_header_and_features_after_commas(tmp_path):
    stream = a_stream(src=[0, 1, 0, 1, 1, 0], dst=[3, 3, 2, 2, 2, 3], node_features=None)
    export_events(saved(tmp_path, stream), tmp_path / "toy.csv", format="jodie")
    lines = (tmp_path / "toy.csv").read_text().splitlines()
    assert lines[0] == "user_id,item_id,timestamp,state_label,comma_separated_list_of_features"
    assert lines[1] == "0,1,1,0,0,0.33333334"
    assert lines[3].startswith("0,0,4,0,")


@pytest.mark.parametrize("format", ["jodie", "tgb-csv"])
@pytest.mark.parametrize("bipartite", [True, False])
def test_the_ids_beside_jodie_are_those_of_its_users_and_items(tmp_path, format, bipartite):
    (tmp_path / "e.csv").write_text("src,dst,time\n30,7,1\n20,9,2\n30,8,3\n")
    import_events(tmp_path / "e.csv", tmp_path / "store", bipartite=bipartite)
    export_events(tmp_path / "store", tmp_path / "toy.csv", format=format)
    rows = [line.split(",")[:2] for line in (tmp_path / "toy.csv").read_text().splitlines()[1:]]
    ids = pq.read_table(tmp_path / "toy.node_ids.parquet").to_pylist()
    id_of = {(row["side"], str(row["node"])): row["id"] for row in ids}
    assert [(id_of["user", u], id_of["item", v]) for u, v in rows] == [(30, 7), (20, 9), (30, 8)]
    assert len(ids) == 5


def test_no_ids_lie_beside_jodie_where_they_are_its_numbers(tmp_path):
    (tmp_path / "e.csv").write_text("src,dst,time\n0,1,1\n1,0,2\n")
    import_events(tmp_path / "e.csv", tmp_path / "store", bipartite=True)
    export_events(tmp_path / "store", tmp_path / "toy.csv", format="jodie")
    assert not (tmp_path / "toy.node_ids.parquet").exists()


@pytest.mark.parametrize("layout", ["wiki", "coin"])
def test_tgb_edge_lists(tmp_path, layout):
    changes = {"src": [0, 1, 0, 1, 1, 0], "dst": [3, 3, 2, 2, 2, 3]} if layout == "wiki" else {}
    stream = a_stream(**changes, node_features=None, edge_features=np.ones((6, 1)) * 8)
    report = export_events(saved(tmp_path, stream), tmp_path / "toy.csv", format="tgb-csv")
    lines = (tmp_path / "toy.csv").read_text().splitlines()
    assert lines[:2] == (
        ["user_id,item_id,timestamp,state_label,comma_separated_list_of_features", "0,1,1,0,8"]
        if layout == "wiki"
        else ["timestamp,src,dst,weight", "1,0,1,8"]
    )
    import_events(tmp_path / "toy.csv", tmp_path / "back", **report.reading)
    same(stream, open_stream(tmp_path / "back"), ["edge_features"])


def test_snap_is_a_list_of_numbers(tmp_path):
    report = export_events(saved(tmp_path, a_stream()), tmp_path / "toy.txt", format="snap")
    assert (tmp_path / "toy.txt").read_text().splitlines()[:2] == ["0 1 1", "2 2 4"]
    assert report.lost == ["labels", "edge features", "node features"]


def test_pyg_is_a_dictionary_of_tensors(tmp_path):
    stream = replace(a_stream(), source_split=Split(3, 4, 6))
    export_events(saved(tmp_path, stream), tmp_path / "toy.pt", format="pyg")
    loaded = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in loaded.items()} == {
        "src": (torch.int64, (6,)), "dst": (torch.int64, (6,)), "t": (torch.int64, (6,)), "y": (torch.int64, (6,)),
        "split": (torch.int8, (6,)), "msg": (torch.float32, (6, 2)), "x": (torch.float32, (4, 2)),
    }  # fmt: skip
    assert loaded["split"].tolist() == [0, 0, 0, 1, 2, 2]


def test_pyg_makes_temporal_data_of_it(tmp_path):
    pyg = pytest.importorskip("torch_geometric.data", reason="PyG is not installed: pip install torch-geometric")
    store = saved(tmp_path, a_stream())
    export_events(store, tmp_path / "toy.pt", format="pyg")
    data = pyg.TemporalData.from_dict(torch.load(tmp_path / "toy.pt", weights_only=True))
    assert (data.num_events, data.num_nodes, tuple(data.msg.shape)) == (6, 4, (6, 2))
    train, _, test = data.train_val_test_split(val_ratio=0.2, test_ratio=0.2)
    assert train.num_events + test.num_events < 6
    torch.save(data, tmp_path / "object.pt")  # and the object itself can be read
    torch.save((data.to_dict(), None, pyg.TemporalData), tmp_path / "dataset.pt")  # as PyG's data sets keep it
    for file in ("object.pt", "dataset.pt"):
        import_events(tmp_path / file, tmp_path / "back", overwrite=True)
        same(open_stream(store), open_stream(tmp_path / "back"), ARRAYS)


@pytest.mark.parametrize("format", ["jodie"])
def test_a_node_on_both_sides_is_refused(tmp_path, format):
    with pytest.raises(DataError, match="both source and destination"):
        export_events(saved(tmp_path, a_stream()), tmp_path / "x.csv", format=format)
    assert not (tmp_path / "x.csv").exists()


def test_nodes_without_events_are_said_to_be_lost(tmp_path):
    stream = a_stream(num_nodes=6, node_features=None)
    report = export_events(saved(tmp_path, stream), tmp_path / "x.csv", format="csv")
    assert report.lost == ["nodes without events"]


def test_empty_text_does_not_go_into_csv(tmp_path):
    store = make_store(tmp_path, {"src": ["", "b"], "dst": ["b", "c"], "time": [1, 2]})
    with pytest.raises(DataError, match="empty text"):
        export_events(store, tmp_path / "x.csv", format="csv")
    report = export_events(store, tmp_path / "x.parquet", format="parquet")
    import_events(tmp_path / "x.parquet", tmp_path / "back", **report.reading)
    assert ids_of(tmp_path / "back") == ["", "b", "c"]


def test_an_unknown_format_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean dyglib"):
        export_events(saved(tmp_path, a_stream()), tmp_path / "x", format="dyglip")


@pytest.mark.parametrize("format", ["csv", "tgl"])
def test_what_is_there_stays_unless_overwrite(tmp_path, format):
    store, out = saved(tmp_path, a_stream()), tmp_path / "out"
    export_events(store, out, format=format)
    with pytest.raises(StoreError, match="already exists"):
        export_events(store, out, format=format)
    export_events(store, out, format=format, overwrite=True)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    store = saved(tmp_path, a_stream())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        export_events(store, tmp_path / "out", format="tgl", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(StoreError, match="other files"):
        export_events(store, store, format="tgl", overwrite=True)


@pytest.mark.parametrize("format", sorted(set(WRITERS) - {"jodie"}))
def test_a_crash_leaves_the_old_one(tmp_path, format, monkeypatch):
    """Nothing half-written, with an error at the very end."""
    store, out = saved(tmp_path, a_stream()), tmp_path / "out"
    export_events(store, out, format=format)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tgscale.data.export.publish._sync", full)
    with pytest.raises(StoreError, match=r"disk full while writing .*out"):
        export_events(store, out, format=format, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_chunks_do_not_show(tmp_path, monkeypatch):
    """The same files, whatever the size of a chunk."""
    generator = np.random.default_rng(0)
    events, nodes = 5000, 300
    stream = EventStream.from_arrays(
        generator.integers(0, nodes, events), generator.integers(0, nodes, events), generator.integers(0, 999, events),
        num_nodes=nodes, edge_features=generator.normal(size=(events, 3)), label=generator.integers(0, 2, events),
    )  # fmt: skip
    store = saved(tmp_path, stream)
    contents = []
    for size in (8 << 20, 1):
        for module in ("outgoing", "pieces", "tgl"):
            monkeypatch.setattr(f"tgscale.data.export.{module}.CHUNK_BYTES", size * (64 if module == "tgl" else 1))
        for format in ("csv", "tgl", "dyglib", "snap", "pyg"):
            export_events(store, tmp_path / f"{size}" / format, format=format)
        # torch.save and np.savez write the times of their making; what they hold is compared.
        files = sorted(file for file in (tmp_path / f"{size}").rglob("*") if file.is_file())
        contents.append({str(f.relative_to(tmp_path / f"{size}")): content_of(f) for f in files})
    assert contents[0] == contents[1]


def content_of(file):
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files}
    if file.suffix == ".pt" or file.name == "pyg":
        loaded = torch.load(file, weights_only=True)
        tensors = loaded if isinstance(loaded, dict) else {"": loaded}
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return file.read_bytes()


@pytest.mark.parametrize("format", ["csv", "jodie", "tgl", "dyglib", "pyg", "snap", "parquet"])
def test_real_events_come_back(tmp_path, format, shared_data):
    """Wikipedia's events with features, as JODIE ships them."""
    import_events(shared_data("wikipedia/wikipedia_small_172feat.csv.xz"), tmp_path / "store")
    _, before, after = round_trip(tmp_path, tmp_path / "store", format)
    same(before, after, [part for part in ("label", "edge_features") if part in WRITERS[format].carries])


def test_a_real_stream_with_self_loops_comes_back(tmp_path, shared_data):
    import_events(shared_data("mathoverflow/events.parquet"), tmp_path / "store", label="etype")
    for format in ("csv", "tgl"):
        _, before, after = round_trip(tmp_path, tmp_path / "store", format)
        same(before, after, ["label"])


def test_snapshots_formats_are_not_for_events(tmp_path):
    with pytest.raises(ConfigError, match=r"pgt holds snapshots.*--every 1d"):
        export_events(saved(tmp_path, a_stream()), tmp_path / "x", format="pgt")


def test_too_small_a_disk_is_noticed_before(tmp_path, monkeypatch):
    store = saved(tmp_path, a_stream())
    usage = shutil.disk_usage(tmp_path)._replace(free=50)
    monkeypatch.setattr("tgscale.data.export.publish.shutil.disk_usage", lambda path: usage)
    monkeypatch.setattr("tgscale.data.export.tgl.write_text", None)  # nothing is written
    with pytest.raises(StoreError, match="disk full"):
        export_events(store, tmp_path / "x", format="tgl")


def test_what_a_killed_export_left_goes(tmp_path):
    """A folder of a process that is no more; and what it had put aside comes back."""
    store = saved(tmp_path, a_stream())
    export_events(store, tmp_path / "out", format="tgl")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    (tmp_path / ".out.tmp-999999999").mkdir()
    with pytest.raises(StoreError, match="already exists"):
        export_events(store, tmp_path / "out", format="tgl")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "store"]


def test_a_file_beside_is_not_overwritten(tmp_path):
    store = saved(tmp_path, a_stream())
    (tmp_path / "x.nodes.csv").write_text("mine")
    with pytest.raises(StoreError, match=r"x\.nodes\.csv already exists"):
        export_events(store, tmp_path / "x.csv", format="csv")
    assert (tmp_path / "x.nodes.csv").read_text() == "mine"
    assert not (tmp_path / "x.csv").exists()


def test_tgn_reads_jodie(tmp_path):
    """As TGN's preprocess_data.py goes through the lines."""
    stream = a_stream(src=[0, 1, 0, 1, 1, 0], dst=[3, 3, 2, 2, 2, 3], node_features=None)
    export_events(saved(tmp_path, stream), tmp_path / "toy.csv", format="jodie")
    _, *lines = (tmp_path / "toy.csv").read_text().splitlines()
    rows = [[float(value) for value in line.split(",")] for line in lines]
    table = np.array(rows)
    np.testing.assert_array_equal(table[:, 2], stream.time)
    np.testing.assert_array_equal(table[:, 3], stream.label)
    np.testing.assert_array_equal(table[:, 4:].astype(np.float32), stream.edge_features)
    np.testing.assert_array_equal(table[:, 0], stream.src)
    np.testing.assert_array_equal(table[:, 1] + 2, stream.dst)


def test_py_tgb_reads_its_edge_lists(tmp_path):
    """TGB's own functions get the events, in the numbering that they give nodes."""
    loaders = pytest.importorskip("tgb.utils.pre_process", reason="py-tgb is not installed: pip install py-tgb")
    stream = a_stream(src=[0, 1, 0, 1, 1, 0], dst=[3, 3, 2, 2, 2, 3], node_features=None)
    export_events(saved(tmp_path, stream), tmp_path / "wiki.csv", format="tgb-csv")
    table, features, _ = loaders.load_edgelist_wiki(str(tmp_path / "wiki.csv"))
    for name, column in (("u", stream.src), ("i", stream.dst), ("ts", stream.time)):
        np.testing.assert_array_equal(table[name], column)
    np.testing.assert_allclose(features, stream.edge_features)
    one_side = a_stream(node_features=None, edge_features=np.full((6, 1), 8.0))
    save_stream(one_side, tmp_path / "other")
    export_events(tmp_path / "other", tmp_path / "coin.csv", format="tgb-csv")
    table, _, numbers = loaders.csv_to_pd_data_sc(str(tmp_path / "coin.csv"))
    np.testing.assert_array_equal(table["u"], [numbers[str(node)] for node in one_side.src])
    np.testing.assert_array_equal(table["i"], [numbers[str(node)] for node in one_side.dst])
    np.testing.assert_array_equal(table["w"], np.log2(8.0))


def test_dyglib_reads_its_folder(tmp_path):
    """As DyGLib's DataLoader.get_link_prediction_data opens the three files."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    stream = a_stream()
    export_events(saved(tmp_path, stream), tmp_path / "toy", format="dyglib")
    table = pandas.read_csv(tmp_path / "toy" / "ml_toy.csv")
    edges, nodes = np.load(tmp_path / "toy" / "ml_toy.npy"), np.load(tmp_path / "toy" / "ml_toy_node.npy")
    np.testing.assert_array_equal(nodes[table.u.values.astype(np.int64)], stream.node_features[stream.src])
    np.testing.assert_array_equal(nodes[table.i.values.astype(np.int64)], stream.node_features[stream.dst])
    np.testing.assert_array_equal(edges[table.idx.values.astype(np.int64)], stream.edge_features)
    np.testing.assert_array_equal(table.ts.values.astype(np.float64), stream.time)
    np.testing.assert_array_equal(table.label.values, stream.label)


def test_the_documentation_says_what_is_carried():
    """The table of docs/formats.md agrees with the table of writers."""
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 10]
    rows = {row[0].strip("`"): row[1:] for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)}
    parts = ("label", "split", "edge_features", "node_features", "ids")
    for name, writer in WRITERS.items():
        _, _, written, *cells = rows[name]
        assert written == "yes", name
        assert {part for part, cell in zip(parts, cells, strict=True) if cell} == writer.carries & set(parts), name
    for name in {*FORMATS, "tgb"} - set(WRITERS):
        assert any(f"`{name}`" in line and "yes" in line for line in page.splitlines()), name


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("format", ["csv", "jodie", "snap"])
def test_text_is_compressed_by_its_name(tmp_path, format, suffix):
    stream = a_stream(src=[0, 1, 0, 1, 1, 0], dst=[3, 3, 2, 2, 2, 3], node_features=None)
    out = tmp_path / f"x.csv{suffix}"
    report = export_events(saved(tmp_path, stream), out, format=format)
    assert out.read_bytes()[:2] == {".gz": b"\x1f\x8b", ".bz2": b"BZ", ".xz": b"\xfd7"}[suffix]
    import_events(out, tmp_path / "back", **report.reading)
    same(stream, open_stream(tmp_path / "back"), ["edge_features"] if format != "snap" else [])


@pytest.mark.parametrize(("format", "suffix"), [("pyg", ".gz"), ("parquet", ".xz"), ("csv", ".zst")])
def test_a_name_that_promises_another_compression(tmp_path, format, suffix):
    with pytest.raises(ConfigError, match=f"is not compressed by {suffix}"):
        export_events(saved(tmp_path, a_stream()), tmp_path / f"x{suffix}", format=format)


def test_no_column_of_the_store_is_forgotten():
    """A column that no writer knows would be lost without a word."""
    assert set(OPTIONAL) <= set(PARTS)
