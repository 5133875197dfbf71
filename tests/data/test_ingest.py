"""Import: every way in gives the same events, sorted, relabelled, bounded."""

import json
from dataclasses import fields

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tgscale.data import staging
from tgscale.data.index import build_pair_index, build_tcsr
from tgscale.data.ingest import import_events
from tgscale.data.store import lookup_nodes, open_stream, read_meta
from tgscale.data.stream import EventStream, Split
from tgscale.errors import DataError, StoreError


def write_csv(path, table):
    with duckdb.connect() as db:
        db.register("rows", pa.table(table))
        db.execute(f"COPY rows TO '{path}' (FORMAT csv, HEADER)")
    return path


def write_parquet(path, table):
    pq.write_table(pa.table(table), path)
    return path


def write_json(path, table):
    rows = pa.table(table).to_pylist()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


WRITERS = {"csv": write_csv, "parquet": write_parquet, "json": write_json}


@st.composite
def tables(draw):
    events = draw(st.integers(1, 40))
    ids = hnp.arrays(np.int64, events, elements=st.integers(0, draw(st.sampled_from([3, 30, 10**12]))))
    table = {"src": draw(ids), "dst": draw(ids)}
    table["time"] = draw(
        hnp.arrays(np.int64, events, elements=st.integers(0, draw(st.sampled_from([3, 10**9, 2**62]))))
    )
    if draw(st.booleans()):
        table["label"] = draw(hnp.arrays(np.int64, events, elements=st.integers(-5, 5)))
    for i in range(draw(st.integers(0, 3))):
        finite = st.floats(-(2.0**100), 2.0**100, width=32)
        table[f"f{i}"] = draw(hnp.arrays(np.float32, events, elements=finite))
    return table


def expected_stream(table):
    """The same events by NumPy alone: dense ids in ascending order, stable sort by time."""
    ids, dense = np.unique(np.concatenate([table["src"], table["dst"]]), return_inverse=True)
    events = len(table["src"])
    features = [column for name, column in table.items() if name.startswith("f")]
    return ids, EventStream.from_arrays(
        dense[:events],
        dense[events:],
        table["time"],
        num_nodes=len(ids),
        label=table.get("label"),
        edge_features=np.stack(features, axis=1) if features else None,
    )


def assert_same_events(found, expected):
    for name in ("src", "dst", "time", "label", "edge_features"):
        a, b = getattr(found, name), getattr(expected, name)
        if b is None:
            assert a is None, name
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
            assert a.dtype == b.dtype, name
    assert found.num_nodes == expected.num_nodes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), format=st.sampled_from(sorted(WRITERS)))
def test_round_trip(tmp_path_factory, table, format):
    folder = tmp_path_factory.mktemp("trip")
    file = WRITERS[format](folder / f"events.{format}", table)
    features = [name for name in table if name.startswith("f")]
    report = import_events(file, folder / "store", edge_features=features)
    ids, expected = expected_stream(table)
    found = open_stream(folder / "store", verify=True)
    assert_same_events(found, expected)
    assert report.events == len(table["src"])
    assert report.format == format
    assert report.relabelled == (ids[-1] != len(ids) - 1)
    np.testing.assert_array_equal(lookup_nodes(folder / "store", ids.tolist()), np.arange(len(ids)))
    for stored, built in (
        (found.stored_tcsr, build_tcsr(expected.src, expected.dst, len(ids))),
        (found.stored_pairs, build_pair_index(expected.src, expected.dst, len(ids))),
    ):
        for field in fields(built):
            np.testing.assert_array_equal(getattr(stored, field.name), getattr(built, field.name))


def test_text_ids_are_numbered_in_order_and_kept(tmp_path):
    table = {"src": ["bob", "eve", "bob"], "dst": ["Ann", "bob", "zoë, x"], "time": [3, 1, 2]}
    report = import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store")
    stream = open_stream(tmp_path / "store")
    assert report.relabelled
    assert stream.src.tolist() == [2, 1, 1]
    assert stream.dst.tolist() == [1, 3, 0]
    mapping = pq.read_table(tmp_path / "store" / "node_ids.parquet").to_pydict()
    assert mapping == {"node": [0, 1, 2, 3], "id": ["Ann", "bob", "eve", "zoë, x"]}
    assert lookup_nodes(tmp_path / "store", ["eve", "nobody", "Ann"]).tolist() == [2, -1, 0]


@pytest.mark.parametrize("bipartite", [False, True])
def test_ids_with_leading_zeros_are_text(tmp_path, bipartite):
    table = {"src": ["007", "7", "0"], "dst": ["8", "9", "8"], "time": [1, 2, 3]}
    import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store", bipartite=bipartite)
    side = "src" if bipartite else None
    assert lookup_nodes(tmp_path / "store", ["0", "007", "7"], side).tolist() == [0, 1, 2]
    import_events(tmp_path / "e.csv", tmp_path / "int", bipartite=bipartite, ids="int")
    assert lookup_nodes(tmp_path / "int", ["0", "7"], side).tolist() == [0, 1]


def test_a_later_id_with_leading_zeros_is_no_integer(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "SAMPLE", 2)
    table = {"src": ["7", "8", "007"], "dst": [1, 2, 3], "time": [1, 2, 3]}
    with pytest.raises(DataError, match=r"row 3, column 'src' \(src\): '007' is not an integer id .*--ids text"):
        import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store")


@pytest.mark.parametrize("delimiter", [",", "\t", ";", " "])
def test_names_of_columns_may_have_spaces(tmp_path, delimiter):
    gap = "_" if delimiter == " " else " "
    lines = ["who is it,to whom,when,the one f", "1,2,3,0.5"]
    (tmp_path / "e.csv").write_text("\n".join(lines).replace(" ", gap).replace(",", delimiter))
    names = {"src": "who is it", "dst": "to whom", "edge_features": "the one f"}
    names = {role: name.replace(" ", gap) for role, name in names.items()}
    import_events(tmp_path / "e.csv", tmp_path / "store", time="when", **names)
    assert open_stream(tmp_path / "store").edge_features.tolist() == [[0.5]]


def test_text_on_one_side_makes_text_of_both(tmp_path):
    table = {"src": ["1", "2"], "dst": ["page", "1"], "time": [1, 2]}
    import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store")
    assert lookup_nodes(tmp_path / "store", ["1", "2", "page"]).tolist() == [0, 1, 2]


def test_dense_ids_stay_and_need_no_mapping(tmp_path):
    report = import_events(
        write_parquet(tmp_path / "e.parquet", {"src": [2, 0], "dst": [1, 2], "time": [0, 1]}), tmp_path / "store"
    )
    assert not report.relabelled
    assert not (tmp_path / "store" / "node_ids.parquet").exists()
    assert open_stream(tmp_path / "store").src.tolist() == [2, 0]
    assert lookup_nodes(tmp_path / "store", [2, 3, -1]).tolist() == [2, -1, -1]


def test_bipartite_ids_are_apart(tmp_path):
    table = {"src": [5, 7, 5], "dst": [5, 5, 6], "time": [0, 1, 2]}
    report = import_events(write_parquet(tmp_path / "e.parquet", table), tmp_path / "store", bipartite=True)
    stream = open_stream(tmp_path / "store")
    assert (report.num_sources, report.nodes) == (2, 4)
    assert stream.num_sources == 2
    assert stream.src.tolist() == [0, 1, 0]
    assert stream.dst.tolist() == [2, 2, 3]
    assert lookup_nodes(tmp_path / "store", [5, 7], side="src").tolist() == [0, 1]
    assert lookup_nodes(tmp_path / "store", [5, 7], side="dst").tolist() == [2, -1]
    with pytest.raises(StoreError, match="give side"):
        lookup_nodes(tmp_path / "store", [5])


def test_bipartite_dense_ids_need_no_mapping(tmp_path):
    table = {"src": [0, 1], "dst": [0, 0], "time": [0, 1]}
    import_events(write_parquet(tmp_path / "e.parquet", table), tmp_path / "store", bipartite=True)
    assert not (tmp_path / "store" / "node_ids.parquet").exists()
    assert lookup_nodes(tmp_path / "store", [0, 1, "x"], side="dst").tolist() == [2, -1, -1]


def test_bipartite_with_text_on_one_side(tmp_path):
    table = {"user": [10, 2, 10], "item": ["x", "10", "x"], "t": [0, 1, 2]}
    import_events(write_parquet(tmp_path / "e.parquet", table), tmp_path / "store", bipartite=True)
    assert open_stream(tmp_path / "store").src.tolist() == [1, 0, 1]  # by value, not by letters
    assert lookup_nodes(tmp_path / "store", ["10", "x"], side="dst").tolist() == [2, 3]


def test_events_of_one_time_keep_the_order_of_the_files(tmp_path):
    for part in range(3):
        table = {"src": np.arange(500) + 500 * part, "dst": np.zeros(500, int), "time": np.arange(500) % 2}
        write_parquet(tmp_path / f"part-{part}.parquet", table)
    import_events(str(tmp_path / "part-*.parquet"), tmp_path / "store", name="parts")
    stream = open_stream(tmp_path / "store")
    everyone = np.arange(1500)
    assert stream.src.tolist() == everyone[everyone % 2 == 0].tolist() + everyone[everyone % 2 == 1].tolist()
    assert stream.name == "parts"


@pytest.mark.parametrize("source", [["b.csv", "a.csv"], "."])
def test_several_files_and_folders(tmp_path, source):
    write_csv(tmp_path / "a.csv", {"src": [0], "dst": [1], "time": [7]})
    write_csv(tmp_path / "b.csv", {"src": [1], "dst": [0], "time": [7]})
    (tmp_path / "notes.md").write_text("not data")
    paths = [tmp_path / name for name in source] if isinstance(source, list) else tmp_path
    import_events(paths, tmp_path / "store")
    first = 1 if isinstance(source, list) else 0  # as listed, or by name
    assert open_stream(tmp_path / "store").src.tolist() == [first, 1 - first]


@pytest.mark.parametrize("packed", ["gz", "xz", "bz2", "zst"])
def test_compressed_text(tmp_path, packed):
    text = b"src\tdst\tt\n0\t1\t5\n1\t0\t4\n"
    if packed == "zst":
        data = pa.compress(text, codec="zstd", asbytes=True)
    else:
        import bz2
        import gzip
        import lzma

        data = {"gz": gzip, "xz": lzma, "bz2": bz2}[packed].compress(text)
    (tmp_path / f"e.tsv.{packed}").write_bytes(data)
    report = import_events(tmp_path / f"e.tsv.{packed}", tmp_path / "store")
    assert open_stream(tmp_path / "store").time.tolist() == [4, 5]
    assert report.format == "csv"
    assert read_meta(tmp_path / "store")["source"]["files"] == [str(tmp_path / f"e.tsv.{packed}")]


def test_windows_line_ends_quotes_and_byte_order_mark(tmp_path):
    (tmp_path / "e.csv").write_bytes('\ufeff"src",dst,"time"\r\n"a, b",c,1\r\n"say ""hi""",c,2\r\n'.encode())
    import_events(tmp_path / "e.csv", tmp_path / "store")
    assert lookup_nodes(tmp_path / "store", ["a, b", 'say "hi"', "c"]).tolist() == [0, 2, 1]


def test_named_columns_and_feature_patterns(tmp_path):
    table = {"who": [0, 1], "what": [1, 0], "when": [2, 1], "v1": [1.5, 2.5], "v2": [3, 4], "w": [True, False]}
    import_events(
        write_parquet(tmp_path / "e.parquet", table),
        tmp_path / "store",
        src="who",
        dst="what",
        time="when",
        label="v2",
        edge_features="v*,w",
    )
    stream = open_stream(tmp_path / "store")
    assert stream.edge_features.tolist() == [[2.5, 0], [1.5, 1]]  # the label is no feature
    assert stream.label.tolist() == [4, 3]


@pytest.mark.parametrize("format", ["parquet", "json"])
def test_features_as_one_column_of_lists(tmp_path, format):
    table = {"src": [0, 1], "dst": [1, 0], "time": [2, 1], "vector": [[1.0, 2.0], [3.0, 4.5]]}
    file = WRITERS[format](tmp_path / f"e.{format}", table)
    import_events(file, tmp_path / "store", edge_features="vector")
    assert open_stream(tmp_path / "store").edge_features.tolist() == [[3, 4.5], [1, 2]]


def test_a_guessed_label_of_text_is_left_out(tmp_path):
    table = {"src": [0, 1], "dst": [1, 0], "time": [2, 1], "label": ["spam", "ham"]}
    import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store")
    assert open_stream(tmp_path / "store").label is None


def test_an_empty_label_means_none(tmp_path):
    table = {"src": [0, 1], "dst": [1, 0], "time": [2, 1], "label": [1, 0]}
    import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store", label="")
    assert open_stream(tmp_path / "store").label is None


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([1.0, 2.0], {}, [1, 2]),
        (["1.0", "2e3"], {}, [1, 2000]),
        ([1.5, 2.25], {"time_unit": "ms"}, [1500, 2250]),
        (["1289241911.72836", "1289241911.5"], {"time_unit": "us"}, [1289241911500000, 1289241911728360]),
        ([1, 2], {"time_unit": "us"}, [1_000_000, 2_000_000]),
        ([1, 2], {"time_unit": "ms", "source_time_unit": "ms"}, [1, 2]),
        ([1, 2], {"time_unit": "step"}, [1, 2]),
        (["9007199254740993", "9007199254740992"], {}, [9007199254740992, 9007199254740993]),
        (["1970-01-02", "1970-01-01"], {}, [0, 86400]),
        (["1970-01-01 00:00:01.250", "1970-01-01T00:00:02Z"], {"time_unit": "ms"}, [1250, 2000]),
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:03"], {}, [0, 3]),
    ],
)
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_times(tmp_path, format, values, options, expected):
    table = {"src": [0, 1], "dst": [1, 0], "time": values}
    import_events(WRITERS[format](tmp_path / f"e.{format}", table), tmp_path / "store", **options)
    stream = open_stream(tmp_path / "store")
    assert stream.time.tolist() == expected
    assert stream.time_unit == options.get("time_unit", "s")


@pytest.mark.parametrize("type", ["s", "ms", "us", "ns"])
def test_parquet_timestamps(tmp_path, type):
    times = pa.array(np.array(["2020-01-01T00:00:02", "2020-01-01T00:00:01"], f"datetime64[{type}]"))
    file = write_parquet(tmp_path / "e.parquet", {"src": [0, 1], "dst": [1, 0], "time": times})
    import_events(file, tmp_path / "store")
    assert open_stream(tmp_path / "store").time.tolist() == [1577836801, 1577836802]


def test_milliseconds_taken_for_seconds_are_pointed_out(tmp_path):
    table = {"src": [0, 1], "dst": [1, 0], "time": [1_700_000_000_000, 1_700_000_000_500]}
    file = write_parquet(tmp_path / "e.parquet", table)
    report = import_events(file, tmp_path / "a")
    assert "--source-time-unit ms" in report.hints[0]
    report = import_events(file, tmp_path / "b", time_unit="ms", source_time_unit="ms")
    assert report.hints == []


def test_a_span_of_centuries_is_pointed_out(tmp_path):
    table = {"src": [0, 1], "dst": [1, 0], "time": [0, 97403 * 86400]}
    report = import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "a")
    assert report.hints[0].startswith("the times span 97403 days, 0:00:00: that is more than a century.")
    table["time"] = ["1975-01-01", "2099-01-01"]  # dates are meant
    assert import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "b").hints == []


def test_query_over_its_own_files(tmp_path):
    file = write_csv(tmp_path / "e.csv", {"a": [0, 1, 2], "b": [1, 0, 1], "t": [3, 2, 1]})
    report = import_events(
        None, tmp_path / "store", query=f"SELECT a AS src, b AS dst, t AS time FROM '{file}' WHERE a < 2;"
    )
    assert report.format == "query"
    assert open_stream(tmp_path / "store").time.tolist() == [2, 3]


def test_query_over_the_source(tmp_path):
    file = write_csv(tmp_path / "e.csv", {"a": [0, 1, 2], "b": [1, 0, 1], "t": [3, 2, 1]})
    query = "SELECT a::INT AS src, b::INT AS dst, t::INT * 10 AS time FROM source"
    import_events(file, tmp_path / "store", query=query)
    assert open_stream(tmp_path / "store").time.tolist() == [10, 20, 30]


def test_split_column(tmp_path):
    table = {"src": [0] * 6, "dst": [1] * 6, "time": [5, 0, 1, 2, 3, 4], "part": [2, 0, 0, 0, 1, 2]}
    import_events(write_csv(tmp_path / "e.csv", table), tmp_path / "store", split="part")
    stream = open_stream(tmp_path / "store")
    assert stream.source_split == stream.split() == Split(3, 4, 6)


def test_node_features_from_an_array(tmp_path):
    file = write_csv(tmp_path / "e.csv", {"src": [3, 1], "dst": [1, 5], "time": [0, 1]})
    np.save(tmp_path / "nodes.npy", np.arange(12.0).reshape(6, 2))
    report = import_events(file, tmp_path / "store", node_features=tmp_path / "nodes.npy")
    assert report.node_dim == 2
    assert open_stream(tmp_path / "store").node_features.tolist() == [[2, 3], [6, 7], [10, 11]]


def test_node_features_from_a_table(tmp_path):
    file = write_csv(tmp_path / "e.csv", {"src": ["x", "y"], "dst": ["y", "z"], "time": [0, 1]})
    nodes = write_csv(
        tmp_path / "n.csv", {"size": [1.5, 2.5, 9, 3.5], "id": ["z", "x", "other", "y"], "age": [1, 2, 9, 3]}
    )
    import_events(file, tmp_path / "store", node_features=nodes)
    assert open_stream(tmp_path / "store").node_features.tolist() == [[2.5, 2], [3.5, 3], [1.5, 1]]


def test_report_and_meta_say_what_was_done(tmp_path):
    file = write_csv(tmp_path / "e.csv", {"u": [4, 2], "v": [2, 8], "ts": [9, 3], "f0": [1, 2]})
    report = import_events(file, tmp_path / "wiki", edge_features="f*")
    assert (report.events, report.nodes, report.edge_dim, report.node_dim) == (2, 3, 1, 0)
    assert (report.first_time, report.last_time) == (3, 9)
    assert (report.columns.src, report.columns.dst, report.columns.time) == ("u", "v", "ts")
    assert report.bytes == sum(f.stat().st_size for f in (tmp_path / "wiki").iterdir())
    meta = read_meta(tmp_path / "wiki")
    assert (meta["name"], meta["events"], meta["nodes"], meta["edge_dim"]) == ("wiki", 2, 3, 1)
    assert meta["source"]["format"] == "csv"
    assert meta["source"]["files"] == [str(file)]
    assert meta["source"]["source_time_unit"] == "s"


def test_progress_is_told(tmp_path):
    steps = []
    file = write_csv(tmp_path / "e.csv", {"src": [0], "dst": [1], "time": [0]})
    import_events(file, tmp_path / "store", progress=steps.append)
    assert steps == ["reading", "checking", "sorting", "indexing", "checksums"]


@pytest.mark.slow
def test_sorting_of_more_than_the_memory_limit(tmp_path):
    """224 MB of features, of which at most 200 MB are in memory at a time."""
    rng = np.random.default_rng(0)
    events, width = 700_000, 80
    features = rng.random((events, width), dtype=np.float32)
    table = {name: rng.integers(0, 999, events) for name in ("src", "dst", "time")}
    columns = pa.table(table | {f"f{i}": features[:, i] for i in range(width)})
    pq.write_table(columns, tmp_path / "e.parquet", row_group_size=50_000, compression="none", use_dictionary=False)
    import_events(tmp_path / "e.parquet", tmp_path / "store", edge_features="f*", memory_limit="400MB")
    order = np.argsort(table["time"], kind="stable")
    stream = open_stream(tmp_path / "store")
    np.testing.assert_array_equal(stream.time, table["time"][order])
    np.testing.assert_array_equal(stream.src, np.unique(table["src"], return_inverse=True)[1][order])
    np.testing.assert_array_equal(stream.edge_features, features[order])


def test_real_stream(tmp_path, shared_data):
    file = shared_data("wikipedia/events.parquet")
    report = import_events(file, tmp_path / "wiki")
    stream = open_stream(tmp_path / "wiki", verify=True)
    table = pq.read_table(file)
    assert (report.events, report.nodes, report.relabelled) == (157_474, 9_227, False)
    np.testing.assert_array_equal(stream.time, table["t"].to_numpy())
    np.testing.assert_array_equal(stream.src, table["src"].to_numpy())
    np.testing.assert_array_equal(stream.label, table["label"].to_numpy())


def test_json_array(tmp_path):
    rows = [{"src": "a", "dst": "b", "time": 2.0}, {"src": "b", "dst": 7, "time": "1"}]
    (tmp_path / "e.json").write_text(json.dumps(rows, indent=2))
    import_events(tmp_path / "e.json", tmp_path / "store")
    assert open_stream(tmp_path / "store").time.tolist() == [1, 2]
    assert lookup_nodes(tmp_path / "store", ["7", "a", "b"]).tolist() == [0, 1, 2]
