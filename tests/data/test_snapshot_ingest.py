"""Edges from files, queries and event streams to snapshots: literal cases, any events, real data."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data import snapshot_edges
from tgscale.data.directory import read_json
from tgscale.data.ingest import import_events
from tgscale.data.snapshot_ingest import import_snapshots
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.store import fingerprint, lookup_nodes, save_stream
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError, DataError, StoreError

# Node ids 10, 20, 30 become 0, 1, 2. Two rows of snapshot 3 join the same nodes; there is none of snapshot 4.
NUMBERED = "src,dst,t,weight,kind,label\n10,20,3,1.5,0,7\n30,10,5,1,2,8\n10,20,3,2,1,9\n20,20,3,4,0,5\n"
TIMED = "src,dst,time\n0,1,100\n1,2,159\n0,1,110\n2,0,400\n1,0,119\n"


@pytest.fixture
def write(tmp_path):
    """Write a text and import it into a directory that was not there."""

    def run(text, **options):
        (tmp_path / "e.csv").write_text(text)
        return import_snapshots(tmp_path / "e.csv", tmp_path / "out", **options)

    return run


def rows(sequence, t):
    """Edges of a step as (src, dst)."""
    return [tuple(pair) for pair in np.stack(sequence.edges(t), axis=1).tolist()]


def test_numbered_snapshots(write, tmp_path):
    report = write(NUMBERED, snapshots="t")
    sequence = open_snapshots(tmp_path / "out", verify=True)
    assert [rows(sequence, t) for t in range(3)] == [[(0, 1), (1, 1)], [], [(2, 0)]]
    assert sequence.edge_weight.tolist() == [3.5, 4, 1]
    assert sequence.edge_label.tolist() == [7, 5, 8]
    assert sequence.step_time.tolist() == [3, 4, 5]
    assert (sequence.time_unit, sequence.name, sequence.undirected) == ("step", "out", False)
    assert report.relabelled
    assert lookup_nodes_of(tmp_path / "out") == [10, 20, 30]
    source = read_json(tmp_path / "out")["source"]
    assert (source["format"], source["cut"]) == ("csv", {"snapshots": "t", "window": 1})


def lookup_nodes_of(path):
    return pq.read_table(path / "node_ids.parquet")["id"].to_pylist()


def test_edge_types_keep_edges_apart(write):
    sequence = write(NUMBERED, snapshots="t", edge_type="kind", label="").sequence
    assert rows(sequence, 0) == [(0, 1), (0, 1), (1, 1)]
    assert sequence.edge_type.tolist() == [0, 1, 0, 2]
    assert sequence.edge_weight.tolist() == [1.5, 2, 4, 1]
    assert sequence.num_relations == 3
    assert sequence.edge_label is None


def test_both_ways(write):
    sequence = write(NUMBERED, snapshots="t", undirected=True).sequence
    assert [rows(sequence, t) for t in range(3)] == [[(1, 0), (0, 1), (1, 1)], [], [(2, 0), (0, 2)]]
    assert sequence.edge_weight.tolist() == [3.5, 3.5, 4, 1, 1]
    assert sequence.edge_label.tolist() == [7, 7, 5, 8, 8]
    assert sequence.undirected


@pytest.mark.parametrize(
    ("weight", "expected"), [(None, [3.5, 4, 1]), ("count", [2, 1, 1]), ("kind", [1, 0, 2]), ("", None)]
)
def test_weights(write, weight, expected):
    found = write(NUMBERED, snapshots="t", weight=weight).sequence.edge_weight
    assert (None if found is None else found.tolist()) == expected


def test_windows_of_time_begin_at_multiples_of_their_length(write):
    sequence = write(TIMED, every="1min", weight="count").sequence
    assert sequence.step_time.tolist() == [60, 120, 180, 240, 300, 360]
    assert [rows(sequence, t) for t in range(6)] == [[(1, 0), (0, 1)], [(1, 2)], [], [], [], [(2, 0)]]
    assert sequence.edge_weight.tolist() == [1, 2, 1, 1]
    assert sequence.time_unit == "s"


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"every": "60"}, 6),
        ({"every": 60}, 6),
        ({"every": "1m"}, 6),
        ({"every": "1h"}, 1),
        ({"every": "60000ms", "time_unit": "ms"}, 6),
        ({"every": "1min", "time_unit": "ns"}, 6),
        ({"every": "100", "time_unit": "step", "source_time_unit": "step"}, 4),
        ({"events_per_snapshot": 2}, 3),
        ({"events_per_snapshot": 5}, 1),
    ],
)
def test_lengths(write, options, steps):
    assert write(TIMED, **options).sequence.num_steps == steps


def test_a_number_of_events(write):
    sequence = write(TIMED, events_per_snapshot=2).sequence
    assert [rows(sequence, t) for t in range(3)] == [[(0, 1)], [(1, 0), (1, 2)], [(2, 0)]]
    assert sequence.step_time.tolist() == [100, 119, 400]


def test_events_of_one_time_are_cut_in_the_order_of_the_source(write):
    sequence = write("src,dst,time\n0,1,5\n0,2,5\n0,3,5\n", events_per_snapshot=2).sequence
    assert [rows(sequence, t) for t in range(2)] == [[(0, 1), (0, 2)], [(0, 3)]]


def test_intervals_include_both_ends_and_may_overlap(write):
    text = "src,dst,first,last\n0,1,2,4\n0,1,4,5\n1,1,3,3\n2,0,5,5\n"
    sequence = write(text, intervals="first, last").sequence
    assert [rows(sequence, t) for t in range(4)] == [[(0, 1)], [(0, 1), (1, 1)], [(0, 1)], [(2, 0), (0, 1)]]
    assert sequence.step_time.tolist() == [2, 3, 4, 5]


def test_dates_cut_at_midnight(write):
    text = "src,dst,time\n0,1,2024-03-01T23:59:59Z\n1,0,2024-03-02T00:00:00Z\n"
    sequence = write(text, every="1d").sequence
    assert [rows(sequence, t) for t in range(2)] == [[(0, 1)], [(1, 0)]]
    assert sequence.step_time[1] == 1709337600


def test_a_query_text_ids_and_node_features(tmp_path):
    (tmp_path / "e.csv").write_text("who,whom,n\nann,bob,1\ncy,ann,2\n")
    (tmp_path / "n.csv").write_text("id,f\nbob,2\ncy,3\nann,1\n")
    query = "SELECT who AS src, whom AS dst, n FROM source"
    sequence = import_snapshots(
        tmp_path / "e.csv", tmp_path / "out", snapshots="n", query=query, node_features=tmp_path / "n.csv"
    ).sequence
    assert [rows(sequence, t) for t in range(2)] == [[(0, 1)], [(2, 0)]]
    assert sequence.node_features.tolist() == [[1], [2], [3]]


def test_a_stream_in_a_directory_gives_what_its_source_gives(tmp_path):
    (tmp_path / "e.csv").write_text(TIMED.replace("0,", "7,"))
    import_events(tmp_path / "e.csv", tmp_path / "stream")
    for options in ({"every": "1min"}, {"events_per_snapshot": 2, "weight": "count", "undirected": True}):
        import_snapshots(tmp_path / "stream", tmp_path / "a", overwrite=True, **options)
        import_snapshots(tmp_path / "e.csv", tmp_path / "b", overwrite=True, **options)
        assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    assert lookup_nodes(tmp_path / "stream", [7]).tolist() == [2]
    assert lookup_nodes_of(tmp_path / "a") == lookup_nodes_of(tmp_path / "b") == [1, 2, 7]


def test_labels_and_node_features_of_a_stream_are_kept(tmp_path):
    stream = EventStream.from_arrays([0, 0, 1], [1, 1, 2], [5, 6, 70], label=[3, 4, 5], node_features=np.ones((3, 2)))
    save_stream(stream, tmp_path / "stream")
    sequence = import_snapshots(tmp_path / "stream", tmp_path / "out", every=60).sequence
    assert sequence.edge_label.tolist() == [3, 5]
    assert sequence.node_features.tolist() == [[1, 1]] * 3
    assert sequence.edge_weight is None


EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.integers(1, 15), st.booleans())
def test_any_events_equal_a_dictionary(tmp_path_factory, events, length, undirected):
    folder = tmp_path_factory.mktemp("events")
    src, dst, time = (np.array(column) for column in zip(*events, strict=True))
    ids, numbered = np.unique(np.concatenate([src, dst]), return_inverse=True)
    pq.write_table(pa.table({"src": src, "dst": dst, "time": time}), folder / "e.parquet")
    report = import_snapshots(
        folder / "e.parquet", folder / "out", every=length, weight="count", undirected=undirected, time_unit="s"
    )
    expected = {}
    first = time.min() // length
    for u, v, t in zip(numbered[: len(src)].tolist(), numbered[len(src) :].tolist(), time.tolist(), strict=True):
        for pair in {(u, v), (v, u)} if undirected else {(u, v)}:
            key = (t // length - first, *pair)
            expected[key] = expected.get(key, 0) + 1
    sequence = report.sequence
    found = {}
    for t in range(sequence.num_steps):
        weights = sequence.edge_weight[sequence.edge_rows(t)].tolist()
        found |= {(t, *pair): weight for pair, weight in zip(rows(sequence, t), weights, strict=True)}
    assert found == expected
    assert sequence.num_nodes == len(ids)
    assert sequence.num_steps == time.max() // length - first + 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, r"in one way: --snapshots COLUMN, --every 1d, .*; none of them was given"),
        ({"every": "1d", "snapshots": "t"}, ConfigError, "snapshots and every were given"),
        (
            {"every": "soon"},
            ConfigError,
            "--every 'soon' is no length of time: give one such as 1w, 1d, 6h, 30min or 3600",
        ),
        ({"every": "0d"}, ConfigError, "no length of time"),
        ({"every": "500ms"}, ConfigError, "no whole number of s: import with --time-unit ms"),
        ({"every": "1d", "time_unit": "step"}, ConfigError, "time unit 'step', so give a number"),
        ({"events_per_snapshot": 0}, ConfigError, "give at least 1"),
        ({"intervals": "first"}, ConfigError, "is not two columns: give them as FIRST,LAST"),
        ({"snapshots": "t", "time": "time"}, ConfigError, "--time time does not go with the numbered snapshots of 't'"),
        ({"snapshots": "t", "time_unit": "ms"}, ConfigError, "have no time unit"),
        ({"snapshots": "tt"}, DataError, r"no column 'tt' for time; it has src, dst, t, .* Did you mean 't'\?"),
        ({"snapshots": "t", "weight": "wait"}, DataError, "no column 'wait' for weight.* Did you mean 'weight'"),
        ({"intervals": "t,kind"}, DataError, r"row 1, column 'kind' \(until\): '0' is not an integer that is at least"),
    ],
)
def test_mistakes(write, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        write(NUMBERED, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("10,5,1,2", "10,5,inf,2", r"row 2, column 'weight' \(weight\): 'inf' is not a finite 32-bit number"),
        ("10,5,1,2", "10,5,,2", r"row 2, column 'weight' \(weight\): the value is missing"),
        ("10,5,1,2", "10,5,1,-2", r"row 2, column 'kind' \(edge_type\): '-2' is not an integer from 0 to 32767"),
        ("10,5,1,2", "10,5.5,1,2", r"row 2, column 't' \(time\): '5.5' has a fraction"),
    ],
)
def test_bad_rows_are_named_or_left_out(write, tmp_path, old, new, message):
    with pytest.raises(DataError, match=message):
        write(NUMBERED.replace(old, new), snapshots="t", edge_type="kind")
    assert not (tmp_path / "out").exists()
    report = write(NUMBERED.replace(old, new), snapshots="t", edge_type="kind", on_error="drop")
    assert [dropped.rows for dropped in report.dropped] == [1]
    assert report.sequence.num_edges == 3


def test_an_absurd_number_of_snapshots_is_refused(write):
    text = "src,dst,time\n0,1,1000000000\n1,0,1200000000\n"
    with pytest.raises(ConfigError, match=r"--every 1s makes 200,000,001 snapshots.* at least 201 times as long"):
        write(text, every="1s")
    with pytest.raises(ConfigError, match=r"--snapshots time makes 200,000,001 snapshots.* use --every 1d"):
        write(text, snapshots="time")


def test_what_looks_odd_is_said(write):
    assert write("src,dst,time\n0,1,0\n1,0,19\n", every=10, overwrite=True).hints == []
    [hint] = write("src,dst,time\n0,1,0\n1,0,12\n", every=10, overwrite=True).hints
    assert hint.startswith("the last snapshot, from 10 s on, has events of 30% of its time alone")
    assert "one snapshot only" in write(TIMED, every="1d", overwrite=True).hints[0]
    assert "4 of 6 snapshots are empty" in write("src,dst,time\n0,1,0\n1,0,55\n", every=10, overwrite=True).hints[0]


def test_a_data_directory_has_its_columns_settled(tmp_path):
    save_stream(EventStream.from_arrays([0, 1], [1, 0], [5, 70]), tmp_path / "stream")
    for options in ({"src": "a"}, {"weight": "w"}, {"snapshots": "t"}, {"query": "SELECT 1"}, {"label": "l"}):
        options = {"every": 60} | options if "snapshots" not in options else options
        with pytest.raises(ConfigError, match=r"does not go with .*stream, a data directory"):
            import_snapshots(tmp_path / "stream", tmp_path / "out", **options)
    import_snapshots(tmp_path / "stream", tmp_path / "out", every=60)
    with pytest.raises(StoreError, match="holds a snapshot sequence"):
        import_snapshots(tmp_path / "out", tmp_path / "again", every=60)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"time_unit": "ms"}, "--time-unit ms"),
        ({"source_time_unit": "ms"}, "--source-time-unit ms"),
        ({"ids": "text"}, "--ids text"),
        ({"format": "csv"}, "--format csv"),
        ({"bipartite": True}, "--bipartite"),
        ({"on_error": "drop"}, "--on-error drop"),
        ({"node_features": "n.csv"}, "--node-features n.csv"),
    ],
)
def test_a_data_directory_is_not_read_in_another_way(tmp_path, option, said):
    save_stream(EventStream.from_arrays([0, 1], [1, 0], [5, 70]), tmp_path / "stream")
    with pytest.raises(ConfigError, match=f"^{said} does not go with .*stream, a data directory.* leave it out"):
        import_snapshots(tmp_path / "stream", tmp_path / "out", every=60, **option)
    assert not (tmp_path / "out").exists()


def test_a_target_that_exists_is_refused_before_the_work(write, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="already exists"):
        write("no table", snapshots="t")


def test_enron(shared_data, tmp_path):
    sequence = import_snapshots(shared_data("ctgcn_enron/events.parquet"), tmp_path / "out", snapshots="t").sequence
    sizes = sequence.edge_counts()
    assert (sequence.num_steps, sequence.num_nodes, sizes.sum()) == (38, 87_036, 530_284)
    assert (sizes.min(), sizes.max()) == (342, 48_870)
    source = pq.read_table(shared_data("ctgcn_enron/events.parquet"))
    assert sequence.edge_weight.sum(dtype=np.float64) == np.sum(source["weight"].to_numpy(), dtype=np.int64)
    assert sizes.tolist() == np.bincount(source["t"].to_numpy()).tolist()


def test_as733(shared_data, tmp_path):
    file = shared_data("as733/intervals.parquet")
    sequence = import_snapshots(file, tmp_path / "out", intervals="first,last", undirected=True).sequence
    assert (sequence.num_steps, sequence.num_nodes, sequence.num_edges) == (733, 7_716, 11_965_533)
    loops = sum(int(np.count_nonzero(np.equal(*sequence.edges(t)))) for t in range(733))
    assert (sequence.num_edges - loops) // 2 + loops == 6_260_128
    src, dst = sequence.edges(400)
    assert set(zip(src.tolist(), dst.tolist(), strict=True)) == set(zip(dst.tolist(), src.tolist(), strict=True))


def test_wikipedia_by_day(shared_data, tmp_path):
    file = shared_data("wikipedia/events.parquet")
    sequence = import_snapshots(file, tmp_path / "out", every="1d", weight="count").sequence
    time = pq.read_table(file)["t"].to_numpy().astype(np.int64)
    per_day = [sequence.edge_weight[sequence.edge_rows(t)].sum() for t in range(sequence.num_steps)]
    assert per_day == np.bincount(time // 86_400).tolist()


def test_relations_of_gdelt(shared_data, tmp_path):
    file = shared_data("tkg_gdelt/events.parquet")
    options = {"every": 1440, "edge_type": "rel", "time_unit": "step", "source_time_unit": "step"}
    sequence = import_snapshots(file, tmp_path / "out", **options).sequence
    table = pq.read_table(file)
    src, dst, time, rel = (table[name].to_numpy().astype(np.int64) for name in ("src", "dst", "t", "rel"))
    distinct = np.unique(((time // 1440 * 7_398 + dst) * 7_398 + src) * 240 + rel)
    assert sequence.num_edges == len(distinct)
    assert sequence.num_relations == rel.max() + 1


@pytest.mark.parametrize(
    "options",
    [
        {"every": 3, "undirected": True, "weight": "count"},
        {"events_per_snapshot": 7, "edge_type": "kind"},
        {"intervals": "time,last", "undirected": True, "label": "kind"},
    ],
)
def test_merged_in_small_batches_it_is_the_same(tmp_path, monkeypatch, options):
    rng = np.random.default_rng(0)
    time = rng.integers(0, 40, 300)
    columns = {"src": rng.integers(0, 9, 300), "dst": rng.integers(0, 9, 300), "time": time, "kind": time % 3}
    columns["last"] = time + rng.integers(0, 9, 300)
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    batches = []
    merge = snapshot_edges._merge_edges
    monkeypatch.setattr(snapshot_edges, "_merge_edges", lambda *given: batches.append(given[-2:]) or merge(*given))
    import_snapshots(tmp_path / "e.parquet", tmp_path / "whole", **options)
    assert len(batches) == 1
    monkeypatch.setattr(snapshot_edges, "ROW_BYTES", 2 * 10**9 // 50)  # 50 rows in a batch
    import_snapshots(tmp_path / "e.parquet", tmp_path / "parts", **options)
    assert len(batches) > 6
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "parts")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 20))
def test_batches_cover_every_step_once_and_are_small(rows, most):
    batches = list(snapshot_edges._batches(np.array(rows), most))
    assert [step for first, last in batches for step in range(first, last + 1)] == list(range(len(rows)))
    assert all(sum(rows[first : last + 1]) <= most or first == last for first, last in batches)
