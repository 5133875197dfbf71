"""What is wrong is refused, in words that name it, and nothing is left behind."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tgscale.data import directory, store
from tgscale.data.ingest import import_events
from tgscale.data.snapshot_ingest import import_snapshots
from tgscale.data.store import open_stream, save_stream
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError, DataError, StoreError

GOOD = "src,dst,time,f0,f1\n1,2,3,0.5,1\n2,3,4,0.5,1\n"


@pytest.fixture
def folder(tmp_path):
    """A folder in which, after the test, no import has left anything but what the test put there."""
    (tmp_path / "out").mkdir()
    yield tmp_path
    assert [path.name for path in (tmp_path / "out").iterdir()] in ([], ["store"])


def refused(folder, text, *words, error=DataError, name="e.csv", **options):
    """Import text that must be refused with all these words, and leave nothing."""
    (folder / name).write_text(text)
    with pytest.raises(error) as caught:
        import_events(folder / name, folder / "out" / "store", **options)
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))
    assert list((folder / "out").iterdir()) == []


# Columns, files, formats


@pytest.mark.parametrize(("gone", "role"), [("src", "src"), ("dst", "dst"), ("time", "time")])
def test_missing_column(folder, gone, role):
    refused(folder, GOOD.replace(gone, "xyz"), f"like {role}", "it has", "xyz", "f1", f"--{role} NAME", "e.csv")


def test_all_missing_columns_are_named_at_once(folder):
    text = "a,b,c\n1,2,3\n"
    refused(folder, text, "like src (", "none like dst (", "none like time (", "--src NAME --dst NAME --time NAME")
    refused(folder, text, "like dst (", "--dst NAME --time NAME.", src="a")


def test_a_column_of_another_role_is_not_suggested(folder):
    (folder / "e.csv").write_text("from_account,to_account,time\n1,2,3\n")
    with pytest.raises(DataError, match=r"no column 'account' for src; .*\. Did you mean 'from_account'\?$"):
        import_events(folder / "e.csv", folder / "out" / "store", src="account", dst="to_account")


@pytest.mark.parametrize("option", ["src", "dst", "time", "label", "split"])
def test_column_named_by_the_caller_is_missing(folder, option):
    refused(folder, GOOD, "no column 'tim'", f"for {option}", "Did you mean 'time'?", **{option: "tim"})


def test_feature_pattern_without_a_match(folder):
    refused(folder, GOOD, "'g*'", "--edge-features", "src, dst, time, f0, f1", edge_features="f*,g*")


@pytest.mark.parametrize("option", ["edge_features", "edge_classes"])
def test_the_nearest_column_is_suggested(folder, option):
    text = "src,dst,time,currency\n1,2,3,4\n"
    refused(folder, text, "no column 'curency' for --edge-", "Did you mean 'currency'?", **{option: "curency"})


def test_empty_file(folder):
    refused(folder, "", "e.csv is empty")


@pytest.mark.parametrize("name", ["e.parquet", "e.json"])
def test_empty_file_of_another_format(folder, name):
    refused(folder, "", f"{name} is empty", name=name)


def test_header_without_rows(folder):
    refused(folder, "src,dst,time\n", "e.csv has no rows")
    refused(folder, GOOD, "the query has no rows", query="SELECT * FROM source WHERE src = '9'")


def test_rows_without_header(folder):
    refused(folder, "1,2,3\n4,5,6\n", "(1,2,3)", "no column names", "src,dst,time")


def test_column_twice(folder):
    refused(folder, "src,dst,time,Time\n1,2,3,4\n", "'time'", "twice")


def test_files_with_different_columns(folder):
    (folder / "d.csv").write_text("src,dst,when\n1,2,3\n")
    (folder / "e.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"e\.csv has columns .*d\.csv has"):
        import_events(str(folder / "*.csv"), folder / "out" / "store")


def test_not_parquet(folder):
    refused(folder, "hello, this is not Parquet at all", "cannot be read", "e.parquet", name="e.parquet")


def test_not_json(folder):
    text = '{"src": 1, "dst": 2, "time": 3}\n{"src": 1, "ds\n'
    refused(folder, text, "e.json, row 2: the line holds no JSON object", name="e.json")


def test_compressed_file_cut_short(folder):
    import lzma

    (folder / "e.csv.xz").write_bytes(lzma.compress(GOOD.encode() * 1000)[:-40])
    with pytest.raises(DataError, match=r"e\.csv\.xz .*damaged or cut short"):
        import_events(folder / "e.csv.xz", folder / "out" / "store")


def test_source_missing(folder):
    with pytest.raises(DataError, match=r"nowhere-\*\.csv not found"):
        import_events(str(folder / "nowhere-*.csv"), folder / "out" / "store")


def test_nothing_to_import(folder):
    with pytest.raises(ConfigError, match=r"give a source, or a --query"):
        import_events(None, folder / "out" / "store")


def test_unknown_format_name(folder):
    refused(folder, GOOD, "'parket'", "Did you mean parquet?", error=ConfigError, format="parket")


def test_unknown_format_of_a_file(folder):
    refused(folder, GOOD, "e.dat", "--format", "csv", name="e.dat")


def test_wrong_query(folder):
    refused(folder, GOOD, "--query", "FORM", error=ConfigError, query="SELECT * FORM source")


def test_a_query_that_calculates_with_text(folder):
    (folder / "e.csv").write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        import_events(folder / "e.csv", folder / "out" / "store", query="SELECT *, 1 + f0 AS g FROM source")
    lines = str(caught.value).splitlines()
    assert "No function matches" in lines[0]
    assert "CAST(x AS DOUBLE)" in lines[1]
    assert "1 + f0" in lines[2]
    assert lines[3].strip() == "^"
    assert len(lines) == 4


# Options


@pytest.mark.parametrize("memory", ["2 apples", "GB", "-1GB", "2", ""])
def test_memory_limit_that_is_no_amount(folder, memory):
    refused(folder, GOOD, "--memory-limit", "2GB", error=ConfigError, memory_limit=memory)


def test_memory_limit_too_little(folder):
    refused(folder, GOOD, "--memory-limit 10MB", "at least", error=ConfigError, memory_limit="10MB")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_error": "ignore"}, ("--on-error", "stop or drop")),
        ({"ids": "hex"}, ("--ids", "auto or int or text")),
        ({"time_unit": "min"}, ("--time-unit 'min'", "ms")),
        ({"source_time_unit": "ms"}, ("coarser", "--time-unit ms")),
    ],
)
def test_options_that_cannot_be(folder, options, words):
    refused(folder, GOOD, *words, error=ConfigError, **options)


def test_steps_from_dates(folder):
    text = "src,dst,time\n1,2,2020-01-01\n"
    refused(folder, text, "--time-unit step", "dates", error=ConfigError, time_unit="step")


# Values, each by file, row, column and value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("-5", ("'-5'", "is negative", "shift")),
        ("nan", ("'nan'", "is not a number")),
        ("", ("the value is missing",)),
        ("noon", ("'noon'", "neither a number nor a date")),
        ("3.5", ("'3.5'", "has a fraction", "--time-unit ms, us or ns")),
        ("99999999999999999999", ("99999999999999999999", "does not fit into 64 bits")),
        ("inf", ("'inf'", "does not fit into 64 bits")),
    ],
)
def test_time(folder, value, words):
    text = f"src,dst,when\n1,2,3\n2,3,4\n3,4,{value}\n4,5,6\n"
    refused(folder, text, "e.csv, row 3", "column 'when' (time)", "--on-error drop", *words, time="when")


@pytest.mark.parametrize(
    ("value", "words"), [(-5, "-5.0 is negative"), (float("nan"), "nan is not a number"), (3.5, "3.5 has a fraction")]
)
def test_time_as_a_number(folder, value, words):
    pq.write_table(pa.table({"src": [1, 2], "dst": [2, 3], "time": [3.0, value]}), folder / "e.parquet")
    with pytest.raises(DataError, match=rf"e\.parquet, row 2, column 'time' \(time\): {words}"):
        import_events(folder / "e.parquet", folder / "out" / "store")


def test_fraction_finer_than_the_unit_chosen(folder):
    refused(folder, "src,dst,time\n1,2,3.5\n2,3,4.1234\n", "4.1234", "us or ns", time_unit="ms")


@pytest.mark.parametrize(
    ("value", "words"),
    [("1969-12-31 10:00:00", ("before 1970",)), ("2020-01-01 00:00:00.5", ("fraction of a s", "ms, us or ns"))],
)
@pytest.mark.parametrize("zone", [None, "UTC", "text"])
def test_dates(folder, value, words, zone):
    times = np.array(["2020-01-01", value], "datetime64[us]")
    times = times.astype(str).tolist() if zone == "text" else pa.array(times).cast(pa.timestamp("us", zone))
    pq.write_table(pa.table({"src": [1, 2], "dst": [2, 3], "time": times}), folder / "e.parquet")
    with pytest.raises(DataError) as caught:
        import_events(folder / "e.parquet", folder / "out" / "store")
    for word in ("row 2", "column 'time'", *words):
        assert word in str(caught.value)


MIXED = "src,dst,time\n1,2,1704067200\n1,2,2024-01-01\n1,2,2024-01-02 10:00:00\n"


def test_dates_and_numbers_in_one_column(folder):
    words = ("2 dates, such as '2024-01-01' (", "e.csv, row 2)", "1 number, such as '1704067200' (", "e.csv, row 1)")
    refused(folder, MIXED, "column 'time' (time) mixes dates and numbers", *words, "with numbers out: --on-error drop")
    refused(folder, MIXED + "1,2,5\n1,2,6\n", "3 numbers", "with dates out")


def test_the_fewer_of_dates_and_numbers_are_dropped(folder):
    (folder / "e.csv").write_text(MIXED)
    report = import_events(folder / "e.csv", folder / "out" / "store", on_error="drop")
    assert (report.events, report.first_time) == (2, 1704067200)
    assert "'1704067200' is a number, and most of the column are dates" in report.dropped[0].examples[0]
    (folder / "e.csv").write_text(MIXED + "1,2,5\n1,2,6\n")
    report = import_events(folder / "e.csv", folder / "out" / "store", on_error="drop", overwrite=True)
    assert (report.events, report.first_time) == (3, 5)
    assert "'2024-01-01' is a date, and most of the column are numbers" in report.dropped[0].examples[0]


def test_a_date_of_another_form(folder):
    text = "src,dst,time\n1,2,01.02.2024\n"
    words = "'01.02.2024' is neither a number nor a date such as 2024-02-01 or 2024-02-01 12:30:00"
    refused(folder, text, words, "--query \"SELECT * REPLACE (strptime(time, '%d.%m.%Y') AS time) FROM source\"")
    refused(folder, text.replace("01.02.2024", "noon"), "12:30:00. Correct the source.")
    (folder / "e.csv").write_text(text)
    query = "SELECT * REPLACE (strptime(time, '%d.%m.%Y') AS time) FROM source"
    assert import_events(folder / "e.csv", folder / "out" / "store", query=query).first_time == 1_706_745_600


def test_a_missing_feature_is_filled_by_the_query_that_is_named(folder):
    text = "src,dst,time,my cost\n1,2,3,\n"
    refused(folder, text, """--query "SELECT * REPLACE (coalesce(\\"my cost\\", '0') AS \\"my cost\\") FROM source".""",
            edge_features="my cost")  # fmt: skip
    query = """SELECT * REPLACE (coalesce("my cost", '0') AS "my cost") FROM source"""
    report = import_events(folder / "e.csv", folder / "out" / "store", query=query, edge_features="my cost")
    assert report.edge_dim == 1


def test_a_table_without_names_is_told_from_one_with_others(folder):
    words = "The first line looks like a row of data (2024-01-01): put a line of names above it."
    refused(folder, "a,b,2024-01-01\na,c,2024-01-02\n", words)
    refused(folder, "a,b,2024-01-01\na,c,2024-01-02\n", words, src="who")


def test_decimal_commas(folder):
    text = "src;dst;time;f0\n1;2;3;0,5\n1;2;4;-1,25\n"
    query = "SELECT * REPLACE (replace(f0, ',', '.') AS f0) FROM source"
    refused(folder, text, "'0,5' is not a number", "decimal point", f'--query "{query}"', edge_features="f0")
    import_events(folder / "e.csv", folder / "out" / "store", edge_features="f0", query=query)
    assert open_stream(folder / "out" / "store").edge_features.tolist() == [[0.5], [-1.25]]


TEXTS = "src,dst,time,kind\n1,2,3,fees\n1,2,4,rent\n2,3,5,7\n"


@pytest.mark.parametrize("option", ["label", "edge_features"])
def test_classes_named_by_text_have_an_option_of_their_own(folder, option):
    refused(folder, TEXTS, "'fees'", "For classes named by text: --edge-classes kind.", **{option: "kind"})


def test_one_text_among_numbers_is_no_class(folder):
    (folder / "e.csv").write_text(TEXTS.replace("rent", "5"))
    with pytest.raises(DataError, match=r"'fees' is not an integer\. Correct the source, or"):
        import_events(folder / "e.csv", folder / "out" / "store", label="kind")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", ("the value is missing",)),
        ("nan", ("'nan' is not a number",)),
        ("lots", ("'lots' is not a number",)),
        ("inf", ("'inf' is not a finite 32-bit number",)),
        ("1e300", ("'1e300' is not a finite 32-bit number",)),
    ],
)
def test_feature(folder, value, words):
    text = f"src,dst,time,f0,f1\n1,2,3,0.5,1\n2,3,4,0.5,{value}\n"
    refused(folder, text, "e.csv, row 2", "column 'f1' (edge_features)", *words, edge_features="f*")


@pytest.mark.parametrize(("line", "found"), [("4,5,6,0.5", 4), ("4,5,6,0.5,1,1,1", 7)])
def test_ragged_row(folder, line, found):
    text = GOOD + line + "\n5,6,7,0.5,1\n"
    refused(folder, text, "e.csv, row 3", "number of values", f"expected 5 values, found {found}", line)


def test_unclosed_quote(folder):
    refused(folder, 'src,dst,time\na,b,1\n"c"d,e,2\n', "e.csv, row 2", "cannot be split")


def test_ragged_list(folder):
    rows = [{"src": 1, "dst": 2, "time": 3, "v": [1, 2]}, {"src": 1, "dst": 2, "time": 4, "v": [1, 2, 3]}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    refused(
        folder, text, "e.json, row 2", "column 'v'", "3 values, the first row has 2", name="e.json", edge_features="v"
    )


@pytest.mark.parametrize("options", [{}, {"ids": "text"}])
def test_missing_id(folder, options):
    refused(folder, "src,dst,time\n1,2,3\n2,,4\n", "row 2", "column 'dst' (dst)", "is missing", **options)


def test_id_that_is_no_integer_where_integers_were_promised(folder):
    refused(folder, "src,dst,time\n1,2,3\nx7,3,4\n", "row 2", "'x7'", "not an integer id", "--ids text", ids="int")


def test_ids_of_text_where_integers_were_asked_for(folder):
    (folder / "e.csv").write_text("src,dst,time\na,b,3\nc,d,4\n")
    with pytest.raises(DataError) as caught:
        import_events(folder / "e.csv", folder / "out" / "store", ids="int")
    assert "row 1, column 'src' (src): 'a' is not an integer id, which --ids int asks for" in str(caught.value)
    assert "before" not in str(caught.value)
    assert "--on-error drop" not in str(caught.value)  # which would leave nothing


def test_id_that_is_no_integer_after_many_that_are(folder):
    rows = "".join(f"{i},{i + 1},{i}\n" for i in range(20_000))
    refused(folder, f"src,dst,time\n{rows}1.5,3,4\n", "row 20001", "'1.5'", "not an integer id")


def test_ids_that_are_fractions(folder):
    pq.write_table(pa.table({"src": [1.0, 2.5], "dst": [2, 3], "time": [1, 2]}), folder / "e.parquet")
    with pytest.raises(DataError, match=r"row 2, column 'src' \(src\): 2\.5 is not an integer id"):
        import_events(folder / "e.parquet", folder / "out" / "store")


def test_id_outside_the_node_features(folder):
    np.save(folder / "nodes.npy", np.zeros((3, 2)))
    options = {"node_features": folder / "nodes.npy"}
    refused(folder, GOOD, "row 2", "column 'dst'", "outside the 3 rows of the node features", **options)


def test_id_below_what_the_format_allows(folder):
    refused(folder, ",u,i,ts,label,idx\n0,0,2,3,0,1\n", "row 1", "ids of format dyglib start at 1", name="ml_x.csv")


def test_label_that_is_no_integer(folder):
    refused(folder, "src,dst,time,kind\n1,2,3,1\n1,2,3,spam\n", "row 2", "'spam' is not an integer", label="kind")


def test_split_with_another_number(folder):
    refused(folder, "src,dst,time,part\n1,2,3,0\n1,2,3,3\n", "row 2", "not 0 (train), 1 (val) or 2", split="part")


def test_split_that_does_not_follow_time(folder):
    text = "src,dst,time,part\n1,2,3,0\n1,2,4,1\n1,2,5,0\n"
    refused(folder, text, "does not follow time", "part 0 at time 5 comes after one of part 1", split="part")


def test_node_features_missing_for_a_node(folder):
    (folder / "n.csv").write_text("id,a\n1,0.5\n2,0.5\n")
    refused(folder, GOOD, "node features of id 3", node_features=folder / "n.csv")


def test_node_features_twice_for_a_node(folder):
    (folder / "n.csv").write_text("id,a\n1,0.5\n2,0.5\n3,1\n2,0.7\n")
    refused(folder, GOOD, "'2' has more than one row", node_features=folder / "n.csv")


def test_node_features_of_ids_on_both_sides(folder):
    np.save(folder / "nodes.npy", np.zeros((9, 2)))
    refused(folder, GOOD, "both source and destination", node_features=folder / "nodes.npy", bipartite=True)


def test_node_features_file_missing(folder):
    refused(folder, GOOD, "n.npy not found", node_features=folder / "n.npy")


def test_edge_table_with_a_bad_row(folder):
    (folder / "ml_x.csv").write_text(",u,i,ts,label,idx\n0,1,2,3,0,1\n1,1,2,4,0,2\n2,1,2,5,0,3\n")
    np.save(folder / "ml_x.npy", np.array([[0.0], [1], [np.nan]]))
    with pytest.raises(DataError, match=r"ml_x\.csv, row 2, edge features.* 2 rows have such a fault"):
        import_events(folder / "ml_x.csv", folder / "out" / "store")
    report = import_events(folder / "ml_x.csv", folder / "out" / "store", on_error="drop")
    assert (report.events, report.dropped[0].part, report.dropped[0].rows) == (1, "edge_features", 2)


# Rows, counted in the file in which they stand


def test_row_in_the_second_of_several_files(folder):
    (folder / "a.csv").write_text("src,dst,time\n1,2,3\n1,2,4\n")
    (folder / "b.csv").write_text("src,dst,time\n1,2,3\n1,2,-4\n")
    with pytest.raises(DataError, match=r"b\.csv, row 2, column 'time'"):
        import_events([folder / "a.csv", folder / "b.csv"], folder / "out" / "store")


def test_row_of_a_query_over_several_files(folder):
    (folder / "a.csv").write_text(GOOD)
    (folder / "b.csv").write_text(GOOD)
    with pytest.raises(DataError, match="row 3 of the query"):
        import_events(
            [folder / "a.csv", folder / "b.csv"],
            folder / "out" / "store",
            query="SELECT src, dst, CASE WHEN row_number() OVER () = 3 THEN '-1' ELSE time END AS time FROM source",
        )


def test_row_of_a_query(folder):
    refused(
        folder,
        GOOD,
        "row 2 of the query",
        "'4x'",
        query="SELECT src, dst, replace(time, '4', '4x') AS time FROM source",
    )


def test_drop_counts_and_lists(folder):
    lines = [
        "1,2,3,1",
        "1,2",
        "1,2,-3,1",
        "1,2,x,1",
        ",2,4,1",
        "1,2,5,nan",
        "1,2,6,1,9",
        "1,2,-7,1",
        "1,2,-8,1",
        "2,1,7,2",
    ]
    (folder / "e.csv").write_text("\n".join(["src,dst,time,f0", *lines]) + "\n")
    report = import_events(folder / "e.csv", folder / "out" / "store", on_error="drop", edge_features="f0")
    assert {reason.part: reason.rows for reason in report.dropped} == {
        "line": 2,
        "time": 4,
        "src": 1,
        "edge_features": 1,
    }
    words = {reason.part: " ".join(reason.examples) for reason in report.dropped}
    assert "row 2 " in words["line"]
    assert "row 7 " in words["line"]
    assert "row 3, column 'time' (time): '-3' is negative" in words["time"]
    assert "row 4, column 'time' (time): 'x' is neither" in words["time"]
    assert "row 8, column 'time' (time): '-7'" in words["time"]
    assert len(next(reason for reason in report.dropped if reason.part == "time").examples) == 3
    assert "row 5, column 'src'" in words["src"]
    assert "row 6, column 'f0'" in words["edge_features"]
    stream = open_stream(folder / "out" / "store")
    assert stream.time.tolist() == [3, 7]
    assert stream.edge_features.tolist() == [[1], [2]]
    assert store.read_meta(folder / "out" / "store")["source"]["dropped"]["time"] == 4


def test_a_feature_that_is_no_number_is_not_taken_for_a_bad_line(folder):
    """DuckDB would cast as it splits, and count a value that it cannot cast as a line that it cannot split."""
    (folder / "e.csv").write_text("src,dst,time,f0,f1\n1,2,3,0.5,abc\n1,2,3,0.5\n1,2,-4,0.5,1\n2,3,4,0.5,1\n")
    report = import_events(folder / "e.csv", folder / "out" / "store", on_error="drop", edge_features="f*")
    words = {reason.part: reason.examples[0] for reason in report.dropped}
    assert set(words) == {"line", "edge_features", "time"}
    assert "row 1, column 'f1' (edge_features): 'abc' is not a number" in words["edge_features"]
    assert "row 2 has not the right number" in words["line"]
    assert "row 3, column 'time' (time): '-4' is negative" in words["time"]


def test_drop_of_everything_is_refused(folder):
    text = "src,dst,time\n1,2,-3\n1,2\n1,2,-4\n"
    words = ("e.csv: no row can be used", "left out 2 rows for their time, such as:\n", "row 1, ", "'-3' is negative")
    refused(folder, text, *words, "left out 1 row for its line", "(expected 3 values, found 2)", on_error="drop")


def test_drop_of_every_edge_of_snapshots_is_refused(folder):
    (folder / "e.csv").write_text("src,dst,time\n1,2,-3\n")
    with pytest.raises(DataError, match=r"e\.csv: no row can be used\.\nleft out 1 row for its time, such as:\n"):
        import_snapshots(folder / "e.csv", folder / "out" / "store", every="1d", on_error="drop")


def test_no_row_is_dropped_when_features_go_by_position(folder):
    import torch

    (folder / "edges.csv").write_text("src,dst,time\n1,2,3\n1,2\n1,2,4\n")
    torch.save(torch.zeros(3, 2), folder / "edge_features.pt")
    with pytest.raises(DataError, match=r"row 2 .* no row can be dropped"):
        import_events(folder, folder / "out" / "store", format="tgl", on_error="drop")


# The store


def toy():
    return EventStream.from_arrays(np.arange(50) % 7, np.arange(50) % 5, np.arange(50), edge_features=np.ones((50, 3)))


@pytest.fixture
def toy_store(tmp_path):
    save_stream(toy(), tmp_path / "toy")
    return tmp_path / "toy"


def change_meta(path, change):
    meta = json.loads((path / "meta.json").read_text())
    change(meta)
    (path / "meta.json").write_text(json.dumps(meta))


def test_store_missing(tmp_path):
    with pytest.raises(StoreError, match=r"nothing is not a tgscale data directory.*tgscale data import"):
        open_stream(tmp_path / "nothing")


def test_store_truncated(toy_store):
    file = toy_store / "edge_features.npy"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(StoreError, match=r"edge_features\.npy has 727 bytes, 728 were written"):
        open_stream(toy_store)


def test_store_with_a_column_gone(toy_store):
    (toy_store / "dst.npy").unlink()
    with pytest.raises(StoreError, match=r"dst\.npy is missing"):
        open_stream(toy_store)


def test_store_tampered_with(toy_store):
    with open(toy_store / "dst.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    open_stream(toy_store)  # nothing is read, so nothing is noticed
    with pytest.raises(StoreError, match=r"dst\.npy does not match its SHA-256"):
        open_stream(toy_store, verify=True)


def test_store_with_another_type_of_column(toy_store):
    size = (toy_store / "src.npy").stat().st_size
    np.save(toy_store / "src.npy", np.zeros(50, np.float32))
    assert (toy_store / "src.npy").stat().st_size == size
    with pytest.raises(StoreError, match=r"src\.npy holds <f4 \[50\], meta\.json says <i4 \[50\]"):
        open_stream(toy_store)


def test_store_with_a_pickle_in_it(toy_store):
    file = toy_store / "src.npy"
    np.save(file, np.array([print] * 3, dtype=object), allow_pickle=True)
    change_meta(toy_store, lambda meta: meta["files"]["src.npy"].update(bytes=file.stat().st_size))
    with pytest.raises(StoreError, match=r"src\.npy cannot be opened"):
        open_stream(toy_store)


def test_store_of_a_newer_version(toy_store):
    change_meta(toy_store, lambda meta: meta.update(format_version=99))
    with pytest.raises(StoreError, match=r"store version 99.* upgrade tgscale"):
        open_stream(toy_store)


def test_store_with_other_counts(toy_store):
    change_meta(toy_store, lambda meta: meta.update(nodes=6))
    with pytest.raises(StoreError, match="tcsr_indptr has 8 rows, 7 expected"):
        open_stream(toy_store)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format_version": 1}', "\x00\x01"])
def test_store_with_a_damaged_meta(toy_store, text):
    (toy_store / "meta.json").write_text(text)
    with pytest.raises(StoreError, match=r"meta\.json is damaged"):
        open_stream(toy_store)


def test_target_that_exists(folder):
    (folder / "e.csv").write_text(GOOD)
    import_events(folder / "e.csv", folder / "out" / "store")
    with pytest.raises(StoreError, match="already exists: choose another target, or pass --overwrite"):
        import_events(folder / "e.csv", folder / "out" / "store")
    import_events(folder / "e.csv", folder / "out" / "store", overwrite=True, name="new")
    assert open_stream(folder / "out" / "store").name == "new"


def test_a_failed_import_leaves_the_old_store(folder):
    (folder / "e.csv").write_text(GOOD)
    import_events(folder / "e.csv", folder / "out" / "store")
    (folder / "e.csv").write_text(GOOD.replace("4", "-4"))
    with pytest.raises(DataError, match="negative"):
        import_events(folder / "e.csv", folder / "out" / "store", overwrite=True)
    assert open_stream(folder / "out" / "store", verify=True).time.tolist() == [3, 4]


# Disk full, and killed half-way


def no_space(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("moment", ["_reserve", "_describe"])
def test_disk_full_while_writing(folder, monkeypatch, moment):
    monkeypatch.setattr(directory, moment, no_space)
    refused(folder, GOOD, "disk full", "0.0 MB are needed", "nothing was left behind", error=StoreError)
    with pytest.raises(StoreError, match="disk full"):
        save_stream(toy(), folder / "out" / "store")


def test_disk_too_small_is_noticed_before_writing(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    refused(folder, GOOD, "disk full", "0.0 MB are free", error=StoreError)


def test_disk_full_while_sorting(folder, monkeypatch):
    import duckdb

    from tgscale.data import ingest

    def spill(*args):
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    monkeypatch.setattr(ingest, "write_events", spill)
    refused(folder, GOOD, "disk full", "the source alone does not fit", error=StoreError)


KILLED_AT = ("checking", "indexing", "checksums")
CHILD = """
import sys, time
from tgscale.data.ingest import import_events
from tgscale.data.snapshot_ingest import import_snapshots

def step(name):
    if name == sys.argv[3]:
        print("reached", flush=True)
        time.sleep(60)

import_events(sys.argv[1], sys.argv[2], progress=step, overwrite=True)
"""


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_half_way(folder, moment):
    (folder / "e.csv").write_text(GOOD)
    out = folder / "out"
    command = [sys.executable, "-c", CHILD, str(folder / "e.csv"), str(out / "store"), moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "reached\n"
        with pytest.raises(StoreError, match="being written by another process"):
            import_events(folder / "e.csv", out / "store")
        child.send_signal(signal.SIGKILL)
    assert [path.name for path in out.iterdir()] == [f".store.tmp-{child.pid}"]
    with pytest.raises(StoreError, match="not a tgscale data directory"):
        open_stream(out / "store")
    import_events(folder / "e.csv", out / "store")
    assert [path.name for path in out.iterdir()] == ["store"]
    assert open_stream(out / "store", verify=True).num_events == 2


def test_interrupted_from_the_keyboard(folder):
    (folder / "e.csv").write_text(GOOD)

    def stop(step):
        if step == "indexing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_events(folder / "e.csv", folder / "out" / "store", progress=stop)
    assert list((folder / "out").iterdir()) == []
