"""Each format is recognised by its content and read as its makers meant it."""

import gzip

import numpy as np
import pytest
import torch

from tgscale.data.formats import FORMATS
from tgscale.data.ingest import import_events
from tgscale.data.store import lookup_nodes, open_stream
from tgscale.data.stream import Split
from tgscale.errors import ConfigError, DataError

JODIE = """user_id,item_id,timestamp,state_label,comma_separated_list_of_features
0,1,0.0,0,0.5,-1.25,3
1,0,36.0,1,0,0,1e-3
0,0,36.0,0,1,2,3
"""


def jodie(folder):
    (folder / "wiki.csv").write_text(JODIE)
    return folder / "wiki.csv"


def tgl(folder, edge_features=True, index=True):
    rows = ["0,1,2,5.0,0", "1,2,1,6.0,1", "2,3,1,6.0,2", "3,1,3,9.0,2"]
    head = ",src,dst,time,ext_roll" if index else "src,dst,time,ext_roll"
    rows = rows if index else [row.split(",", 1)[1] for row in rows]
    (folder / "edges.csv").write_text("\n".join([head, *rows]) + "\n")
    if edge_features:
        torch.save(torch.arange(8.0).reshape(4, 2), folder / "edge_features.pt")
    torch.save(torch.arange(12).reshape(4, 3), folder / "node_features.pt")
    np.savez(folder / "ext_full.npz", indptr=[0])
    return folder


def dyglib(folder):
    rows = [",u,i,ts,label,idx", "0,1,3,0.0,0.0,1", "1,2,3,7.0,1.0,2", "2,1,4,7.0,0.0,3"]
    (folder / "ml_toy.csv").write_text("\n".join(rows) + "\n")
    np.save(folder / "ml_toy.npy", np.array([[0, 0], [1, 2], [3, 4], [5, 6]], np.float64))
    np.save(folder / "ml_toy_node.npy", np.array([[0], [10], [20], [30], [40]], np.float64))
    return folder / "ml_toy.csv"


def test_jodie(tmp_path):
    report = import_events(jodie(tmp_path), tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert report.format == "jodie"
    assert "JODIE" in report.note
    assert stream.num_sources == 2
    assert stream.src.tolist() == [0, 1, 0]
    assert stream.dst.tolist() == [3, 2, 2]
    assert stream.time.tolist() == [0, 36, 36]
    assert stream.label.tolist() == [0, 1, 0]
    np.testing.assert_allclose(stream.edge_features, [[0.5, -1.25, 3], [0, 0, 1e-3], [1, 2, 3]])


def test_jodie_with_ids_of_text(tmp_path):
    """JODIE allows users and items that are not numbers."""
    (tmp_path / "e.csv").write_text("user_id,item_id,timestamp,state_label\nann,7,0,0\nbob,5,3,1\n")
    import_events(tmp_path / "e.csv", tmp_path / "store")
    assert open_stream(tmp_path / "store").num_sources == 2
    assert lookup_nodes(tmp_path / "store", ["ann", "bob"], side="src").tolist() == [0, 1]
    assert lookup_nodes(tmp_path / "store", [5, 7], side="dst").tolist() == [2, 3]
    (tmp_path / "e.csv").write_text("user_id,item_id,timestamp,state_label\n-1,7,0,0\n")
    with pytest.raises(DataError, match="'-1' is out of range: ids of format jodie start at 0"):
        import_events(tmp_path / "e.csv", tmp_path / "other")


def test_text_ids_do_not_go_with_rows_by_id(tmp_path):
    with pytest.raises(ConfigError, match="--ids text does not go with the node features of format tgl"):
        import_events(tgl(tmp_path), tmp_path / "store", ids="text")
    import_events(tgl(tmp_path, edge_features=False), tmp_path / "other", ids="int")


def test_jodie_as_its_makers_ship_it(tmp_path, shared_data):
    file = shared_data("wikipedia/wikipedia_small_172feat.csv.xz")
    report = import_events(file, tmp_path / "store")
    expected = np.load(shared_data("wikipedia/first_rows_172feat.npz"))
    stream = open_stream(tmp_path / "store")
    assert (report.format, report.events, report.edge_dim) == ("jodie", 21, 172)
    features = next(expected[name] for name in expected.files if expected[name].ndim == 2)
    np.testing.assert_allclose(stream.edge_features, features[:21], rtol=1e-6)


def test_tgl(tmp_path):
    report = import_events(tgl(tmp_path), tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert report.format == "tgl"
    assert stream.src.tolist() == [0, 1, 2, 0]  # ids 1..3: node 0 of the source has no events
    assert stream.source_split == Split(1, 2, 4)
    assert stream.edge_features.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert stream.node_features.tolist() == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert lookup_nodes(tmp_path / "store", [0, 1, 3]).tolist() == [-1, 0, 2]


def test_tgl_without_row_numbers(tmp_path):
    import_events(tgl(tmp_path, index=False), tmp_path / "store")
    assert open_stream(tmp_path / "store").edge_features.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_tgl_edges_alone(tmp_path, shared_data):
    source = shared_data("fixtures/tglite_tests_edges.csv")
    (tmp_path / "tgl").mkdir()
    (tmp_path / "tgl" / "edges.csv").write_bytes(source.read_bytes())
    report = import_events(tmp_path / "tgl", tmp_path / "store")
    assert (report.format, report.events, report.edge_dim, report.last_time) == ("tgl", 100, 0, 2343)
    assert open_stream(tmp_path / "store").source_split is None


def test_tgl_pickles_are_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    folder = tgl(tmp_path, edge_features=False)
    torch.save(Trap(), folder / "edge_features.pt")
    with pytest.raises(DataError, match=r"edge_features\.pt cannot be loaded as a tensor"):
        import_events(folder, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_dyglib(tmp_path):
    report = import_events(dyglib(tmp_path), tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert report.format == "dyglib"
    assert stream.num_nodes == 4  # padding node 0 is gone
    assert stream.src.tolist() == [0, 1, 0]
    assert stream.dst.tolist() == [2, 2, 3]
    assert stream.label.tolist() == [0, 1, 0]
    assert stream.edge_features.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert stream.edge_features.dtype == np.float32
    assert stream.node_features.tolist() == [[10], [20], [30], [40]]


def test_dyglib_folder_and_bipartite(tmp_path):
    dyglib(tmp_path)
    import_events(tmp_path, tmp_path / "store", bipartite=True)
    stream = open_stream(tmp_path / "store")
    assert stream.num_sources == 2
    assert stream.node_features.tolist() == [[10], [20], [30], [40]]


def test_compressed_parts_of_a_format(tmp_path):
    (tmp_path / "wiki.csv.gz").write_bytes(gzip.compress(JODIE.encode()))
    assert import_events(tmp_path / "wiki.csv.gz", tmp_path / "store").format == "jodie"


def test_a_format_can_be_said(tmp_path):
    """A JODIE file without features is also a plain table; the caller's word counts."""
    (tmp_path / "e.csv").write_text("user_id,item_id,timestamp,state_label\n0,0,1,0\n1,1,2,0\n")
    assert import_events(tmp_path / "e.csv", tmp_path / "a").format == "jodie"
    report = import_events(tmp_path / "e.csv", tmp_path / "b", format="csv")
    assert (report.format, report.nodes, report.num_sources) == ("csv", 2, None)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_what_is_of_another_format_is_refused(tmp_path, format):
    (tmp_path / "x.bin").write_bytes(b"\0\1\2 nothing of the kind")
    with pytest.raises(DataError, match=r"x\.bin"):
        import_events(tmp_path / "x.bin", tmp_path / "store", format=format)
    assert not (tmp_path / "store").exists()
