"""From events in a database to the sorted edges of a snapshot sequence: steps, merging, sorting, writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb
import numpy as np

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.snapshot_store import SnapshotWriter
from tgscale.data.windows import Cut, Steps, cut

ROW_BYTES = 400
"""Memory that merging takes for a row, generously."""


@dataclass(frozen=True)
class EdgeKind:
    """What an edge carries, and how edges of one step and pair become one.

    Attributes:
        weight: ``"sum"`` of the column ``weight``, the ``"count"`` of events, or None.
        label, edge_type: are there such columns?
        undirected: store every edge both ways.
    """

    weight: str | None
    label: bool
    edge_type: bool
    undirected: bool

    @property
    def extras(self) -> tuple[str, ...]:
        """Columns beside source and destination, by their names in the store."""
        there = {"edge_weight": self.weight, "edge_type": self.edge_type, "edge_label": self.label}
        return tuple(name for name, is_there in there.items() if is_there)


def write_edges(
    db: duckdb.DuckDBPyConnection,
    writer: SnapshotWriter,
    edges: EdgeKind,
    how: Cut,
    num_nodes: int,
    time_unit: str,
    memory: int,
    progress: Callable[[str], None],
) -> tuple[Steps, int]:
    """Assign steps to the table ``events``, merge the edges of a step, sort, and write them.

    Args:
        db: where ``events`` is.
        writer: gets the columns of edges, ``graph_of`` and ``step_time``.
        edges: what an edge carries.
        how: how events become snapshots.
        num_nodes: number of nodes.
        time_unit: unit of ``time``.
        memory: bytes that the import may take.
        progress: is called with a few words at each step.

    Returns:
        The steps, and the number of edge types.
    """
    steps = cut(db, how, "events", time_unit)
    progress("sorting")
    _assign_steps(db, edges, steps)
    progress("merging")
    for first, last in _batches(_rows_of_steps(db, edges, steps), max(1, memory // ROW_BYTES)):
        _merge_edges(db, edges, steps, first, last)
    count = db.execute("SELECT count(*) FROM edges").fetchall()[0][0]
    progress("writing")
    writer.create_edges(steps.count, num_nodes, count, edges.extras)
    relations = 1
    for chunk in _chunks(db, edges):
        extras = {name: chunk[name] for name in edges.extras}
        writer.append_edges(chunk["step"], chunk["dst"], chunk["src"], **extras)
        if edges.edge_type:
            relations = max(relations, int(chunk["edge_type"].max()) + 1)
    writer.finish_edges()
    writer.write("graph_of", np.arange(steps.count, dtype=np.int32))
    writer.write("step_time", steps.time)
    return steps, relations


def _assign_steps(db: duckdb.DuckDBPyConnection, edges: EdgeKind, steps: Steps) -> None:
    """Make the table ``stepped``, sorted by step, and the empty table ``edges``."""
    carried = {"label": "place, label", "edge_type": "edge_type::SMALLINT AS edge_type", "weight": "weight"}
    there = {"label": edges.label, "edge_type": edges.edge_type, "weight": edges.weight == "sum"}
    wanted = ["src::INTEGER AS src", "dst::INTEGER AS dst", *(sql for name, sql in carried.items() if there[name])]
    wanted.append(f"({steps.sql})::INTEGER AS step")
    if steps.until_sql:
        wanted.append(f"({steps.until_sql})::INTEGER AS last_step")
    position = ", row_number() OVER (ORDER BY time, place) - 1 AS position" if "position" in steps.sql else ""
    events = f"SELECT *{position} FROM events"
    db.execute(f"CREATE TABLE stepped AS SELECT {', '.join(wanted)} FROM ({events}) ORDER BY step")
    types = {"edge_weight": "FLOAT", "edge_type": "SMALLINT", "edge_label": "BIGINT"}
    columns = ", ".join(f"{name} {types[name]}" for name in edges.extras)
    db.execute(f"CREATE TABLE edges (step INTEGER, dst INTEGER, src INTEGER{', ' * bool(columns)}{columns})")


def _rows_of_steps(db: duckdb.DuckDBPyConnection, edges: EdgeKind, steps: Steps) -> np.ndarray:
    """How many rows have to be merged for each step, int64 ``[steps]``."""
    rows = _counts(db, "step", steps.count)
    if steps.until_sql:
        ended = _counts(db, "last_step", steps.count)
        rows = np.cumsum(rows) - np.cumsum(ended) + ended
    return rows * (2 if edges.undirected else 1)


def _counts(db: duckdb.DuckDBPyConnection, column: str, size: int) -> np.ndarray:
    found = db.execute(f"SELECT {column} AS step, count(*) AS rows FROM stepped GROUP BY 1").fetchnumpy()
    counts = np.zeros(size, np.int64)
    counts[found["step"]] = found["rows"]
    return counts


def _batches(rows: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """First and last step of runs of steps that have at most so many rows together, or are a single step."""
    ends = np.cumsum(rows)
    first = 0
    while first < len(rows):
        before = ends[first - 1] if first else 0
        last = max(first, int(np.searchsorted(ends, before + most, side="right")) - 1)
        yield first, last
        first = last + 1


def _merge_edges(db: duckdb.DuckDBPyConnection, edges: EdgeKind, steps: Steps, first: int, last: int) -> None:
    """Add the edges of steps ``first`` to ``last`` to the table ``edges``: one row for each destination and source
    (and type) of a step, sorted."""
    rows = f"SELECT * FROM stepped WHERE step BETWEEN {first} AND {last}"
    if steps.until_sql:
        span = f"range(greatest(step, {first}), least(last_step, {last}) + 1)"
        rows = f"SELECT * REPLACE (unnest({span}) AS step) FROM stepped WHERE step <= {last} AND last_step >= {first}"
    if edges.undirected:
        turned = "SELECT * REPLACE (dst AS src, src AS dst) FROM stepping WHERE src <> dst"
        rows = f"WITH stepping AS MATERIALIZED ({rows}) FROM stepping UNION ALL {turned}"
    values = {
        "edge_weight": "count(*)" if edges.weight == "count" else "sum(weight::DOUBLE)",
        "edge_type": "edge_type",
        "edge_label": "arg_min(label, place)",
    }
    keys = "step, dst, src" + (", edge_type" if edges.edge_type else "")
    selected = ", ".join(["step, dst, src", *(values[name] for name in edges.extras)])
    db.execute(f"INSERT INTO edges SELECT {selected} FROM ({rows}) GROUP BY {keys} ORDER BY {keys}")


def _chunks(db: duckdb.DuckDBPyConnection, edges: EdgeKind) -> Iterator[dict[str, np.ndarray]]:
    """The table ``edges`` in the order in which it was filled."""
    result = db.sql("SELECT * FROM edges")
    for batch in result.to_arrow_reader(CHUNK_BYTES // 32):
        if batch.num_rows:
            yield {name: batch.column(name).to_numpy() for name in batch.schema.names}
