"""Sources, or pairs of nodes, that a snapshot sequence is asked about: rows of a table, as numbers of nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgscale.data.columns import USUAL, choose_columns
from tgscale.data.formats import recognised
from tgscale.data.formats.source import FILE_COLUMN, Columns, sql_name
from tgscale.data.problems import refuse_bad_lines
from tgscale.data.snapshot_ids import NamedSnapshots
from tgscale.data.value_words import counted
from tgscale.data.work import work_database
from tgscale.errors import DataError

MEMORY = 2 << 30


def read_queries(
    file: Path, named: NamedSnapshots, src: str | None = None, dst: str | None = None, before: Mapping[str, Any] = {}
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Read a table (CSV, Parquet, JSON) with a column of sources and maybe one of destinations.

    Args:
        file: the table.
        named: the sequence whose nodes they are.
        src, dst: columns; those of ``before``, or ones with usual names, unless given.
        before: columns of the sequence's own source, by part.

    Returns:
        Nodes of both columns, int64, a row each, None for destinations that are not there; and names of columns that
        are neither.

    Raises:
        DataError: no such file or column, a line that cannot be read, or an id that is no node.
    """
    wanted = "give a CSV, Parquet or JSON file with a column of sources"
    if not file.is_file():
        raise DataError(f"--queries {file} {'is a folder' if file.exists() else 'not found'}: {wanted}.")
    if (known := recognised([file])) is None:
        raise DataError(f"--queries {file} is no table, by its name and content: {wanted}.")
    with tempfile.TemporaryDirectory() as folder, work_database(work := Path(folder) / "work", MEMORY, None) as db:
        source = known.read([file], work)
        described = db.execute(f"DESCRIBE SELECT * FROM {source.relation}").fetchall()
        names = [name for name, *_ in described if name != FILE_COLUMN]
        ends = _ends(names, f"--queries {file}", src, dst, before)
        listed = ", ".join(f"{sql_name(column)}::VARCHAR" for column in ends)
        rows = db.sql(f"SELECT {listed} FROM {source.relation}").to_arrow_table()
        assert rows is not None
        refuse_bad_lines(db, source, "--queries")
    nodes = [
        _nodes(named, rows.column(side).combine_chunks(), side, f"--queries {file}, column {column!r}")
        for side, column in enumerate(ends)
    ]
    return nodes[0], nodes[1] if len(nodes) > 1 else None, [name for name in names if name not in ends]


def _ends(names: list[str], where: str, src: str | None, dst: str | None, before: Mapping[str, Any]) -> list[str]:
    """The column of sources, and that of destinations where there is one: a column is not both."""
    if src is not None and src == dst:
        raise DataError(f"{where}: --src and --dst both name the column {src!r}: give each one of its own.")
    earlier = {role: before[role] for role in ("src", "dst") if before.get(role)}
    among = [name for name in names if name != dst]
    ends = [choose_columns(Columns(src, "", time=""), Columns(), among, where, earlier).src]
    others = [name for name in names if name != ends[0]]
    if dst is not None or earlier.get("dst") in others or any(name.lower() in USUAL["dst"] for name in others):
        ends.append(choose_columns(Columns("", dst, time=""), Columns(), others, where, earlier).dst)
    return [end for end in ends if end]


def _nodes(named: NamedSnapshots, texts: pa.Array, side: int, where: str) -> np.ndarray:
    nodes = named.nodes_of(texts, side)
    unknown = np.flatnonzero(nodes < 0)
    if len(unknown):
        example = texts[int(unknown[0])].as_py()
        such = "an empty id" if example is None else repr(example)
        raise DataError(
            f"{where}: {counted(len(unknown), 'row has', 'rows have')} an id that is no node of the snapshots, such as "
            f"{such} in row {int(unknown[0]) + 1}: leave such rows out."
        )
    if not len(nodes):
        raise DataError(f"{where}: there are no rows: nothing is asked.")
    return nodes
