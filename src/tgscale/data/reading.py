"""Source rows checked and their nodes numbered: what an import of events and one of snapshots begin with."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from tgscale.data.columns import choose_columns, unused_columns
from tgscale.data.formats import check_format, read_source
from tgscale.data.formats.dyglib import load_table
from tgscale.data.formats.source import FILE_COLUMN, Columns, Source, sql_name
from tgscale.data.nodes import Nodes, number_nodes
from tgscale.data.problems import Dropped, check_rows
from tgscale.data.staging import Staged, Times, looks_integer, stage
from tgscale.data.value_words import Rules
from tgscale.data.work import parse_memory
from tgscale.errors import ConfigError, DataError


@dataclass(frozen=True)
class Reading:
    """How to read a source. See :func:`tgscale.data.ingest.import_events` for the options.

    ``before`` names the columns of an earlier source that this one follows, by part. ``of_events``: rows may have edge
    features and classes.

    Raises:
        ConfigError: an option that cannot be used.
    """

    columns: Columns
    times: Times
    format: str = "auto"
    node_features: str | Path | None = None
    bipartite: bool = False
    on_error: str = "stop"
    ids: str = "auto"
    query: str | None = None
    memory_limit: str = "2GB"
    before: dict[str, Any] | None = None
    of_events: bool = False

    def __post_init__(self) -> None:
        parse_memory(self.memory_limit)
        check_format(self.format)
        check_choice("--on-error", self.on_error, ("stop", "drop"))
        check_choice("--ids", self.ids, ("auto", "int", "text"))

    @property
    def memory(self) -> int:
        """Bytes that the import may take."""
        return parse_memory(self.memory_limit)


@dataclass(frozen=True)
class Prepared:
    """Rows in the table ``staged``, nodes in ``src_nodes`` and ``dst_nodes``.

    Attributes:
        source: the rows.
        columns: settled parts of the columns.
        staged: what the table was made of.
        nodes: the numbered nodes.
        dropped: rows left out.
        unused: columns of a table that play no part.
    """

    source: Source
    columns: Columns
    staged: Staged
    nodes: Nodes
    dropped: list[Dropped]
    unused: list[str]

    def node_table(self, given: str | Path | None) -> Any:
        """Where node features come from: the file given, the format's own table, or None."""
        return Path(given) if given and self.source.node_table is None else self.source.node_table


def prepare(
    db: duckdb.DuckDBPyConnection, paths: list[Path], reading: Reading, work: Path, progress: Callable[[str], None]
) -> Prepared:
    """Read, check and number the rows of these files; ``work`` is a folder for what has to be unpacked.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: a source that cannot be used; names file, row and column.
    """
    rows, staged, dropped = checked_rows(db, paths, reading, work, progress)
    nodes = number_nodes(db, staged, reading.bipartite or rows.bipartite)
    return Prepared(rows, staged.columns, staged, nodes, dropped, _unused(db, staged, reading))


def _unused(db: duckdb.DuckDBPyConnection, staged: Staged, reading: Reading) -> list[str]:
    if staged.source.columns.src is not None:  # of a format that knows its columns nobody misses one
        return []
    found = db.execute(f"DESCRIBE SELECT * FROM {staged.source.relation}").fetchall()
    return unused_columns(staged.columns, [name for name, *_ in found], reading.columns.label == "")


def checked_rows(
    db: duckdb.DuckDBPyConnection, paths: list[Path], reading: Reading, work: Path, progress: Callable[[str], None]
) -> tuple[Source, Staged, list[Dropped]]:
    """Read and check the rows of these files, as :func:`prepare` does, without numbering their nodes.

    Returns:
        The rows, what the table ``staged`` was made of, and the rows left out.
    """
    progress("reading")
    rows = _describe(db, paths, reading.format, reading.query, reading.node_features, work)
    columns, types = _columns(db, rows, reading.columns, reading.before)
    staged = stage(db, rows, types, columns, reading.times, reading.ids, reading.bipartite or rows.bipartite)
    progress("checking")
    return rows, staged, check_rows(db, staged, _rules(rows, reading), reading.on_error)


def _rules(rows: Source, reading: Reading) -> Rules:
    if reading.before is not None:
        return Rules(reading.times, "before")
    ids = "option" if reading.ids != "auto" else "format" if rows.ids != "auto" else "first"
    return Rules(reading.times, ids, reading.of_events)


def find_files(source: str | Path | Sequence[str | Path] | None, query: str | None) -> list[Path]:
    """The files of a source: a file, a folder, a pattern, or several of them; none for a bare query."""
    if source is None:
        if query is None:
            raise ConfigError("nothing to import: give a source, or a --query.")
        return []
    found: list[Path] = []
    for item in [source] if isinstance(source, str | Path) else source:
        matching = [str(item)] if Path(item).exists() else sorted(glob.glob(str(item), recursive=True))
        if not matching:
            raise DataError(f"source {item} not found: give a file, a folder, or a pattern such as 'part-*.parquet'.")
        found += map(Path, matching)
    return found


def origin(prepared: Prepared, reading: Reading) -> dict[str, Any]:
    """What ``meta.json`` keeps about where the data came from."""
    return {
        "format": prepared.source.format,
        "files": [str(file) for file in prepared.source.files],
        "query": reading.query,
        "source_time_unit": reading.times.source_unit,
        "columns": vars(prepared.columns),
        "dropped": {reason.part: reason.rows for reason in prepared.dropped},
    }


def check_choice(option: str, given: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices."""
    if given not in choices:
        raise ConfigError(f"{option} {given!r} is unknown: choose {' or '.join(choices)}.")


def _describe(
    db: duckdb.DuckDBPyConnection,
    paths: list[Path],
    format: str,
    query: str | None,
    node_features: str | Path | None,
    work: Path,
) -> Source:
    rows = read_source(paths, format, work) if paths else Source("query", "", [])
    for statement in rows.setup:
        db.execute(statement)
    if rows.tables:
        rows = _with_tables(db, rows, query)
    if query is not None:
        note = "an SQL query"
        if paths:
            if rows.relation:
                db.execute(f"CREATE VIEW source AS SELECT * FROM {rows.relation}")
            note += f" over {rows.note}"
        rows = Source("query", f"({query.strip().rstrip(';')})", rows.files, text=rows.text, note=note)
    if node_features is None:
        return rows
    if not Path(node_features).exists():
        raise DataError(f"node features {node_features} not found: give a .npy, CSV or Parquet file.")
    table = load_table(Path(node_features)) if Path(node_features).suffix == ".npy" else None
    # Rows of an array are found by id, so ids must be integers.
    return replace(rows, node_table=table, ids=rows.ids if table is None else "int")


def _with_tables(db: duckdb.DuckDBPyConnection, rows: Source, query: str | None) -> Source:
    """A database's tables under their own names for a query; its only table is the source."""
    if query is None and len(rows.tables) > 1:
        raise DataError(
            f"{rows.files[0]} holds the tables {', '.join(list(rows.tables)[:12])}: say which rows are meant, "
            'such as --query "SELECT * FROM TABLE".'
        )
    only = next(iter(rows.tables)) if len(rows.tables) == 1 else None
    relations = {
        name: relation()
        for name, relation in rows.tables.items()
        if name == only or re.search(rf"(?i)\b{re.escape(name)}\b", query or "")
    }
    for name, relation in relations.items():
        db.execute(f"CREATE VIEW {sql_name(name)} AS SELECT * EXCLUDE {FILE_COLUMN} FROM {relation}")
    return replace(rows, relation=relations[only] if only else "")


def _columns(
    db: duckdb.DuckDBPyConnection, rows: Source, given: Columns, before: dict[str, Any] | None
) -> tuple[Columns, dict[str, str]]:
    types = {name: kind for name, kind, *_ in db.execute(f"DESCRIBE SELECT * FROM {rows.relation}").fetchall()}
    where = "the query" if rows.format == "query" else str(rows.files[0])
    columns = choose_columns(given, rows.columns, types, where, before)
    guessed = columns.label if given.label is None and rows.columns.label is None else None
    if guessed is not None and not looks_integer(db, rows, types, guessed):
        columns = replace(columns, label=None)  # a column of that name, but no labels that could be stored
    return columns, types
