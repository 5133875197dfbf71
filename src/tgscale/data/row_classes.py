"""The true classes of rows that follow a data directory, as far as a column of theirs tells them.

They are looked up beside the rows, so that one may be absent: the row is one all the same, and its class not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import duckdb
import numpy as np

from tgscale.data.append import UNTOLD, UNTOLD_CLASSES
from tgscale.data.columns import USUAL
from tgscale.data.directory import CHUNK_BYTES, DirectoryWriter
from tgscale.data.event_classes import marks
from tgscale.data.formats.source import FILE_COLUMN, Source, sql_name, sql_text
from tgscale.data.ids import SIDES
from tgscale.data.staging import Staged
from tgscale.errors import DataError

KIND = "known_class"
"""DuckDB type whose codes are the numbers of the directory's classes."""


@dataclass(frozen=True)
class ClassNames:
    """The classes of a directory's events.

    Attributes:
        column: that holds them, ``label`` or ``edge_classes``.
        names: by number; the source's integers where its classes have no names.
    """

    column: str
    names: tuple[str, ...] | tuple[int, ...]

    @property
    def several(self) -> bool:
        """Whether an event may have more than one."""
        return self.column == "edge_classes"


def write_classes(
    db: duckdb.DuckDBPyConnection,
    writer: DirectoryWriter,
    rows: Source,
    staged: Staged,
    classes: ClassNames,
    given: tuple[str, ...] | None,
    meta: dict[str, Any],
) -> int:
    """Write the column of the true classes, in the order of the rows, if they tell any.

    Args:
        db: with the table ``staged``, all rows of which are checked.
        writer: of the rows.
        rows: where they came from.
        staged: what the table was made of.
        classes: those of the directory.
        given: the columns that hold the classes, names or patterns; empty: nothing is read; None: as in the import.
        meta: of the directory.

    Returns:
        How many rows have a class that the directory does not know; it is left out.

    Raises:
        DataError: a column that was named is missing; a query whose rows come in another order each time.
    """
    types = {name: kind for name, kind, *_ in db.execute(f"DESCRIBE SELECT * FROM {rows.relation}").fetchall()}
    columns = _columns(given, meta, rows, [name for name in types if name != FILE_COLUMN], classes)
    if not columns:
        return 0
    db.execute(f"CREATE TYPE {KIND} AS ENUM ({', '.join(sql_text(str(name)) for name in classes.names)})")
    found, strange = _sql(columns, types, classes)
    ends = [_id_sql(str(getattr(staged.columns, side)), staged.ids[side]) for side in SIDES]
    db.execute(
        f"CREATE TABLE told AS SELECT {found} AS class, {strange} AS strange, {ends[0]} AS src, {ends[1]} AS dst "
        f"FROM {rows.relation}"
    )
    joined = "staged LEFT JOIN told ON staged.rowid = told.rowid WHERE problem IS NULL"
    _refuse_another_order(db, joined)
    _write(db, writer, joined, classes)
    return int(db.execute(f"SELECT count(*) FROM {joined} AND strange").fetchall()[0][0])


def _columns(
    given: tuple[str, ...] | None, meta: dict[str, Any], rows: Source, present: list[str], classes: ClassNames
) -> tuple[str, ...]:
    if given is not None:
        where = ", ".join(map(str, rows.files)) or "the query"
        found = tuple(name for name in present if any(fnmatchcase(name, pattern) for pattern in given))
        for pattern in given:
            if not any(fnmatchcase(name, pattern) for name in found):
                raise DataError(f"{where} has no column {pattern!r} for --classes; it has {', '.join(present[:12])}.")
        unknown = [name for name in found if name not in map(str, classes.names)] if len(found) > 1 else []
        if len(found) > 1 and (unknown or not classes.several):
            wrong = f"{unknown[0]!r} is none of them" if unknown else "here an event has one"
            raise DataError(
                f"--classes: {len(found)} columns say of each class whether an event has it, and {wrong}: give one "
                "column with the class, or columns that are called as the classes are."
            )
        return found
    recorded = (meta.get("source") or {}).get("columns") or {}
    before = recorded.get(classes.column) or []  # one class per event is the label, however it was imported
    wanted: Sequence[str] = [before] if isinstance(before, str) else before
    if not wanted and not classes.several:
        usual = [name for name in present if name.lower() in USUAL["label"]]
        wanted = [rows.columns.label] if rows.columns.label else usual[:1]
    return tuple(wanted) if all(name in present for name in wanted) else ()


def _sql(columns: tuple[str, ...], types: dict[str, str], classes: ClassNames) -> tuple[str, str]:
    """Number of the class, or a list of them, NULL where it is not told; and whether the directory does not know it."""
    if len(columns) > 1:
        flags = {name: f"try_cast({sql_name(name)} AS DOUBLE)" for name in columns}
        numbers = [f"CASE WHEN {flag} = 1 THEN {_code(sql_text(name))} END" for name, flag in flags.items()]
        missing = " OR ".join(f"coalesce({flag} NOT IN (0, 1), true)" for flag in flags.values())
        found = f"CASE WHEN NOT ({missing}) THEN list_filter([{', '.join(numbers)}], lambda n: n IS NOT NULL) END"
        strange = " OR ".join(f"({sql_name(name)} IS NOT NULL AND {flag} IS NULL)" for name, flag in flags.items())
        return found, strange
    column, listed = sql_name(columns[0]), types[columns[0]].endswith("]")
    text = "x::VARCHAR"
    if not isinstance(classes.names[0], str):
        text = "(CASE WHEN try_cast(x AS BIGINT) = try_cast(x AS DOUBLE) THEN try_cast(x AS BIGINT) END)::VARCHAR"
    values = column if listed else f"CASE WHEN nullif({column}::VARCHAR, '') IS NOT NULL THEN [{column}] END"
    codes = f"list_filter(list_transform({values}, lambda x: {_code(text)}), lambda n: n IS NOT NULL)"
    return (f"list_distinct({codes})" if classes.several else f"{codes}[1]"), f"len({codes}) < len({values})"


def _code(text: str) -> str:
    return f"enum_code(try_cast({text} AS {KIND}))::BIGINT"


def _id_sql(name: str, kind: str) -> str:
    column = sql_name(name)
    return f"try_cast({column} AS BIGINT)" if kind == "int" else f"{column}::VARCHAR"


def _refuse_another_order(db: duckdb.DuckDBPyConnection, joined: str) -> None:
    ends = "(told.src IS DISTINCT FROM staged.src OR told.dst IS DISTINCT FROM staged.dst)"
    if db.execute(f"SELECT count(*) FROM {joined} AND {ends}").fetchall()[0][0]:
        raise DataError(
            "the rows come in another order each time that they are read, so their classes cannot be told: let the "
            '--query end with ORDER BY, or read no classes (--classes "").'
        )


def _write(db: duckdb.DuckDBPyConnection, writer: DirectoryWriter, joined: str, classes: ClassNames) -> None:
    count, width = db.execute(f"SELECT count(*) FROM {joined}").fetchall()[0][0], len(classes.names)
    if classes.several:
        writer.create("edge_classes", np.uint8, (count, width))
    else:
        writer.create("label", np.int32, (count,))
    untold = "[]::BIGINT[]" if classes.several else UNTOLD
    found = f"SELECT coalesce(class, {untold}) AS class, class IS NULL AS untold FROM {joined}"
    for batch in db.sql(f"{found} ORDER BY time, staged.rowid").to_arrow_reader(max(1024, CHUNK_BYTES // (width + 40))):
        if not classes.several:
            writer.append("label", batch.column("class").to_numpy())
            continue
        table = marks(batch.column("class"), width)
        table[batch.column("untold").to_numpy(zero_copy_only=False)] = UNTOLD_CLASSES
        writer.append("edge_classes", table)
