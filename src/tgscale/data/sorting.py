"""Usable rows in time order, from DuckDB into the columns of the store, a chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np

from tgscale.data.event_classes import marks
from tgscale.data.staging import Staged
from tgscale.data.store import CHUNK_BYTES, StoreWriter
from tgscale.data.stream import Split
from tgscale.errors import DataError


@dataclass(frozen=True)
class Written:
    """What stands in the columns."""

    events: int
    edge_dim: int
    first_time: int
    last_time: int
    split: Split | None


def write_events(db: duckdb.DuckDBPyConnection, writer: StoreWriter, staged: Staged, num_nodes: int) -> Written:
    """Sort the usable rows by time (rows of one time keep their order) and write them.

    Raises:
        DataError: a split that does not follow time.
    """
    source, columns = staged.source, staged.columns
    table = None if columns.edge_features else source.edge_table
    width = staged.width if table is None else table.shape[1]
    count = db.execute("SELECT count(*) FROM staged WHERE problem IS NULL").fetchall()[0][0]
    flags = len(staged.classes.names) if staged.classes and staged.classes.several else 0
    _create_columns(writer, count, num_nodes, width, columns.label is not None, flags)
    times: list[int] = []
    parts = np.zeros(3, np.int64)
    for chunk in _sorted_chunks(db, staged, max(1024, CHUNK_BYTES // (4 * width + flags + 40))):
        if table is not None:
            writer.append("edge_features", np.asarray(table[chunk["edge_row"]], np.float32))
        elif width:
            writer.append("edge_features", np.stack([chunk[f"x{i}"] for i in range(width)], axis=1))
        for name in ("src", "dst", "time", *(["label"] if columns.label else [])):
            writer.append(name, chunk[name])
        if flags:
            writer.append("edge_classes", chunk["edge_classes"])
        if columns.split:
            _count_parts(parts, chunk["split"], chunk["time"])
        times = [times[0] if times else int(chunk["time"][0]), int(chunk["time"][-1])]
    train, val, test = (int(border) for border in np.cumsum(parts))
    return Written(count, width, times[0], times[1], Split(train, val, test) if columns.split else None)


def _create_columns(writer: StoreWriter, events: int, num_nodes: int, width: int, label: bool, flags: int) -> None:
    node_id = np.dtype(np.int32 if num_nodes < 2**31 else np.int64)
    event_id = np.dtype(np.int32 if events < 2**31 else np.int64)
    index_bytes = 3 * events * (node_id.itemsize + event_id.itemsize) + 16 * num_nodes
    writer.require(index_bytes + events * (2 * node_id.itemsize + 8 + 8 * label + 4 * width + flags))
    writer.create("src", node_id, (events,))
    writer.create("dst", node_id, (events,))
    writer.create("time", np.int64, (events,))
    if label:
        writer.create("label", np.int64, (events,))
    if flags:
        writer.create("edge_classes", np.uint8, (events, flags))
    if width:
        writer.create("edge_features", np.float32, (events, width))


def _sorted_chunks(db: duckdb.DuckDBPyConnection, staged: Staged, rows: int):
    """Chunks of sorted rows, as arrays by column name."""
    wanted = ["s.node AS src", "d.node AS dst", "time"]
    wanted += [role for role in ("label", "split", "edge_classes") if getattr(staged.columns, role)]
    wanted.append("edge_row" if staged.source.edge_row else "staged.rowid AS edge_row")
    wanted += [f"x{i}" for i in range(staged.width)]
    result = db.sql(
        f"SELECT {', '.join(wanted)} FROM staged JOIN src_nodes s ON src = s.id JOIN dst_nodes d ON dst = d.id "
        "WHERE problem IS NULL ORDER BY time, staged.rowid"
    )
    for batch in result.to_arrow_reader(rows):
        chunk = {name: batch.column(name) for name in batch.schema.names}
        lists = chunk.pop("edge_classes", None)
        arrays = {name: column.to_numpy() for name, column in chunk.items()}
        if lists is not None and staged.classes is not None:
            arrays["edge_classes"] = marks(lists, len(staged.classes.names))
        yield arrays


def _count_parts(counts: np.ndarray, split: np.ndarray, time: np.ndarray) -> None:
    """Add a chunk's events to the counts of train, val and test, which must follow one another."""
    reached = int(np.flatnonzero(counts).max(initial=0))
    steps = np.diff(split, prepend=reached)
    if (steps < 0).any():
        at = int(np.argmax(steps < 0))
        raise DataError(
            f"the split does not follow time: an event of part {split[at]} at time {time[at]} comes after one of part "
            f"{split[at] - steps[at]}. Parts must be 0 (train), then 1 (val), then 2 (test); or import without a split."
        )
    counts += np.bincount(split, minlength=3)
