"""Database files: tables of SQLite and of DuckDB. A query names them; a file with one table needs none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.formats.source import FILE_COLUMN, Source, sql_list, sql_name, sql_text
from tgscale.errors import DataError

CATALOG = "database"
"""What a query may call a DuckDB file: ``database.main.sales``."""
BATCH = 50_000
TYPES = {"integer": pa.int64(), "real": pa.float64(), "text": pa.string()}


def is_sqlite(paths: list[Path]) -> bool:
    return _magic(paths, 0, b"SQLite format 3\0")


def is_duckdb(paths: list[Path]) -> bool:
    return _magic(paths, 8, b"DUCK")


def _magic(paths: list[Path], at: int, expected: bytes) -> bool:
    if len(paths) != 1 or not paths[0].is_file():
        return False
    with open(paths[0], "rb") as file:
        return file.read(at + len(expected))[at:] == expected


def read_duckdb(paths: list[Path], work: Path) -> Source:
    if not is_duckdb(paths):
        raise DataError(f"{paths[0]} is not a DuckDB database: give one file that DuckDB wrote.")
    attach = f"ATTACH {sql_text(paths[0])} AS {CATALOG} (READ_ONLY)"
    try:
        with duckdb.connect() as db:
            db.execute(attach)
            query = "SELECT table_name FROM information_schema.tables WHERE table_catalog = ? AND table_schema = 'main'"
            names = [name for (name,) in db.execute(f"{query} ORDER BY table_name", [CATALOG]).fetchall()]
    except duckdb.Error as error:
        raise DataError(f"{paths[0]} cannot be opened: {str(error).splitlines()[0]}") from None
    place = f"{sql_text(paths[0])} AS {FILE_COLUMN}"
    tables: dict[str, Callable[[], str]] = {name: partial(_duckdb_table, name, place) for name in names}
    return _source("duckdb", paths[0], tables, setup=(attach,))


def _duckdb_table(name: str, place: str) -> str:
    return f"(SELECT *, {place} FROM {CATALOG}.main.{sql_name(name)})"


def read_sqlite(paths: list[Path], work: Path) -> Source:
    if not is_sqlite(paths):
        raise DataError(f"{paths[0]} is not a SQLite database: give one file that SQLite wrote.")
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"
    with _opened(paths[0]) as db:
        names = [str(name) for (name,) in db.execute(query)]
    tables: dict[str, Callable[[], str]] = {name: partial(_sqlite_table, paths[0], name, work) for name in names}
    return _source("sqlite", paths[0], tables)


class _opened:
    """A SQLite file, read only; what SQLite cannot do is a DataError."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> sqlite3.Connection:
        self.db = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro", uri=True)
        return self.db

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.db.close()
        if isinstance(error, sqlite3.Error):
            raise DataError(f"{self.file} cannot be read as a SQLite database: {error}.") from None


def _sqlite_table(file: Path, name: str, work: Path) -> str:
    """The table as Parquet, whose columns have one type each (SQLite gives every value a type of its own)."""
    target = work / "0" / f"{name}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    with _opened(file) as db:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({sql_name(name)})")]
        kinds = _kinds(db, name, columns, file)
        wanted = ", ".join(f"CAST({sql_name(column)} AS {kinds[column]})" for column in columns)
        schema = pa.schema([(column, TYPES[kinds[column]]) for column in columns])
        rows = db.execute(f"SELECT {wanted} FROM {sql_name(name)}")
        with pq.ParquetWriter(target, schema) as writer:
            while batch := rows.fetchmany(BATCH):
                arrays = [
                    pa.array(column, kind) for column, kind in zip(zip(*batch, strict=True), schema.types, strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
    return f"read_parquet({sql_list([target])}, filename='{FILE_COLUMN}')"


def _kinds(db: sqlite3.Connection, table: str, columns: list[str], file: Path) -> dict[str, str]:
    """``integer``, ``real`` or ``text`` for each column: the narrowest that holds all its values."""
    counts = ", ".join(
        f"total(typeof({sql_name(column)}) = '{kind}')" for column in columns for kind in ("real", "text", "blob")
    )
    found = db.execute(f"SELECT {counts} FROM {sql_name(table)}").fetchone()
    kinds = {}
    for i, column in enumerate(columns):
        real, text, blob = found[3 * i : 3 * i + 3]
        if blob:
            raise DataError(f"{file}, table {table!r}: column {column!r} holds bytes, which are no numbers or text.")
        kinds[column] = "text" if text else "real" if real else "integer"
    return kinds


def _source(format: str, file: Path, tables: dict[str, Callable[[], str]], setup: tuple[str, ...] = ()) -> Source:
    if not tables:
        raise DataError(f"{file} is a database without tables.")
    listed = ", ".join(list(tables)[:12]) + (", .." if len(tables) > 12 else "")
    return Source(format, "", [file], tables=tables, setup=setup, note=f"a {format} database with tables {listed}")
