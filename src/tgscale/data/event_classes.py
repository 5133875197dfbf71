"""Classes of events: numbers or text of a source as numbers from 0, one per event or several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgscale.data.formats.source import sql_name, sql_text
from tgscale.errors import DataError

MOST_CLASSES = 10_000
KIND = "edge_class"
"""DuckDB type whose codes are the numbers of the classes."""


@dataclass(frozen=True)
class EventClasses:
    """The classes that the columns of ``--edge-classes`` hold, and the SQL that numbers them.

    Attributes:
        names: class names in the order of their numbers.
        several: an event may have any number of them.
        sql: BIGINT, the event's class; or, if ``several``, a list of different ones. NULL where it cannot be read.
    """

    names: tuple[str, ...]
    several: bool
    sql: str


def find_classes(db: duckdb.DuckDBPyConnection, relation: str, columns: tuple[str, ...], listed: bool) -> EventClasses:
    """What the classes of a relation are.

    Args:
        db: where the relation is.
        relation: SQL that stands after FROM.
        columns: one column of classes, one of lists of classes (``listed``), or several of 0 and 1 whose names are the
            classes'.
        listed: the one column is a list.

    Raises:
        DataError: no class, or more than :data:`MOST_CLASSES`.
    """
    if len(columns) > 1:
        flags = [_flag_sql(name) for name in columns]
        missing = " OR ".join(f"{flag} IS NULL" for flag in flags)
        numbers = ", ".join(f"CASE WHEN {flag} THEN {i} END" for i, flag in enumerate(flags))
        found = f"list_filter([{numbers}]::BIGINT[], lambda n: n IS NOT NULL)"
        return EventClasses(columns, True, f"CASE WHEN NOT ({missing}) THEN {found} END")
    column = sql_name(columns[0])
    value = f"unnest({column})" if listed else column
    query = f"SELECT DISTINCT x::VARCHAR FROM (SELECT {value} AS x FROM {relation}) WHERE x IS NOT NULL"
    names = [name for (name,) in db.execute(f"{query} LIMIT {MOST_CLASSES + 1}").fetchall()]
    if not names or len(names) > MOST_CLASSES:
        found = f"more than {MOST_CLASSES:,} different values" if names else "no value"
        raise DataError(f"column {columns[0]!r} (edge_classes) holds {found}: give a column of classes.")
    names = sort_classes(names)
    db.execute(f"DROP TYPE IF EXISTS {KIND}")
    db.execute(f"CREATE TYPE {KIND} AS ENUM ({', '.join(map(sql_text, names))})")
    if listed:
        # A list with an absent value in it cannot be read.
        codes = f"list_transform({column}, lambda x: enum_code(x::VARCHAR::{KIND})::BIGINT)"
        whole = f"len(list_filter({column}, lambda x: x IS NULL)) = 0"
        return EventClasses(tuple(names), True, f"CASE WHEN {whole} THEN list_distinct({codes}) END")
    return EventClasses(tuple(names), False, f"enum_code({column}::VARCHAR::{KIND})::BIGINT")


def marks(lists: pa.Array, classes: int) -> np.ndarray:
    """Lists of class numbers as 0 and 1, ``[rows, classes]``, uint8."""
    table = np.zeros((len(lists), classes), np.uint8)
    lengths = np.asarray(pc.list_value_length(lists).to_numpy(zero_copy_only=False), np.int64)
    table[np.repeat(np.arange(len(lists)), lengths), lists.flatten().to_numpy(zero_copy_only=False)] = 1
    return table


def _flag_sql(name: str) -> str:
    value = f"try_cast({sql_name(name)} AS DOUBLE)"
    return f"CASE {value} WHEN 0 THEN false WHEN 1 THEN true END"


def sort_classes(names: Iterable[str]) -> list[str]:
    """Class names in the order of their numbers: integers by value, then text."""
    return sorted(names, key=lambda name: (0, int(name), "") if _is_integer(name) else (1, 0, name))


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
