"""SNAP's lists, PyG's TemporalData, databases and TGB's edge lists, as their makers ship them."""

import gzip
import sqlite3
import sys
from types import ModuleType, SimpleNamespace

import duckdb
import numpy as np
import pytest
import torch

from tgscale.data.ingest import import_events
from tgscale.data.snapshot_ingest import import_snapshots
from tgscale.data.store import lookup_nodes, open_stream
from tgscale.data.stream import Split
from tgscale.errors import ConfigError, DataError


@pytest.mark.parametrize("between", [" ", "\t"])
def test_snap_list(tmp_path, between):
    rows = ["# Directed graph", "# FromNodeId ToNodeId Time", "7 9 100", "9 7 50", "9 9 100"]
    (tmp_path / "CollegeMsg.txt.gz").write_bytes(gzip.compress("\n".join(rows).replace(" ", between).encode()))
    report = import_events(tmp_path / "CollegeMsg.txt.gz", tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert report.format == "snap"
    assert (stream.src.tolist(), stream.dst.tolist(), stream.time.tolist()) == ([1, 0, 1], [0, 1, 1], [50, 100, 100])
    assert lookup_nodes(tmp_path / "store", [7, 9]).tolist() == [0, 1]


def test_snap_ratings(tmp_path):
    """SNAP's Bitcoin networks: SRC,DST,RATING,TIME, times with a fraction."""
    (tmp_path / "soc-sign-bitcoinotc.csv").write_text("6,2,4,1289241911.72836\n6,5,-2,1289241941.5\n")
    report = import_events(tmp_path / "soc-sign-bitcoinotc.csv", tmp_path / "store", format="snap", time_unit="us")
    stream = open_stream(tmp_path / "store")
    assert report.columns.edge_features == ("rating",)
    assert stream.edge_features.tolist() == [[4], [-2]]
    assert stream.time.tolist() == [1289241911728360, 1289241941500000]


def test_snap_with_other_columns_asks_for_the_time(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3 100\n2 3 4 50\n")
    with pytest.raises(DataError, match=r"no column that looks like time.*c1, c2, c3, c4.*--time NAME"):
        import_events(tmp_path / "x.txt", tmp_path / "store", format="snap")
    import_events(tmp_path / "x.txt", tmp_path / "store", format="snap", time="c4", edge_features="c3")
    assert open_stream(tmp_path / "store").edge_features.tolist() == [[4], [3]]


def test_snap_faults_are_named_by_their_line(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3\n2 3 noon\n3 4\n")
    with pytest.raises(DataError, match=r"x\.txt, row 3 has not the right number of values"):
        import_events(tmp_path / "x.txt", tmp_path / "store")
    (tmp_path / "x.txt").write_text("1 2 3\n2 3 noon\n")
    with pytest.raises(DataError, match=r"x\.txt, row 2, column 'time' \(time\): 'noon'"):
        import_events(tmp_path / "x.txt", tmp_path / "store")


def test_numbers_with_commas_are_not_guessed_at(tmp_path):
    (tmp_path / "x.csv").write_text("1,2,3\n2,3,4\n")
    with pytest.raises(DataError, match="say --format snap"):
        import_events(tmp_path / "x.csv", tmp_path / "store")
    import_events(tmp_path / "x.csv", tmp_path / "store", format="snap")
    assert open_stream(tmp_path / "store").time.tolist() == [3, 4]


def test_pyg_tensors(tmp_path):
    data = {
        "src": torch.tensor([0, 1]), "dst": torch.tensor([3, 3]), "t": torch.tensor([5, 2]),
        "msg": torch.tensor([[1.5], [2.5]], dtype=torch.float64), "y": torch.tensor([[1.0], [0.0]]),
    }  # fmt: skip
    torch.save(data, tmp_path / "data.pt")
    report = import_events(tmp_path / "data.pt", tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert report.format == "pyg"
    assert (stream.src.tolist(), stream.time.tolist()) == ([1, 0], [2, 5])
    assert (stream.edge_features.tolist(), stream.label.tolist()) == ([[2.5], [1.5]], [0, 1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"t": None}, "lacks t"),
        ({"y": torch.zeros(2, 3)}, r"y is float32 \[2, 3\], one number for 2 events expected"),
        ({"msg": torch.zeros(5, 3)}, "msg has 5 rows, src has 2"),
        ({"msg": torch.zeros(2)}, r"msg has shape \[2\], two dimensions"),
        ({"msg": torch.tensor([[0.0], [torch.nan]])}, "not finite"),
        ({"src": torch.tensor([-1, 2])}, r"data\.pt, row 1, column 'src' \(src\): -1 is out of range"),
    ],
)
def test_pyg_tensors_that_do_not_fit(tmp_path, changes, said):
    data = {"src": torch.tensor([0, 1]), "dst": torch.tensor([3, 3]), "t": torch.tensor([5, 2])} | changes
    torch.save({name: tensor for name, tensor in data.items() if tensor is not None}, tmp_path / "data.pt")
    with pytest.raises(DataError, match=said):
        import_events(tmp_path / "data.pt", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_pickles_are_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save(Trap(), tmp_path / "data.pt")
    with pytest.raises(DataError, match=r"data\.pt cannot be loaded as tensors"):
        import_events(tmp_path / "data.pt", tmp_path / "store")


def sales(db):
    db.execute("CREATE TABLE sales (buyer VARCHAR, shop VARCHAR, moment BIGINT, price DOUBLE)")
    db.execute("INSERT INTO sales VALUES ('ann', 'x', 3, 1.5), ('bob', 'x', 1, 2)")


def database(folder, kind, second=False):
    path = folder / f"shop.{kind}"
    with duckdb.connect(str(path)) if kind == "duckdb" else sqlite3.connect(path) as db:
        sales(db)
        if second:
            db.execute("CREATE TABLE shops (name VARCHAR, city VARCHAR)")
            db.execute("INSERT INTO shops VALUES ('x', 'Oslo')")
    db.close()
    return path


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_database_with_one_table(tmp_path, kind):
    report = import_events(
        database(tmp_path, kind), tmp_path / "store", src="buyer", dst="shop", time="moment", edge_features="price"
    )
    stream = open_stream(tmp_path / "store")
    assert report.format == kind
    assert stream.time.tolist() == [1, 3]
    assert stream.edge_features.tolist() == [[2.0], [1.5]]
    assert lookup_nodes(tmp_path / "store", ["ann", "bob", "x"]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_database_with_a_query(tmp_path, kind):
    path = database(tmp_path, kind, second=True)
    with pytest.raises(DataError, match=r"holds the tables sales, shops.*--query"):
        import_events(path, tmp_path / "store")
    query = "SELECT buyer AS src, city AS dst, moment AS time FROM sales JOIN shops ON shop = name"
    import_events(path, tmp_path / "store", query=query)
    assert lookup_nodes(tmp_path / "store", ["Oslo", "ann", "bob"]).tolist() == [0, 1, 2]
    import_snapshots(path, tmp_path / "snapshots", query=query, every="1s", memory_limit="400MB")


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_database_faults_are_named(tmp_path, kind):
    path = database(tmp_path, kind)
    with duckdb.connect(str(path)) if kind == "duckdb" else sqlite3.connect(path) as db:
        db.execute("INSERT INTO sales VALUES ('ann', 'x', -1, 1.5)")
    db.close()
    with pytest.raises(DataError, match=rf"shop\.{kind}, row 3, column 'moment' \(time\): -1 is negative"):
        import_events(path, tmp_path / "store", src="buyer", dst="shop", time="moment")


def test_sqlite_values_of_several_types(tmp_path):
    """A column of integers and text is text; one of integers and reals is real; bytes are refused."""
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("CREATE TABLE e (src, dst, time, weight)")
        db.executemany("INSERT INTO e VALUES (?, ?, ?, ?)", [(1, "a", 5, 1), ("b", 7, 6, 0.5)])
    db.close()
    import_events(tmp_path / "x.db", tmp_path / "store", edge_features="weight")
    assert lookup_nodes(tmp_path / "store", ["1", "7", "a", "b"]).tolist() == [0, 1, 2, 3]
    assert open_stream(tmp_path / "store").edge_features.tolist() == [[1.0], [0.5]]
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("INSERT INTO e VALUES (x'00ff', 1, 2, 3)")
    db.close()
    with pytest.raises(DataError, match=r"table 'e': column 'src' holds bytes"):
        import_events(tmp_path / "x.db", tmp_path / "other")


def test_a_damaged_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(DataError, match=r"x\.db"):
        import_events(tmp_path / "x.db", tmp_path / "store")
    (tmp_path / "y.db").write_bytes(bytes(8) + b"DUCK" + bytes(9000))
    with pytest.raises(DataError, match=r"y\.db cannot be opened"):
        import_events(tmp_path / "y.db", tmp_path / "store")


WIKI = "user_id,item_id,timestamp,state_label,features\n" + "".join(
    f"{i % 3},{i % 2},{10 * i},0,{i}.5,{-i}\n" for i in range(20)
)


def test_tgb_by_py_tgb(tmp_path):
    """Nodes, features and split are those of py-tgb's own loader."""
    dataset = pytest.importorskip("tgb.linkproppred.dataset", reason="py-tgb is not installed: pip install py-tgb")
    folder = tmp_path / "tgbl_wiki"
    folder.mkdir()
    (folder / "tgbl-wiki_edgelist_v2.csv").write_text(WIKI)
    report = import_events(folder, tmp_path / "store")
    assert report.format == "tgb"
    assert sorted(file.name for file in folder.iterdir()) == ["tgbl-wiki_edgelist_v2.csv"]  # nothing left there
    expected = dataset.LinkPropPredDataset("tgbl-wiki", meta_dict={"dir_name": str(folder)}, download=False)
    stream = open_stream(tmp_path / "store")
    np.testing.assert_array_equal(stream.src, expected.full_data["sources"])
    np.testing.assert_array_equal(stream.dst, expected.full_data["destinations"])
    np.testing.assert_allclose(stream.edge_features, expected.full_data["edge_feat"])
    assert stream.source_split == Split(int(expected.train_mask.sum()), int((~expected.test_mask).sum()), 20)


def test_tgb_without_py_tgb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tgb.linkproppred.dataset", None)
    (tmp_path / "tgbl-wiki_edgelist_v2.csv").write_text(WIKI)
    with pytest.raises(ConfigError, match="pip install py-tgb"):
        import_events(tmp_path / "tgbl-wiki_edgelist_v2.csv", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_tgb_hands_over_csv_files_alone(tmp_path, monkeypatch):
    """A pickle beside the source is out of py-tgb's sight, and what it returns becomes columns and split."""
    seen = {}

    class Dataset(SimpleNamespace):
        def __init__(self, name, meta_dict, download):
            from pathlib import Path

            seen.update(name=name, files=sorted(file.name for file in Path(meta_dict["dir_name"]).iterdir()))
            table = {"sources": [0, 1, 0], "destinations": [2, 2, 3], "timestamps": [1, 2, 3], "edge_type": [4, 5, 4]}
            self.full_data = {key: np.array(values) for key, values in table.items()} | {"edge_feat": np.zeros((3, 0))}
            self.val_mask, self.test_mask = np.array([False, True, False]), np.array([False, False, True])
            assert not download

    module = ModuleType("tgb.linkproppred.dataset")
    module.LinkPropPredDataset = Dataset
    for name in ("tgb", "tgb.linkproppred"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "tgb.linkproppred.dataset", module)
    for name in ("thgl-toy_edgelist.csv", "thgl-toy_nodetype.csv", "ml_thgl-toy.pkl"):
        (tmp_path / name).write_text("x")
    import_events(tmp_path / "thgl-toy_edgelist.csv", tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert seen == {"name": "thgl-toy", "files": ["thgl-toy_edgelist.csv", "thgl-toy_nodetype.csv"]}
    assert (stream.label.tolist(), stream.source_split, stream.edge_features) == ([4, 5, 4], Split(1, 2, 3), None)
