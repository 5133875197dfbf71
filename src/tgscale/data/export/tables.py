"""CSV and Parquet: a row per event with everything that a stream has; what nodes have in files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgscale.data.export.outgoing import PARTS, Outgoing, Writer
from tgscale.data.export.pieces import feature_columns, node_rows, write_parquet, write_text
from tgscale.data.ids import ascending
from tgscale.errors import DataError

CARRIES = frozenset(PARTS) - {"idle_nodes"}
TAKEN = {"src", "dst", "time", "label", "split", "features"}


def event_rows(data: Outgoing, lists: bool) -> Iterator[pa.RecordBatch]:
    """Rows ``src, dst, time[, label][, split]``, a column of 0 and 1 per class, and features.

    Args:
        data: the stream.
        lists: features are one column of lists, rather than columns ``f0, f1, ..``.
    """
    stream = data.stream
    names = pa.array(stream.classes["label"]) if stream.classes.get("label") else None
    for rows in data.chunks():
        columns: dict[str, Any] = {side: data.source_ids(side, rows) for side in ("src", "dst")}
        columns["time"] = pa.array(np.asarray(stream.time[rows]))
        if stream.label is not None:
            label = pa.array(np.asarray(stream.label[rows]))
            columns["label"] = label if names is None else names.take(label)
        if stream.source_split is not None:
            columns["split"] = pa.array(data.parts_of(rows))
        for number, name in enumerate(class_columns(data)):
            assert stream.edge_classes is not None
            columns[name] = pa.array(np.ascontiguousarray(stream.edge_classes[rows, number]))
        if stream.edge_features is not None:
            table = np.asarray(stream.edge_features[rows])
            flat = pa.array(table.reshape(-1))
            columns |= (
                {"features": pa.FixedSizeListArray.from_arrays(flat, table.shape[1])}
                if lists
                else feature_columns(table, "f")
            )
        yield pa.record_batch(columns)


def class_columns(data: Outgoing) -> tuple[str, ...]:
    """Names of the columns of classes, where an event may have several: the names of the classes.

    Raises:
        DataError: a name cannot be that of a column, or there is just one class.
    """
    stream = data.stream
    if stream.edge_classes is None:
        return ()
    count = stream.edge_classes.shape[1]
    names = stream.classes.get("edge_classes") or tuple(f"class{i}" for i in range(count))
    bad = [name for name in names if not re.fullmatch(r"[\w .:-]+", name) or re.fullmatch(r"f\d+", name.lower())]
    bad += [name for name in names if name.lower() in TAKEN or name.strip() != name]
    if bad or len({name.lower() for name in names}) < count or count == 1:
        said = f"{bad[0]!r} cannot name a column" if bad else "one class, or two names that differ in case alone"
        raise DataError(
            f"the classes of the events do not go into this table, which has a column per class: {said}. "
            "Rename the class in the source and import again."
        )
    return names


def node_label_rows(data: Outgoing) -> Iterator[pa.RecordBatch]:
    """Rows ``id, label`` of the nodes whose class is known."""
    label = data.stream.node_label
    assert label is not None
    known = pa.array(np.flatnonzero(label >= 0))
    numbers = pa.array(np.asarray(label)).take(known)
    names = data.stream.classes.get("node_label")
    yield pa.record_batch(
        {"id": data.node_ids().take(known), "label": pa.array(names).take(numbers) if names else numbers}
    )


def beside(target: Path, what: str, format: str) -> Path:
    """Where what nodes have lies: ``NAME.nodes.csv`` (features) or ``NAME.node_labels.csv``."""
    return target.with_name(f"{target.stem}.{what}.{format}")


def write_csv(data: Outgoing, target: Path) -> None:
    """Write ``NAME.csv``, and what nodes have beside it."""
    tables = {target: lambda: event_rows(data, lists=False), **_node_tables(data, target, "csv")}
    for path, rows in tables.items():
        write_text(path, ",".join(next(rows()).schema.names), rows())


def write_table(data: Outgoing, target: Path) -> None:
    """Write ``NAME.parquet``, and what nodes have beside it."""
    tables = {target: lambda: event_rows(data, lists=True), **_node_tables(data, target, "parquet")}
    for path, rows in tables.items():
        write_parquet(path, rows())


def _node_tables(data: Outgoing, target: Path, format: str) -> dict[Path, Any]:
    tables: dict[Path, Any] = {}
    if data.stream.node_features is not None:
        tables[beside(target, "nodes", format)] = lambda: node_rows(data)
    if data.stream.node_label is not None:
        tables[beside(target, "node_labels", format)] = lambda: node_label_rows(data)
    return tables


def check(data: Outgoing) -> list[str]:
    """What belongs to an id that is on both sides cannot be told apart by id."""
    stream = data.stream
    of_nodes = stream.node_features is not None or stream.node_label is not None
    if stream.num_sources is not None and of_nodes and _on_both_sides(data):
        raise DataError(
            "what the nodes have does not go into this table: some ids are both source and destination, and the table "
            "names a node by its id alone. Export to tgl, dyglib or pyg, which name nodes by number."
        )
    class_columns(data)
    return []


def check_csv(data: Outgoing) -> list[str]:
    """Text that CSV cannot tell from a missing value is refused."""
    if data.text_ids and pc.any(pc.equal(data.ids, "")).as_py():
        raise DataError("an id of this stream is empty text, which CSV cannot tell from a missing one: use parquet.")
    return check(data)


def _on_both_sides(data: Outgoing) -> bool:
    ids = data.node_ids()
    return pc.count_distinct(ids).as_py() < len(ids)


def _reading(data: Outgoing, target: Path, format: str, features: str) -> dict[str, Any]:
    stream = data.stream
    options = {"format": format} | data.units() | {"ids": id_kind(data)}
    if stream.label is not None and stream.classes.get("label"):
        options["edge_classes"] = "label"
    elif stream.edge_classes is not None:
        options["edge_classes"] = ",".join(class_columns(data))
        options |= {"label": "label"} if stream.label is not None else {}
    if stream.edge_features is not None:
        options["edge_features"] = features
    if stream.source_split is not None:
        options["split"] = "split"
    if stream.node_features is not None:
        options["node_features"] = str(beside(target, "nodes", format))
    if stream.node_label is not None:
        options["node_labels"] = str(beside(target, "node_labels", format))
    return options


def id_kind(data: Outgoing) -> str:
    """What ``--ids`` must say for the nodes to get the same numbers again."""
    if data.ids is None or not data.text_ids:
        return "int"
    sources = data.stream.num_sources
    sides = [data.ids] if sources is None else [data.ids.slice(0, sources), data.ids.slice(sources)]
    # A side of integers, beside one of text, stands in the order of its values and not of their text.
    return "text" if all(ascending(side) for side in sides) else "auto"


CSV = Writer(
    "CSV with a header line",
    CARRIES,
    write_csv,
    lambda data, target: _reading(data, target, "csv", "f*"),
    check=check_csv,
)
PARQUET = Writer(
    "Parquet",
    CARRIES,
    write_table,
    lambda data, target: _reading(data, target, "parquet", "features"),
    check=check,
)
