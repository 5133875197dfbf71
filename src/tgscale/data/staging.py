"""Source rows as a typed DuckDB table that says of each row which column is wrong, if any.

The table ``staged`` has ``src``, ``dst`` (BIGINT or VARCHAR), ``time`` (BIGINT, in the unit of the store), ``label``,
``split``, ``edge_type``, ``until``, ``weight``, ``edge_row``, ``edge_classes`` (BIGINT[]) where the source has them,
features ``x0, x1, ..`` (FLOAT), and ``problem``: the part (``"src"``, ``"time"``, ..) of the first value that cannot be
used, or NULL. Its ``rowid`` is the order of the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import duckdb

from tgscale.data.edge_rows import MOST_RELATIONS
from tgscale.data.event_classes import EventClasses, find_classes
from tgscale.data.formats.source import Columns, Source, sql_name
from tgscale.errors import ConfigError

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
SAMPLE = 10_000
IS_NUMBER = "coalesce(isfinite(try_cast(x AS DOUBLE)), false)"
IS_DATE = "(try_cast(x AS DOUBLE) IS NULL AND try_cast(x AS TIMESTAMPTZ) IS NOT NULL)"
LEADING_ZERO = r"regexp_matches({}, '^\s*[+-]?0[0-9]')"
"""SQL that is true of an id such as ``007``, which is text: as a number it would be the node ``7``."""


@dataclass(frozen=True)
class Times:
    """Unit of the store's time, and the unit in which the source counts numeric times."""

    unit: str = "s"
    source_unit: str = "s"

    def __post_init__(self) -> None:
        for name, unit in (("--time-unit", self.unit), ("--source-time-unit", self.source_unit)):
            if unit not in (*UNITS, "step"):
                raise ConfigError(f"{name} {unit!r} is unknown: choose {', '.join(UNITS)} or step.")
        if self.unit != "step" and (self.source_unit == "step" or UNITS[self.unit] < UNITS[self.source_unit]):
            raise ConfigError(
                f"--time-unit {self.unit} is coarser than --source-time-unit {self.source_unit}, so times would lose "
                f"digits: give --time-unit {self.source_unit}."
            )

    @property
    def scale(self) -> int:
        """What a numeric time of the source is multiplied by."""
        return 1 if self.unit == "step" else UNITS[self.unit] // UNITS[self.source_unit]


@dataclass(frozen=True)
class Staged:
    """The table ``staged`` and what it was made of.

    Attributes:
        source: where the rows came from.
        columns: settled parts of the columns.
        width: number of edge features that come as columns.
        list_width: the number of values in each list, when the features are one column of lists, else None.
        ids: ``"int"`` or ``"text"`` for ``src`` and for ``dst``.
        classes: of the events, where they were asked for. One per event stands in ``label``, several in
            ``edge_classes``.
        dated: times were read as dates, not as numbers.
    """

    source: Source
    columns: Columns
    width: int
    list_width: int | None
    ids: dict[str, str]
    classes: EventClasses | None = None
    dated: bool = False


def stage(
    db: duckdb.DuckDBPyConnection,
    source: Source,
    types: dict[str, str],
    columns: Columns,
    times: Times,
    ids: str = "auto",
    bipartite: bool = False,
) -> Staged:
    """Make the table ``staged``.

    Args:
        db: where to make it.
        source: the rows.
        types: DuckDB type of each column of the source.
        columns: settled parts of the columns.
        times: units.
        ids: ``"auto"``, ``"int"`` or ``"text"``; what the format promises counts more than ``"auto"``.
        bipartite: sources and destinations have ids of their own, which may be of different kinds.
    """
    table = _Typing(db, source, types)
    kinds = _id_kinds(table, columns, source.ids if ids == "auto" else ids, bipartite)
    classes, columns = _classes(table, columns)
    features, feature_check, list_width = _features(table, columns.edge_features)
    guessed = ids == source.ids == "auto"
    selected = {role: _id_sql(table, name, kinds[role], guessed) for role, name in _roles(columns, "src", "dst")}
    dated = table.looks_dated(str(columns.time))
    selected |= {"time": _time_sql(table, str(columns.time), times, dated)}
    selected |= {
        role: _integer_sql(table, name) for role, name in _roles(columns, "label", "split", "edge_type", "until")
    }
    selected |= {role: f"try_cast({table.sql(name)} AS FLOAT)" for role, name in _roles(columns, "weight")}
    if classes is not None:
        selected["edge_classes" if classes.several else "label"] = classes.sql
    if source.edge_row is not None:
        selected["edge_row"] = _integer_sql(table, source.edge_row)
    checks = {role: f"{role} IS NULL" for role in selected}
    checks |= {role: f"{checks[role]} OR {limit}" for role, limit in _limits(source, columns, kinds).items()}
    if feature_check:
        selected["bad_features"] = f"NOT coalesce({feature_check}, false)"
        checks["edge_features"] = "bad_features"
    selected |= {f"x{i}": feature for i, feature in enumerate(features)}
    cases = " ".join(f"WHEN {check} THEN '{role}'" for role, check in checks.items())
    inner = ", ".join(f"{sql} AS {name}" for name, sql in selected.items())
    kept = ", ".join(name for name in selected if name != "bad_features")
    typed = f"SELECT {inner} FROM {source.relation}"
    db.execute(f"CREATE TABLE staged AS SELECT {kept}, CASE {cases} END AS problem FROM ({typed})")
    return Staged(source, columns, len(features), list_width, kinds, classes, dated)


def _classes(table: _Typing, columns: Columns) -> tuple[EventClasses | None, Columns]:
    """The classes of the events, if any were asked for; a single class per event is its label."""
    names = columns.edge_classes
    if not names:
        return None, columns
    classes = find_classes(table.db, table.source.relation, names, len(names) == 1 and table.kind(names[0]) == "list")
    if classes.several:
        return classes, columns
    if columns.label is not None:
        raise ConfigError(
            f"--label {columns.label} and --edge-classes {names[0]} were given, and both are the one class of an "
            "event: give one of them."
        )
    return classes, replace(columns, label=names[0], edge_classes=())


class _Typing:
    """Columns of a relation as SQL, with a look at the first rows where a column is text."""

    def __init__(self, db: duckdb.DuckDBPyConnection, source: Source, types: dict[str, str]) -> None:
        self.db, self.source, self.types = db, source, types

    def kind(self, name: str) -> str:
        """``"int"``, ``"float"``, ``"moment"`` (date or timestamp), ``"list"`` or ``"text"``."""
        found = self.types[name]
        if found in INTEGERS:
            return "int"
        if found in ("FLOAT", "DOUBLE", "BOOLEAN") or found.startswith("DECIMAL"):
            return "float"
        if found == "DATE" or found.startswith("TIMESTAMP"):
            return "moment"
        return "list" if found.endswith("]") else "text"

    def sql(self, name: str) -> str:
        quoted = sql_name(name)
        if self.types[name] == "JSON":
            return f"({quoted} ->> '$')"
        return quoted if self.kind(name) != "text" else f"CAST({quoted} AS VARCHAR)"

    def first_rows(self, name: str, question: str) -> Any:
        """Answer of an aggregate over the first rows, in which ``x`` is the column."""
        rows = f"SELECT {self.sql(name)} AS x FROM {self.source.relation} LIMIT {SAMPLE}"
        return self.db.execute(f"SELECT {question} FROM ({rows})").fetchall()[0][0]

    def looks_integer(self, name: str) -> bool:
        """Is it a column of numbers, or of text whose first rows are integers?"""
        if self.kind(name) != "text":
            return self.kind(name) in ("int", "float")
        whole = "coalesce(try_cast(x AS BIGINT) = try_cast(x AS DOUBLE), false)"
        return self.first_rows(name, f"bool_and({whole}) FILTER (x IS NOT NULL)") in (True, None)

    def looks_dated(self, name: str) -> bool:
        """Is it a column of dates, or of text of whose first rows more are dates than numbers?"""
        if self.kind(name) != "text":
            return self.kind(name) == "moment"
        return bool(self.first_rows(name, f"count(*) FILTER ({IS_DATE}) > count(*) FILTER ({IS_NUMBER})"))


class TimeKinds(NamedTuple):
    """How many times of a column are dates and how many numbers, and the first row of each (None: there is none)."""

    dates: int
    numbers: int
    first_date: int
    first_number: int


def count_times(db: duckdb.DuckDBPyConnection, source: Source, name: str) -> TimeKinds:
    """Which kinds of times a column of a source holds."""
    types = {column: kind for column, kind, *_ in db.execute(f"DESCRIBE SELECT * FROM {source.relation}").fetchall()}
    table = _Typing(db, source, types)
    if table.kind(name) != "text":
        return TimeKinds(0, 0, 0, 0)
    rows = f"SELECT {table.sql(name)} AS x, row_number() OVER () - 1 AS row FROM {source.relation}"
    counts = [f"{what} FILTER ({kind})" for what in ("count(*)", "min(row)") for kind in (IS_DATE, IS_NUMBER)]
    return TimeKinds(*db.execute(f"SELECT {', '.join(counts)} FROM ({rows})").fetchall()[0])


def looks_integer(db: duckdb.DuckDBPyConnection, source: Source, types: dict[str, str], name: str) -> bool:
    """Is a column one of numbers, or of text whose first rows are integers?"""
    return _Typing(db, source, types).looks_integer(name)


def _roles(columns: Columns, *roles: str) -> list[tuple[str, str]]:
    return [(role, getattr(columns, role)) for role in roles if getattr(columns, role) is not None]


def _id_kinds(table: _Typing, columns: Columns, ids: str, apart: bool) -> dict[str, str]:
    if ids != "auto":
        return {"src": ids, "dst": ids}
    kinds = {role: _id_kind(table, name) for role, name in _roles(columns, "src", "dst")}
    # One id space: when either side holds text, both are text.
    return kinds if apart or len(set(kinds.values())) == 1 else {"src": "text", "dst": "text"}


def _id_kind(table: _Typing, name: str) -> str:
    if not table.looks_integer(name):
        return "text"
    zeros = table.kind(name) == "text" and table.first_rows(name, f"bool_or({LEADING_ZERO.format('x')})")
    return "text" if zeros else "int"


def _id_sql(table: _Typing, name: str, kind: str, guessed: bool) -> str:
    if kind == "text":
        return f"CAST({table.sql(name)} AS VARCHAR)"
    whole = _integer_sql(table, name)
    if not guessed or table.kind(name) != "text":
        return whole
    return f"CASE WHEN NOT {LEADING_ZERO.format(table.sql(name))} THEN {whole} END"


def _integer_sql(table: _Typing, name: str) -> str:
    x = table.sql(name)
    if table.kind(name) == "int":
        return f"try_cast({x} AS BIGINT)"
    # DuckDB rounds when it casts '1.5' to an integer; only values without a fraction count here.
    return f"CASE WHEN try_cast({x} AS BIGINT) = try_cast({x} AS DOUBLE) THEN try_cast({x} AS BIGINT) END"


def _time_sql(table: _Typing, name: str, times: Times, dated: bool) -> str:
    x, kind = table.sql(name), table.kind(name)
    if dated:
        return _moment_sql(f"try_cast({x} AS TIMESTAMPTZ)" if kind == "text" else x, table.types[name], times)
    whole = f"try_cast({_integer_sql(table, name)}::HUGEINT * {times.scale} AS BIGINT)"
    if kind == "int" or times.scale == 1:
        return whole
    # A time with a fraction: scaled, it must be whole but for the rounding of the float itself.
    scaled = f"(try_cast({x} AS DOUBLE) * {times.scale})"
    near = f"abs({scaled} - round({scaled})) <= abs({scaled}) * 2.3e-16"
    return f"coalesce({whole}, CASE WHEN {near} THEN try_cast(round({scaled}) AS BIGINT) END)"


def _moment_sql(x: str, found: str, times: Times) -> str:
    if times.unit == "step":
        raise ConfigError("--time-unit step does not go with dates and timestamps: choose s, ms, us or ns.")
    if times.unit == "ns" or found == "TIMESTAMP_NS":
        ticks, per = f"try(epoch_ns({x}))", 10**9 // UNITS[times.unit]
    else:
        ticks, per = f"try(epoch_us({x}))", 10**6 // UNITS[times.unit]
    return f"CASE WHEN {ticks} % {per} = 0 THEN {ticks} // {per} END"


def _limits(source: Source, columns: Columns, kinds: dict[str, str]) -> dict[str, str]:
    """What else is wrong with a part, beside NULL."""
    limits = {"time": "time < 0"}
    for role in ("src", "dst"):
        outside = []
        if kinds[role] == "text":
            if source.node_table is not None:
                raise ConfigError(
                    f"--ids text does not go with the node features of format {source.format}, whose rows are found by "
                    "ids that are integers: leave it out, or give --node-features FILE with a column id."
                )
            continue
        if source.first_id is not None:
            outside.append(f"{role} < {source.first_id}")
        if source.node_table is not None:
            outside.append(f"{role} < 0 OR {role} >= {len(source.node_table)}")
        if outside:
            limits[role] = " OR ".join(outside)
    if columns.split is not None:
        limits["split"] = "split NOT BETWEEN 0 AND 2"
    if columns.edge_type is not None:
        limits["edge_type"] = f"edge_type NOT BETWEEN 0 AND {MOST_RELATIONS - 1}"
    if columns.until is not None:
        limits["until"] = "until < time"
    if columns.weight is not None:
        limits["weight"] = "NOT isfinite(weight)"
    return limits


def _features(table: _Typing, names: tuple[str, ...]) -> tuple[list[str], str, int | None]:
    """Features as SQL, the SQL that is true when all are finite, and the width of a list column."""
    if len(names) == 1 and table.kind(names[0]) == "list":
        x = table.sql(names[0])
        width = table.first_rows(names[0], "first(len(x)) FILTER (x IS NOT NULL)") or 0
        features = [f"try_cast({x}[{i + 1}] AS FLOAT)" for i in range(width)]
        return features, " AND ".join([f"len({x}) = {width}", *(f"isfinite({f})" for f in features)]), width
    features = [f"try_cast({table.sql(name)} AS FLOAT)" for name in names]
    return features, " AND ".join(f"isfinite({feature})" for feature in features), None
