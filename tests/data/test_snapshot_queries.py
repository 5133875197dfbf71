"""Which column of a table of queries is which end, and whom its ids name."""

import numpy as np
import pyarrow as pa
import pytest

from tgscale.data.snapshot_ids import NamedSnapshots
from tgscale.data.snapshot_queries import read_queries
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import DataError


@pytest.fixture
def named():
    return NamedSnapshots(SnapshotSequence.from_arrays([0, 1], [0, 1], [1, 2]), pa.array(["a", "b", "c"]))


@pytest.fixture
def table(tmp_path):
    def write(text: str, name: str = "q.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("text", "options", "src", "dst", "unused"),
    [
        ("src,dst\na,b\n", {}, [0], [1], []),
        ("dst,src\na,b\n", {}, [1], [0], []),
        ("src\nc\n", {}, [2], None, []),
        ("item\nc\n", {"before": {"src": "item", "dst": "user"}}, [2], None, []),
        ("item\nc\n", {"src": "item"}, [2], None, []),
        ("who,whom\na,c\n", {"src": "who"}, [0], None, ["whom"]),
        ("who,whom\na,c\n", {"src": "who", "dst": "whom"}, [0], [2], []),
        ("who,whom\na,c\n", {"before": {"src": "who", "dst": "whom"}}, [0], [2], []),
        ("src,dst,note\na,c,x\n", {"src": "dst", "dst": "src"}, [2], [0], ["note"]),
        ("user,item\na,c\n", {"dst": "user", "src": "item"}, [2], [0], []),
    ],
)
def test_a_column_is_one_end(named, table, text, options, src, dst, unused):
    found = read_queries(table(text), named, **options)
    assert found[0].tolist() == src
    assert (None if found[1] is None else found[1].tolist()) == dst
    assert found[2] == unused


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("q.csv", "a,b\na,b\n", {}, "no column that looks like src"),
        ("q.csv", "src,dst\na,b\n", {"src": "src", "dst": "src"}, "--src and --dst both name the column 'src'"),
        ("q.csv", "src,dst\na,b\na,b,c\n", {}, "row 2 has not the right number of values"),
        ("q.csv", "src\nd\n", {}, "such as 'd' in row 1"),
        ("q.csv", "src,dst\na,b\n,b\n", {}, "column 'src': 1 row has an id .* such as an empty id in row 2"),
        ("q.csv", "src,dst\n", {}, "there are no rows|has no rows"),
        ("q.xyz", "what is this", {}, "is no table, by its name and content: give a CSV, Parquet or JSON file"),
        ("nowhere/q.csv", None, {}, "not found"),
        (".", None, {}, "is a folder"),
    ],
)
def test_what_is_no_question_is_refused(named, table, tmp_path, name, text, options, words):
    file = tmp_path / name if text is None else table(text, name)
    with pytest.raises(DataError, match=words):
        read_queries(file, named, **options)


def test_ids_that_are_numbers_are_looked_up_as_such(table):
    named = NamedSnapshots(SnapshotSequence.from_arrays([0, 1], [0, 1], [1, 2]), pa.array(np.array([10, 20, 30])))
    assert read_queries(table("src,dst\n30,10\n"), named)[0].tolist() == [2]
