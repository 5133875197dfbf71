"""From events in a database to the sorted edges of a snapshot sequence: steps, merging, sorting, writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb
import numpy as np

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.snapshot_store import SnapshotWriter
from tgscale.data.windows import Cut, Steps, cut


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
    progress: Callable[[str], None],
) -> tuple[Steps, int]:
    """Assign steps to the table ``events``, merge the edges of a step, sort, and write them.

    Returns:
        The steps, and the number of edge types.
    """
    steps = cut(db, how, "events", time_unit)
    progress("merging")
    _merge_edges(db, edges, steps)
    count = db.execute("SELECT count(*) FROM edges").fetchall()[0][0]
    writer.create_edges(steps.count, num_nodes, count, edges.extras)
    progress("sorting")
    relations = 1
    for chunk in _sorted_chunks(db, edges):
        extras = {name: chunk[name] for name in edges.extras}
        writer.append_edges(chunk["step"], chunk["dst"], chunk["src"], **extras)
        if edges.edge_type:
            relations = max(relations, int(chunk["edge_type"].max()) + 1)
    writer.finish_edges()
    writer.write("graph_of", np.arange(steps.count, dtype=np.int32))
    writer.write("step_time", steps.time)
    return steps, relations


def _merge_edges(db: duckdb.DuckDBPyConnection, edges: EdgeKind, steps: Steps) -> None:
    """Make the table ``edges``: one row for each step, destination, source (and type)."""
    carried = ["place"]
    carried += [name for name, there in (("label", edges.label), ("edge_type", edges.edge_type)) if there]
    carried += ["weight"] if edges.weight == "sum" else []
    ordered = "position" in steps.sql
    place = ", row_number() OVER (ORDER BY time, place) - 1 AS position" if ordered else ""
    last = f", {steps.until_sql} AS last_step" if steps.until_sql else ""
    stepped = f"SELECT src, dst, {', '.join(carried)}, {steps.sql} AS step{last} FROM (SELECT *{place} FROM events)"
    if edges.undirected:
        turned = "SELECT * REPLACE (dst AS src, src AS dst) FROM stepped WHERE src <> dst"
        stepped = f"WITH stepped AS MATERIALIZED ({stepped}) FROM stepped UNION ALL {turned}"
    step = "unnest(range(step, last_step + 1))" if steps.until_sql else "step"
    keys = [f"{step}::INTEGER AS step", "dst::INTEGER AS dst", "src::INTEGER AS src"]
    values = []
    if edges.edge_type:
        keys.append("edge_type::SMALLINT AS edge_type")
    if edges.weight:
        values.append(f"{'sum(weight::DOUBLE)' if edges.weight == 'sum' else 'count(*)'}::FLOAT AS edge_weight")
    if edges.label:
        values.append("arg_min(label, place)::BIGINT AS edge_label")
    inner = ", ".join([*keys, *carried])
    grouped = ", ".join([key.rpartition(" ")[2] for key in keys] + values)
    db.execute(f"CREATE TABLE edges AS SELECT {grouped} FROM (SELECT {inner} FROM ({stepped})) GROUP BY ALL")


def _sorted_chunks(db: duckdb.DuckDBPyConnection, edges: EdgeKind) -> Iterator[dict[str, np.ndarray]]:
    by = "step, dst, src" + (", edge_type" if edges.edge_type else "")
    result = db.sql(f"SELECT step, dst, src, {', '.join(edges.extras)} FROM edges ORDER BY {by}")
    for batch in result.to_arrow_reader(CHUNK_BYTES // 32):
        if batch.num_rows:
            yield {name: batch.column(name).to_numpy() for name in batch.schema.names}
