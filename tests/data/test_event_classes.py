"""Classes of events and nodes, from files into a data directory."""

import json

import duckdb
import numpy as np
import pytest

from tgscale.data.ingest import import_events
from tgscale.data.store import open_stream, save_stream
from tgscale.data.stream import EventStream
from tgscale.data.summary import render, summarize
from tgscale.errors import ConfigError, DataError


def write(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def events(tmp_path):
    return write(
        tmp_path / "events.csv",
        "src,dst,t,kind,la,lb,lc\na,b,2,sell,1,0,0\na,c,1,buy,0,1,1\nb,c,3,sell,0,0,0\nc,a,4,10,1,1,1\n",
    )


def test_a_column_of_text_becomes_numbered_classes(events, tmp_path):
    report = import_events(events, tmp_path / "data", edge_classes="kind", edge_features="l*")
    stream = open_stream(tmp_path / "data", verify=True)
    assert stream.classes == {"label": ("10", "buy", "sell")}
    assert stream.label.tolist() == [1, 2, 2, 0]  # by time
    assert stream.edge_dim == 3
    assert report.classes == {"label": 3}
    assert stream.edge_classes is None


def test_whole_numbers_are_numbered_by_value(tmp_path):
    path = write(tmp_path / "events.csv", "src,dst,t,rel,label\n1,2,1,10,7\n1,3,2,9,7\n2,3,3,-1,7\n")
    import_events(path, tmp_path / "data", edge_classes="rel")
    stream = open_stream(tmp_path / "data")
    assert stream.classes["label"] == ("-1", "9", "10")
    assert stream.label.tolist() == [2, 1, 0]


def test_columns_of_marks_are_classes_of_their_names(events, tmp_path):
    report = import_events(events, tmp_path / "data", edge_classes="l?")
    stream = open_stream(tmp_path / "data", verify=True)
    assert stream.classes == {"edge_classes": ("la", "lb", "lc")}
    assert stream.edge_classes.dtype == np.uint8
    assert stream.edge_classes.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert report.classes == {"edge_classes": 3}
    summary = summarize(stream)
    assert summary["edge_classes"] == {"classes": 3, "per_event": 1.5, "without": 0.25}
    json.dumps(summary)
    render(summary)


def test_a_column_of_lists_holds_any_number_of_classes(tmp_path):
    path = tmp_path / "events.parquet"
    duckdb.sql(
        f"COPY (SELECT * FROM (VALUES (1, 2, 5, ['x', 'y', 'x']), (1, 3, 4, []::VARCHAR[]), (2, 3, 6, ['z'])) "
        f"AS e(src, dst, t, kinds)) TO '{path}' (FORMAT parquet)"
    )
    import_events(path, tmp_path / "data", edge_classes="kinds")
    stream = open_stream(tmp_path / "data")
    assert stream.classes["edge_classes"] == ("x", "y", "z")
    assert stream.edge_classes.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("columns", "rows", "words"),
    [
        ("kind", "1,2,1,,0,0\n", r"row 2, column 'kind' \(label\): the value is missing"),
        ("la,lb", "1,2,1,k,2,0\n", r"row 2, column 'la' \(edge_classes\): '2' is not 0 or 1"),
        ("la,lb", "1,2,1,k,0,\n", r"row 2, column 'lb' \(edge_classes\): the value is missing"),
        ("nothing", "", r"no column 'nothing' for --edge-classes"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, columns, rows, words):
    path = write(tmp_path / "events.csv", f"src,dst,t,kind,la,lb\n1,2,0,k,0,1\n{rows}")
    with pytest.raises(DataError, match=words):
        import_events(path, tmp_path / "data", edge_classes=columns)
    if rows:
        report = import_events(path, tmp_path / "data", edge_classes=columns, on_error="drop")
        assert report.events == 1


def test_a_list_with_an_absent_class_is_refused(tmp_path):
    path = tmp_path / "events.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS src, 2 AS dst, 3 AS t, ['a', NULL] AS kinds) TO '{path}' (FORMAT parquet)")
    with pytest.raises(DataError, match=r"column 'kinds' \(edge_classes\): .* has a class that is missing"):
        import_events(path, tmp_path / "data", edge_classes="kinds")


def test_one_class_and_a_label_are_one_too_many(events, tmp_path):
    with pytest.raises(ConfigError, match="--label la and --edge-classes kind"):
        import_events(events, tmp_path / "data", edge_classes="kind", label="la")


def test_labels_and_marks_go_together(events, tmp_path):
    import_events(events, tmp_path / "data", edge_classes="lb,lc", label="la")
    stream = open_stream(tmp_path / "data")
    assert stream.label.tolist() == [0, 1, 0, 1]
    assert stream.classes["edge_classes"] == ("lb", "lc")


def test_node_classes_come_from_a_table_by_source_id(events, tmp_path):
    table = write(tmp_path / "nodes.csv", "id,c,age\nb,5B,1\na,1A,2\nz,9Z,3\n")
    report = import_events(events, tmp_path / "data", node_labels=table, node_label_column="c")
    stream = open_stream(tmp_path / "data", verify=True)
    assert stream.classes == {"node_label": ("1A", "5B", "9Z")}
    assert stream.node_label.tolist() == [0, 1, -1]  # nothing is said of c, and z has no event
    assert report.classes == {"node_label": 3}
    assert summarize(stream)["node_label"] == {"classes": 2, "labelled": 2}


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("id,c\na,1\na,2\n", None, "'a' has more than one class"),
        ("id,c\ny,1\n", None, "no id in column 'id' is a node"),
        ("id,c,d\na,1,1\n", None, "which column holds the classes is not said"),
        ("id,c,d\na,1,1\n", "e", "there is no column 'e'"),
        ("id,c\na,1\nb,2,3\n", None, r"--node-labels .*nodes\.csv, row 2 has not the right number of values.*Correct"),
        ("id,c\na,1,1\nb\nc,2,3,4\n", None, r"nodes\.csv, row 1 .* 3 lines have such a fault"),
    ],
)
def test_node_tables_that_do_not_fit_are_refused(events, tmp_path, text, column, words):
    table = write(tmp_path / "nodes.csv", text)
    with pytest.raises(DataError, match=words):
        import_events(events, tmp_path / "data", node_labels=table, node_label_column=column)
    assert not (tmp_path / "data").exists()


def test_lines_left_out_of_the_events_are_no_fault_of_the_node_table(tmp_path):
    events = write(tmp_path / "e.csv", "src,dst,time\na,b,1\na,b\nb,c,2\n")
    table = write(tmp_path / "nodes.csv", "id,c\na,1\n")
    report = import_events(events, tmp_path / "data", node_labels=table, on_error="drop")
    assert (report.events, report.dropped[0].rows) == (2, 1)


def test_a_table_is_needed_for_its_column(events, tmp_path):
    with pytest.raises(ConfigError, match="--node-labels"):
        import_events(events, tmp_path / "data", node_label_column="c")
    with pytest.raises(DataError, match="not found"):
        import_events(events, tmp_path / "data", node_labels=tmp_path / "no.csv")


def test_ids_on_both_sides_do_not_say_whose_class_it_is(events, tmp_path):
    table = write(tmp_path / "nodes.csv", "id,c\na,1\n")
    with pytest.raises(DataError, match="node labels do not go with this bipartite source"):
        import_events(events, tmp_path / "data", node_labels=table, bipartite=True)


def test_a_saved_stream_keeps_its_classes(tmp_path):
    rng = np.random.default_rng(0)
    stream = EventStream.from_arrays(
        rng.integers(0, 5, 20),
        rng.integers(0, 5, 20),
        rng.integers(0, 9, 20),
        num_nodes=5,
        edge_classes=rng.integers(0, 2, (20, 3)),
        node_label=np.array([0, -1, 1, 1, 0]),
    )
    save_stream(stream, tmp_path / "data")
    again = open_stream(tmp_path / "data")
    np.testing.assert_array_equal(again.edge_classes, stream.edge_classes)
    np.testing.assert_array_equal(again.node_label, stream.node_label)
    assert isinstance(again.edge_classes, np.memmap)


def test_marks_and_classes_must_fit(tmp_path):
    with pytest.raises(DataError, match="node_label has 1 rows for 2 nodes"):
        EventStream.from_arrays([0], [1], [0], node_label=np.array([0]))
