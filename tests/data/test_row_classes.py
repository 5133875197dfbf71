"""Classes of rows that follow a data directory: wherever a source has them, absent ones, and those nobody knows."""

import json

import numpy as np
import pytest

import tgscale
from tgscale.data.append import UNTOLD, UNTOLD_CLASSES
from tgscale.data.following import RowOptions, read_rows
from tgscale.data.row_classes import ClassNames
from tgscale.data.store import open_stream
from tgscale.errors import DataError

HEAD = "src,dst,time,"


def imported(tmp_path, kinds, **options):
    """A data directory of one event per kind, and the names of its classes."""
    lines = [f"u{i},v,{i},{kind}" for i, kind in enumerate(kinds)]
    (tmp_path / "old.csv").write_text("\n".join([HEAD + options.pop("head", "kind"), *lines]))
    tgscale.import_events(tmp_path / "old.csv", tmp_path / "data", **options)
    stream = open_stream(tmp_path / "data")
    column = "label" if stream.edge_classes is None else "edge_classes"
    return ClassNames(column, stream.classes.get(column) or tuple(np.unique(stream.label).tolist()))


def read(tmp_path, source, known, **options):
    options = RowOptions(**options)
    folder = tmp_path / f"rows-{len(list(tmp_path.iterdir()))}"
    return read_rows(source, tmp_path / "data", folder, options, not_before=0, classes=known)


def write(tmp_path, head, *lines):
    (tmp_path / "new.csv").write_text("\n".join([HEAD + head, *lines]) + "\n")
    return tmp_path / "new.csv"


def test_the_column_of_the_import_is_found_and_follows_the_rows(tmp_path):
    """Rows out of order and left out, empty cells, classes of no event."""
    classes = imported(tmp_path, ["red", "blue", "9"], edge_classes="kind")
    assert classes.names == ("9", "blue", "red")
    lines = ["u1,v,9,red", "u2,v,7,", "u1,v,oops,blue", "u9,v,8,blue", "u1,v,6,violet", 'u1,v,5,""']
    rows = read(tmp_path, write(tmp_path, "kind", *lines), classes, on_error="drop")
    assert rows.time.tolist() == [5, 6, 7, 8, 9]
    assert rows.label.tolist() == [UNTOLD, UNTOLD, UNTOLD, 1, 2]
    assert rows.unknown_classes == 1
    assert rows.edge_classes is None


def test_nothing_is_read_where_no_column_tells_them_or_none_is_wanted(tmp_path):
    classes = imported(tmp_path, ["red", "blue"], edge_classes="kind")
    assert read(tmp_path, write(tmp_path, "colour", "u1,v,5,red"), classes).label is None
    assert read(tmp_path, write(tmp_path, "colour", "u1,v,5,red"), classes, classes=("col*",)).label.tolist() == [1]
    assert read(tmp_path, write(tmp_path, "kind", "u1,v,5,red"), classes, classes=()).label is None
    assert read(tmp_path, write(tmp_path, "kind", "u1,v,5,red"), None).label is None
    with pytest.raises(DataError, match=r"has no column 'kinds' for --classes; it has src, dst, time, colour\."):
        read(tmp_path, write(tmp_path, "colour", "u1,v,5,red"), classes, classes=("kinds",))


@pytest.mark.parametrize("head", ["label", "state"])
def test_integers_without_names(tmp_path, head):
    classes = imported(tmp_path, [40, -3, 7], head=head, label=None if head == "label" else head)
    assert classes.names == (-3, 7, 40)
    lines = ["u1,v,5,40", "u1,v,6,7.0", "u1,v,7,7.5", "u1,v,8,", "u1,v,9,8"]
    rows = read(tmp_path, write(tmp_path, head, *lines), classes)
    assert rows.label.tolist() == [2, 1, UNTOLD, UNTOLD, UNTOLD]
    assert rows.unknown_classes == 2


def test_a_column_for_each_class(tmp_path):
    classes = imported(tmp_path, ["0,1", "1,1"], head="a,b", edge_classes="a,b")
    assert classes == ClassNames("edge_classes", ("a", "b"))
    lines = ["u1,v,5,1,0", "u1,v,6,0,0", "u1,v,7,,1", "u1,v,8,2,1"]
    rows = read(tmp_path, write(tmp_path, "b,a", *lines), classes)
    none = [UNTOLD_CLASSES] * 2
    assert rows.edge_classes.tolist() == [[0, 1], [0, 0], none, none]
    one = read(tmp_path, write(tmp_path, "kind", "u1,v,5,b", "u1,v,6,"), classes, classes=("kind",))
    assert one.edge_classes.tolist() == [[0, 1], none]
    with pytest.raises(DataError, match="'c' is none of them"):
        read(tmp_path, write(tmp_path, "a,c", "u1,v,5,1,0"), classes, classes=("a", "c"))
    with pytest.raises(DataError, match="here an event has one"):
        read(tmp_path, tmp_path / "new.csv", ClassNames("label", ("a", "c")), classes=("a", "c"))


def test_lists_of_classes(tmp_path):
    rows = [{"src": 1, "dst": 2, "time": i, "kinds": kinds} for i, kinds in enumerate((["x", "y"], [], ["y"]))]
    (tmp_path / "old.json").write_text("\n".join(map(json.dumps, rows)))
    tgscale.import_events(tmp_path / "old.json", tmp_path / "data", edge_classes="kinds")
    later = [[], ["y", "y"], None, ["z", "x"]]
    rows = [{"src": 1, "dst": 2, "time": 5 + i, "kinds": kinds} for i, kinds in enumerate(later)]
    (tmp_path / "new.json").write_text("\n".join(map(json.dumps, rows)))
    found = read(tmp_path, tmp_path / "new.json", ClassNames("edge_classes", ("x", "y")))
    assert found.edge_classes.tolist() == [[0, 0], [0, 1], [UNTOLD_CLASSES] * 2, [1, 0]]
    assert found.unknown_classes == 1


def test_a_query_must_give_its_rows_in_the_same_order_each_time(tmp_path):
    classes = imported(tmp_path, ["red", "blue"], edge_classes="kind")
    lines = [f"u{i},v{i},{5 + i},{('red', 'blue')[i % 2]}" for i in range(200)]
    source = write(tmp_path, "kind", *lines)
    found = read(tmp_path, source, classes, query="SELECT * FROM source ORDER BY time DESC")
    assert found.label.tolist() == [1, 0] * 100
    with pytest.raises(DataError, match="rows come in another order each time"):
        read(tmp_path, source, classes, query="SELECT * FROM source ORDER BY random()")
