"""What is wrong with source rows, in words: file, row, column, value, and what to do."""

from __future__ import annotations

import io
import math
import re
from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tgscale.data.edge_rows import MOST_RELATIONS
from tgscale.data.formats.delimited import original
from tgscale.data.formats.source import FILE_COLUMN, Source, sql_name
from tgscale.data.staging import Staged, Times
from tgscale.data.store import CHUNK_BYTES
from tgscale.errors import DataError

EXAMPLES = 3
OTHER_WORDS = {
    "edge_type": f"is not an integer from 0 to {MOST_RELATIONS - 1}",
    "until": "is not an integer that is at least the interval's first snapshot",
    "weight": "is not a finite 32-bit number",
}
LAST_SCAN = "FROM rejects JOIN reject_scans USING (scan_id, file_id) WHERE scan_id = (SELECT max(scan_id) FROM rejects)"


@dataclass(frozen=True)
class Dropped:
    """Rows left out for one reason.

    Attributes:
        part: what was wrong: ``"src"``, ``"time"``, ``"edge_features"``, .., or ``"line"`` for a line that has too many
            or too few values.
        rows: how many.
        examples: the first few in words.
    """

    part: str
    rows: int
    examples: list[str] = field(default_factory=list)


def check_rows(db: duckdb.DuckDBPyConnection, staged: Staged, times: Times, on_error: str) -> list[Dropped]:
    """Find the rows of ``staged`` that cannot be used.

    Raises:
        DataError: there are some and ``on_error`` is ``"stop"``; it says the first one in words.
    """
    lines = bad_lines(db, staged.source)  # first: any other scan of the text would add to the table of rejects
    if lines and staged.source.edge_table is not None and staged.source.edge_row is None:
        raise DataError(
            f"{lines[0].examples[0]} The features lie beside the rows by position, so no row can be dropped."
        )
    if staged.source.edge_table is not None and not staged.columns.edge_features:
        _mark_bad_features(db, staged.source.edge_table, staged.source.edge_row)
    bad = lines + _bad_values(db, staged, times)
    if bad and on_error == "stop":
        more = f" {bad[0].rows:,} rows have such a fault." if bad[0].rows > 1 else ""
        raise DataError(f"{bad[0].examples[0]}{more} Correct the source, or leave such rows out: --on-error drop.")
    return bad


def bad_lines(db: duckdb.DuckDBPyConnection, source: Source) -> list[Dropped]:
    """The lines that the last scan of a text source could not split into values, as one reason; or nothing."""
    scanned = db.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'rejects'").fetchall()[0][0]
    if not source.text or not scanned:
        return []
    count = db.execute(f"SELECT count(DISTINCT (file_id, line)) {LAST_SCAN}").fetchall()[0][0]
    if not count:
        return []
    first = db.execute(
        f"SELECT file_path, line, last(error_type), last(error_message), first(csv_line) {LAST_SCAN} "
        f"GROUP BY file_id, file_path, line ORDER BY file_id, line LIMIT {EXAMPLES}"
    ).fetchall()
    examples = []
    for path, line, kind, message, text in first:
        what = message.replace("Expected Number of Columns: ", "expected ").replace(" Found: ", " values, found ")
        fault = "has not the right number of values" if "COLUMNS" in kind else "cannot be split into values"
        examples.append(f"{original(source.files, path)}, row {line - source.header} {fault} ({what}): {text[:80]!r}.")
    return [Dropped("line", count, examples)]


def refuse_bad_lines(db: duckdb.DuckDBPyConnection, source: Source, option: str) -> None:
    """Refuse a table in which lines could not be split, as the last scan of ``db`` found.

    Raises:
        DataError: names the file and the first such line.
    """
    for lines in bad_lines(db, source):
        more = f" {lines.rows:,} lines have such a fault." if lines.rows > 1 else ""
        raise DataError(f"{option} {lines.examples[0]}{more} Correct the file.")


def lines_left_out(db: duckdb.DuckDBPyConnection, source: Source) -> np.ndarray:
    """For each line that could not be split the row of ``staged`` that it stood before, ascending."""
    if source.format == "query" or not bad_lines(db, source):
        return np.empty(0, np.int64)
    lines, rows = defaultdict[Path, list[int]](list), Counter[Path]()
    query = (
        f"SELECT file_path, list(DISTINCT (line, line_byte_position) ORDER BY (line, line_byte_position)) {LAST_SCAN}"
    )
    for path, found in db.execute(f"{query} GROUP BY file_path").fetchall():
        empty = _empty_lines(path, found[-1][1])
        numbers = [line - source.header - 1 - bisect(empty, byte) for line, byte in found]
        lines[original(source.files, path)] = numbers
    for path, count in db.execute(f"SELECT {FILE_COLUMN}, count(*) FROM {source.relation} GROUP BY 1").fetchall():
        rows[original(source.files, path)] += count
    before, start = list[int](), 0
    for file in source.files:
        before += [start + line - place for place, line in enumerate(lines[file])]
        start += rows[file]
    return np.array(before, np.int64)


def _empty_lines(path: str, stop: int) -> list[int]:
    """Where the empty lines of a text file begin, up to a byte: no rows, though DuckDB counts them as lines."""
    found, at = list[int](), 0
    with pa.input_stream(path) as stream:
        for line in io.BufferedReader(stream):
            if at >= stop:
                break
            if not line.rstrip(b"\r\n"):
                found.append(at)
            at += len(line)
    return found


def _mark_bad_features(db: duckdb.DuckDBPyConnection, table: np.ndarray, row_column: str | None) -> None:
    """Mark rows whose row of the feature table is missing or not finite."""
    row = "rowid" if row_column is None else "edge_row"
    step = max(1, CHUNK_BYTES // max(1, table.shape[1] * 4))
    bad = [at + np.flatnonzero(~np.isfinite(table[at : at + step]).all(axis=1)) for at in range(0, len(table), step)]
    rows = np.concatenate(bad).tolist() if bad else []
    db.execute(
        f"UPDATE staged SET problem = 'edge_features' WHERE problem IS NULL AND "
        f"({row} < 0 OR {row} >= {len(table)} OR {row} IN (SELECT unnest(?::BIGINT[])))",
        [rows],
    )


def _bad_values(db: duckdb.DuckDBPyConnection, staged: Staged, times: Times) -> list[Dropped]:
    query = (
        f"SELECT problem, count(*), min(rowid, {EXAMPLES}) FROM staged WHERE problem IS NOT NULL "
        "GROUP BY problem ORDER BY min(rowid)"
    )
    found = db.execute(query).fetchall()
    rows = _source_rows(db, staged.source, [row for _, _, rows in found for row in rows])
    return [
        Dropped(part, count, [_in_words(part, *rows[row], staged, times) for row in examples])
        for part, count, examples in found
    ]


def _source_rows(db: duckdb.DuckDBPyConnection, source: Source, wanted: list[int]) -> dict[int, tuple[str, dict]]:
    """Where each row lies (``FILE, row N``) and its values, read anew from the source."""
    if not wanted:
        return {}
    numbered = f"SELECT *, row_number() OVER () - 1 AS __row FROM {source.relation}"
    # Without a zone: Python needs another package to hold moments that have one.
    columns = db.execute(f"DESCRIBE SELECT * FROM ({numbered})").fetchall()
    zoned = [sql_name(name) for name, kind, *_ in columns if kind == "TIMESTAMP WITH TIME ZONE"]
    replaced = f"REPLACE ({', '.join(f'{name}::TIMESTAMP AS {name}' for name in zoned)})" if zoned else ""
    result = db.execute(f"SELECT * {replaced} FROM ({numbered}) WHERE list_contains(?::BIGINT[], __row)", [wanted])
    names = [column[0] for column in result.description]
    rows = [dict(zip(names, values, strict=True)) for values in result.fetchall()]
    starts = {}
    if len(source.files) > 1 and source.format != "query":
        starts = dict(db.execute(f"SELECT {FILE_COLUMN}, min(__row) FROM ({numbered}) GROUP BY 1").fetchall())
    return {row["__row"]: (_place(db, source, row, starts), row) for row in rows}


def _place(db: duckdb.DuckDBPyConnection, source: Source, row: dict[str, Any], starts: dict[str, int]) -> str:
    number = row["__row"] + 1
    if source.format == "query":
        return f"row {number} of the query"
    path = row[FILE_COLUMN]
    number -= starts.get(path, 0)
    if source.text:  # lines that could not be split stand between
        query = f"SELECT DISTINCT line {LAST_SCAN} AND file_path = ? ORDER BY line"
        for (line,) in db.execute(query, [path]).fetchall():
            if line - source.header > number:
                break
            number += 1
    return f"{original(source.files, path)}, row {number}"


def _in_words(part: str, place: str, row: dict[str, Any], staged: Staged, times: Times) -> str:
    if staged.source.format == "json" and all(row[name] is None for name in row if name not in (FILE_COLUMN, "__row")):
        return f"{place}: the line holds no JSON object."
    if part == "edge_features":
        return f"{place}, {_feature_words(row, staged)}"
    if part == "edge_classes":
        return f"{place}, {_class_words(row, staged.columns.edge_classes)}"
    column = str(staged.source.edge_row if part == "edge_row" else getattr(staged.columns, part))
    value = row[column]
    if value is None:
        what = "is missing"
    elif part == "time":
        what = _time_words(value, times)
    elif part == "split":
        what = "is not 0 (train), 1 (val) or 2 (test)"
    elif part in ("src", "dst"):
        what = _id_words(value, staged.source)
    elif part in OTHER_WORDS:
        what = OTHER_WORDS[part]
    else:
        what = "is not an integer"
    return f"{place}, column {column!r} ({part}): {_shown(value)} {what}."


def _shown(value: Any) -> str:
    return "the value" if value is None else repr(value) if isinstance(value, str) else str(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _moment(value: Any) -> date | None:
    if not isinstance(value, str):
        return value if isinstance(value, date) else None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _time_words(value: Any, times: Times) -> str:
    number = _number(value)
    moment = _moment(value)
    if number is None and moment is None:
        return "is neither a number nor a date"
    if number is None:
        early = moment is not None and moment.year < 1970
        return "lies before 1970: shift the times" if early else f"has a fraction of a {times.unit}: {_finer(times)}"
    if math.isnan(number):
        return "is not a number"
    if number < 0:
        return "is negative: shift the times so that they start at 0 or later"
    if number * times.scale < 2**63:
        return f"has a fraction that time unit {times.unit!r} cannot hold: {_finer(times)}"
    return f"does not fit into 64 bits in time unit {times.unit!r}"


def _finer(times: Times) -> str:
    finer = {"s": "ms, us or ns", "ms": "us or ns", "us": "ns"}.get(times.unit)
    return f"choose a finer one with --time-unit {finer}" if finer else "round it"


def _id_words(value: Any, source: Source) -> str:
    number = _number(value)
    zeros = isinstance(value, str) and source.ids == "auto" and re.match(r"\s*[+-]?0[0-9]", value)
    if number is None or not number.is_integer() or zeros:
        return "is not an integer id like those before it (for ids that are text, pass --ids text)"
    if source.node_table is not None:
        return f"lies outside the {len(source.node_table)} rows of the node features"
    if source.first_id is not None and number < source.first_id:
        return f"is out of range: ids of format {source.format} start at {source.first_id}"
    return "does not fit into 64 bits (for ids that are text, pass --ids text)"


def _class_words(row: dict[str, Any], names: tuple[str, ...]) -> str:
    if len(names) == 1:
        found = "the list is missing" if row[names[0]] is None else f"{row[names[0]]} has a class that is missing"
        return f"column {names[0]!r} (edge_classes): {found}; an event without classes has an empty list."
    for name in names:
        if _number(row[name]) not in (0, 1):
            what = "is missing" if row[name] is None else "is not 0 or 1"
            return f"column {name!r} (edge_classes): {_shown(row[name])} {what}."
    return "column of edge classes cannot be read."


def _feature_words(row: dict[str, Any], staged: Staged) -> str:
    names = staged.columns.edge_features
    if not names:
        return "edge features: its row of the feature table is missing, or has a value that is not finite"
    if staged.list_width is not None:
        values = row[names[0]]
        found = "no list" if values is None else f"{len(values)} values"
        if values is None or len(values) != staged.list_width:
            return f"column {names[0]!r} (edge_features): {found}, the first row has {staged.list_width}."
        pairs = [(f"{names[0]}[{i}]", value) for i, value in enumerate(values)]
    else:
        pairs = [(name, row[name]) for name in names]
    for name, value in pairs:
        number = _number(value)
        if value is None:
            return f"column {name!r} (edge_features): the value is missing; fill it, by 0 for instance."
        if number is None or not abs(number) < 3.4028236e38:
            what = "is not a number" if number is None or math.isnan(number) else "is not a finite 32-bit number"
            return f"column {name!r} (edge_features): {_shown(value)} {what}."
    return "column of edge features cannot be read."
