"""Sources, or pairs of nodes, that a snapshot sequence is asked about: rows of a table, as numbers of nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgscale.data.columns import USUAL, choose_columns
from tgscale.data.formats import read_source
from tgscale.data.formats.source import FILE_COLUMN, Columns, sql_name
from tgscale.data.problems import refuse_bad_lines
from tgscale.data.snapshot_ids import NamedSnapshots
from tgscale.data.value_words import counted
from tgscale.data.work import work_database
from tgscale.errors import DataError

MEMORY = 2 << 30


def read_queries(
    file: Path, named: NamedSnapshots, src: str | None = None, dst: str | None = None, before: Mapping[str, Any] = {}
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a table (CSV, Parquet, JSON) with a column of sources and maybe one of destinations.

    Args:
        file: the table.
        named: the sequence whose nodes they are.
        src, dst: columns; those of ``before``, or ones with usual names, unless given.
        before: columns of the sequence's own source, by part.

    Returns:
        Nodes of both columns, int64, a row each; None for destinations that are not there.

    Raises:
        DataError: no such file or column, a line that cannot be read, or an id that is no node.
    """
    if not file.exists():
        raise DataError(f"--queries {file} not found: give a CSV, Parquet or JSON file with a column of sources.")
    with tempfile.TemporaryDirectory() as folder, work_database(work := Path(folder) / "work", MEMORY, None) as db:
        source = read_source([file], "auto", work)
        described = db.execute(f"DESCRIBE SELECT * FROM {source.relation}").fetchall()
        columns = _columns(
            [name for name, *_ in described if name != FILE_COLUMN], f"--queries {file}", src, dst, before
        )
        wanted = [column for column in (columns.src, columns.dst) if column]
        listed = ", ".join(f"{sql_name(column)}::VARCHAR" for column in wanted)
        rows = db.sql(f"SELECT {listed} FROM {source.relation}").to_arrow_table()
        assert rows is not None
        refuse_bad_lines(db, source, "--queries")
    nodes = [
        _nodes(named, rows.column(side).combine_chunks(), side, f"--queries {file}, column {column!r}")
        for side, column in enumerate(wanted)
    ]
    return nodes[0], nodes[1] if len(nodes) > 1 else None


def _columns(names: list[str], where: str, src: str | None, dst: str | None, before: Mapping[str, Any]) -> Columns:
    usual = dst is not None or before.get("dst") in names or any(name.lower() in USUAL["dst"] for name in names)
    given = Columns(src, dst if usual else "", time="")
    return choose_columns(
        given, Columns(), names, where, {role: before[role] for role in ("src", "dst") if role in before}
    )


def _nodes(named: NamedSnapshots, texts: pa.Array, side: int, where: str) -> np.ndarray:
    nodes = named.nodes_of(texts, side)
    unknown = np.flatnonzero(nodes < 0)
    if len(unknown):
        raise DataError(
            f"{where}: {counted(len(unknown), 'row has', 'rows have')} an id that is no node of the snapshots, such as "
            f"{texts[int(unknown[0])].as_py()!r} in row {int(unknown[0]) + 1}: leave such rows out."
        )
    if not len(nodes):
        raise DataError(f"{where}: there are no rows: nothing is asked.")
    return nodes
