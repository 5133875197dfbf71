"""What a format hands to the importer: rows as a DuckDB relation, and what its columns mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FILE_COLUMN = "__file"
"""Name of the extra column in which a relation says which file a row came from."""


@dataclass(frozen=True)
class Columns:
    """Which column plays which part; None where nobody said.

    Attributes:
        src, dst, time, label: names of columns.
        split: name of a column that holds 0 (train), 1 (val) or 2 (test).
        edge_features: names or patterns such as ``f*``.
        edge_classes: one column of classes or of lists of them, or several of 0 and 1; names or patterns.
        weight, edge_type: names of columns; for snapshots. A weight of ``"auto"`` is a column ``weight``, if any.
        until: name of the column of the last snapshot in which an edge stands, when ``time`` is the first.
    """

    src: str | None = None
    dst: str | None = None
    time: str | None = None
    label: str | None = None
    split: str | None = None
    edge_features: tuple[str, ...] = ()
    weight: str | None = None
    edge_type: str | None = None
    until: str | None = None
    edge_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Rows to import.

    Attributes:
        format: name of the format.
        relation: SQL that stands after FROM; rows come in the order of the files.
        files: the files read, for reports.
        columns: the parts of the columns, as far as the format knows them.
        text: every column is text and DuckDB keeps a table of the lines it could not split (CSV).
        ids: ``"int"`` when the format promises integer ids, else ``"auto"``.
        first_id: the lowest id the format allows, or None; ids below are padding.
        edge_table: edge features that lie beside the rows, shape ``[rows, F]``, or None.
        edge_row: column that holds the row of ``edge_table``, or None when it is the position of the row.
        node_table: node features by source id, shape ``[ids, G]``, or None.
        bipartite: the format says that sources and destinations have ids of their own.
        note: how the format was recognised, and what was left out.
        header: lines before the first row of each text file.
        tables: for a database, how to get a relation of each of its tables; ``relation`` is empty then.
        setup: statements to run before the relation can be read.
    """

    format: str
    relation: str
    files: list[Path]
    columns: Columns = field(default_factory=Columns)
    text: bool = False
    ids: str = "auto"
    first_id: int | None = None
    edge_table: np.ndarray | None = None
    edge_row: str | None = None
    node_table: np.ndarray | None = None
    bipartite: bool = False
    note: str = ""
    header: int = 1
    tables: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    setup: tuple[str, ...] = ()


def sql_name(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_text(text: str | Path) -> str:
    """A string as an SQL literal."""
    return "'" + str(text).replace("'", "''") + "'"


def sql_list(texts: list[Path]) -> str:
    """Strings as an SQL list."""
    return "[" + ", ".join(sql_text(text) for text in texts) + "]"
