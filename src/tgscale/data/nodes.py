"""From the ids of a source to nodes ``0..N-1``: numbering, mapping file, node features.

Nodes are numbered in ascending order of their ids (numbers by value, text by bytes), so the numbering depends on the
set of ids alone. Ids that are ``0..N-1`` already stay as they are. In a bipartite stream each side is numbered by
itself, sources first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from tgscale.data.directory import CHUNK_BYTES, DirectoryWriter
from tgscale.data.event_classes import sort_classes
from tgscale.data.formats import read_source
from tgscale.data.formats.source import FILE_COLUMN, sql_name, sql_text
from tgscale.data.problems import refuse_bad_lines
from tgscale.data.staging import Staged
from tgscale.data.store import NODE_IDS
from tgscale.errors import DataError

ID_COLUMNS = ("id", "node", "node_id")


@dataclass(frozen=True)
class Nodes:
    """Numbered nodes; the tables ``src_nodes``, ``dst_nodes`` and ``nodes`` (node, id) hold them.

    Attributes:
        count: number of nodes.
        num_sources: how many of them are sources, for a bipartite stream, else None.
        dense: the ids were ``0..N-1`` (on each side) already.
    """

    count: int
    num_sources: int | None
    dense: bool


def number_nodes(db: duckdb.DuckDBPyConnection, staged: Staged, bipartite: bool) -> Nodes:
    """Number the nodes of the usable rows of ``staged``."""
    usable = "FROM staged WHERE problem IS NULL"
    if not bipartite:
        count, dense = _number(db, "src_nodes", f"SELECT src AS id {usable} UNION SELECT dst {usable}", 0)
        db.execute("CREATE VIEW dst_nodes AS FROM src_nodes")
        db.execute("CREATE VIEW nodes AS FROM src_nodes")
        return Nodes(count, None, dense and staged.ids["src"] == "int")
    sources, dense_src = _number(db, "src_nodes", f"SELECT DISTINCT src AS id {usable}", 0)
    others, dense_dst = _number(db, "dst_nodes", f"SELECT DISTINCT dst AS id {usable}", sources)
    kind = "VARCHAR" if "text" in staged.ids.values() else "BIGINT"
    both = " UNION ALL ".join(f"SELECT node, id::{kind} AS id FROM {side}_nodes" for side in ("src", "dst"))
    db.execute(f"CREATE VIEW nodes AS {both}")
    return Nodes(sources + others, sources, dense_src and dense_dst and kind == "BIGINT")


def _number(db: duckdb.DuckDBPyConnection, table: str, ids: str, first: int) -> tuple[int, bool]:
    db.execute(f"CREATE TABLE {table} AS SELECT {first} + row_number() OVER (ORDER BY id) - 1 AS node, id FROM ({ids})")
    count, lowest, highest = db.execute(f"SELECT count(*), min(id), max(id) FROM {table}").fetchall()[0]
    return count, lowest == 0 and highest == count - 1


def write_node_ids(db: duckdb.DuckDBPyConnection, folder: Path, nodes: Nodes) -> None:
    """Write the mapping, unless the ids were dense."""
    if not nodes.dense:
        db.execute(f"COPY (FROM nodes ORDER BY node) TO {sql_text(folder / NODE_IDS)} (FORMAT parquet)")


def write_node_features(
    db: duckdb.DuckDBPyConnection, writer: DirectoryWriter, nodes: Nodes, table: np.ndarray | Path | None
) -> int:
    """Write node features in the order of the nodes.

    Args:
        table: rows by source id, or a CSV, Parquet or JSON file that has an id column; None for no features.

    Returns:
        The number of features.

    Raises:
        DataError: a node has no features, has them twice or not finite, or an id is on both sides.
    """
    if table is None:
        return 0
    _refuse_shared_ids(db, nodes, "node features")
    width, chunks = _from_array(db, table) if isinstance(table, np.ndarray) else _from_file(db, nodes, table, writer)
    writer.create("node_features", np.float32, (nodes.count, width))
    done = 0
    for chunk in chunks:
        finite = np.isfinite(chunk).all(axis=1)
        if not finite.all():
            node = done + int(np.argmin(finite))
            id = db.cursor().execute("SELECT id FROM nodes WHERE node = ?", [node]).fetchall()[0][0]
            raise DataError(f"the node features of id {id!r} are missing or hold a value that is not finite.")
        writer.append("node_features", chunk)
        done += len(chunk)
    return width


def write_node_labels(
    db: duckdb.DuckDBPyConnection, writer: DirectoryWriter, nodes: Nodes, file: Path, column: str | None
) -> list[str]:
    """Write the class of each node, int32, -1 where the file does not say.

    Args:
        file: CSV, Parquet or JSON, with an id column and one of classes (numbers or text).
        column: the column of classes; the only other one unless given.

    Returns:
        Names of the classes, in the order of their numbers.

    Raises:
        DataError: no such file or column, an id with two classes or on both sides, no class, or none of a node.
    """
    _refuse_shared_ids(db, nodes, "node labels")
    if not file.exists():
        raise DataError(f"node labels {file} not found: give a CSV, Parquet or JSON file.")
    source = read_source([file], "auto", writer.folder / "work" / "labels")
    relation = source.relation
    key, label = _label_columns(db, file, relation, column)
    reader = db.cursor()  # has a table of bad lines of its own
    reader.execute(
        f"CREATE TABLE labels AS SELECT DISTINCT {sql_name(key)}::VARCHAR AS id, {sql_name(label)}::VARCHAR AS label "
        f"FROM {relation} WHERE {sql_name(label)} IS NOT NULL"
    )
    refuse_bad_lines(reader, source, "--node-labels")
    twice = db.execute("SELECT id FROM labels GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 1").fetchall()
    if twice:
        raise DataError(f"{file}: the id {twice[0][0]!r} has more than one class in column {label!r}: keep one.")
    names = sort_classes(name for (name,) in db.execute("SELECT DISTINCT label FROM labels").fetchall())
    db.execute("CREATE TABLE classes AS SELECT unnest(?::VARCHAR[]) AS label, unnest(range(?))::INTEGER AS number",
               [names, len(names)])  # fmt: skip
    found = db.sql(
        "SELECT coalesce(number, -1)::INTEGER AS number FROM nodes LEFT JOIN labels ON nodes.id::VARCHAR = labels.id "
        "LEFT JOIN classes USING (label) ORDER BY node"
    ).to_arrow_reader(CHUNK_BYTES // 4)
    writer.create("node_label", np.int32, (nodes.count,))
    known = 0
    for batch in found:
        numbers = batch.column(0).to_numpy()
        known += int(np.count_nonzero(numbers >= 0))
        writer.append("node_label", numbers)
    if not known:
        raise DataError(f"{file}: no id in column {key!r} is a node of the events, so no node has a class.")
    return names


def _label_columns(db: duckdb.DuckDBPyConnection, file: Path, relation: str, column: str | None) -> tuple[str, str]:
    names = [name for name, *_ in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall() if name != FILE_COLUMN]
    key = next((name for name in ID_COLUMNS if name in names), names[0])
    others = [name for name in names if name != key]
    if column is None and len(others) == 1:
        return key, others[0]
    if column is None or column not in others:
        said = "which column holds the classes is not said" if column is None else f"there is no column {column!r}"
        raise DataError(f"{file}: {said}; beside the id {key!r} it has {others}: give --node-label-column NAME.")
    return key, column


def _refuse_shared_ids(db: duckdb.DuckDBPyConnection, nodes: Nodes, what: str) -> None:
    """Refuse what is told by id where an id may be a source and a destination."""
    if nodes.num_sources is None:
        return
    both = "SELECT id FROM nodes GROUP BY id HAVING count(*) > 1"
    shared = db.execute(f"SELECT count(*) FROM ({both})").fetchall()[0][0]
    if shared:
        raise DataError(
            f"{what} do not go with this bipartite source: {shared} ids are both source and destination, "
            f"and the {what.split()[-1]} do not say which is meant. Make the ids of the two sides different."
        )


def _from_array(db: duckdb.DuckDBPyConnection, table: np.ndarray) -> tuple[int, Iterator[np.ndarray]]:
    rows = max(1, CHUNK_BYTES // max(1, 4 * table.shape[1]))
    ids = db.sql("SELECT id FROM nodes ORDER BY node").to_arrow_reader(rows)
    return table.shape[1], (np.asarray(table[batch.column(0).to_numpy()], np.float32) for batch in ids)


def _from_file(
    db: duckdb.DuckDBPyConnection, nodes: Nodes, file: Path, writer: DirectoryWriter
) -> tuple[int, Iterator[np.ndarray]]:
    relation = read_source([file], "auto", writer.folder / "work" / "nodes").relation
    names = [name for name, *_ in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall() if name != FILE_COLUMN]
    key = next((name for name in ID_COLUMNS if name in names), names[0])
    features = [name for name in names if name != key]
    columns = ", ".join(f"try_cast({sql_name(name)} AS FLOAT) AS x{i}" for i, name in enumerate(features))
    db.execute(f"CREATE TABLE features AS SELECT {sql_name(key)}::VARCHAR AS id, {columns} FROM {relation}")
    twice = db.execute("SELECT id FROM features GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 1").fetchall()
    if twice:
        raise DataError(f"{file}: the id {twice[0][0]!r} has more than one row of features: keep one.")
    wanted = ", ".join(f"x{i}" for i in range(len(features)))
    rows = max(1, CHUNK_BYTES // max(1, 4 * len(features)))
    found = db.sql(
        f"SELECT {wanted} FROM nodes LEFT JOIN features ON nodes.id::VARCHAR = features.id ORDER BY node"
    ).to_arrow_reader(rows)
    chunks = (np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], axis=1) for batch in found)
    return len(features), chunks
