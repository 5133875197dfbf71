"""What is wrong with source rows, in words: file, row, column, value, and what to do."""

from __future__ import annotations

import io
from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tgscale.data.formats.delimited import original
from tgscale.data.formats.source import FILE_COLUMN, Source, sql_name
from tgscale.data.staging import Staged, TimeKinds, count_times
from tgscale.data.store import CHUNK_BYTES
from tgscale.data.value_words import Rules, counted, hint_of, in_words
from tgscale.errors import DataError

EXAMPLES = 3
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

    def in_words(self) -> list[str]:
        """How many and why, and a line for each example."""
        heading = f"left out {counted(self.rows, 'row')} for {'its' if self.rows == 1 else 'their'} {self.part}"
        return [f"{heading}, such as:" if self.examples else f"{heading}.", *(f"  {each}" for each in self.examples)]


def check_rows(db: duckdb.DuckDBPyConnection, staged: Staged, rules: Rules, on_error: str) -> list[Dropped]:
    """Find the rows of ``staged`` that cannot be used.

    Raises:
        DataError: there are some and ``on_error`` is ``"stop"``, when it says the first one in words; or all are such.
    """
    lines = bad_lines(db, staged.source)  # first: any other scan of the text would add to the table of rejects
    if lines and staged.source.edge_table is not None and staged.source.edge_row is None:
        raise DataError(
            f"{lines[0].examples[0]} The features lie beside the rows by position, so no row can be dropped."
        )
    if staged.source.edge_table is not None and not staged.columns.edge_features:
        _mark_bad_features(db, staged.source.edge_table, staged.source.edge_row)
    rows = db.execute("SELECT count(*) FROM staged").fetchall()[0][0] + sum(each.rows for each in lines)
    bad = lines + _bad_values(db, staged, rules, rows)
    if bad and on_error == "stop":
        raise DataError(_first_fault(db, staged, bad, rows))
    refuse_nothing_left(db, staged.source, bad)
    return bad


def _first_fault(db: duckdb.DuckDBPyConnection, staged: Staged, bad: list[Dropped], rows: int) -> str:
    """What is wrong, and what to do: of a column of two kinds of times as a whole, else of the first bad row."""
    if any(each.part == "time" for each in bad):
        kinds = count_times(db, staged.source, str(staged.columns.time))
        if kinds.numbers and kinds.dates:
            return _mixed_words(db, staged, kinds)
    more = f" {bad[0].rows:,} rows have such a fault." if bad[0].rows > 1 else ""
    drop = "" if bad[0].rows >= rows else ", or leave such rows out: --on-error drop"
    return f"{bad[0].examples[0]}{more} Correct the source{drop}."


def _mixed_words(db: duckdb.DuckDBPyConnection, staged: Staged, kinds: TimeKinds) -> str:
    name = str(staged.columns.time)
    rows = _source_rows(db, staged.source, [kinds.first_date, kinds.first_number])
    date, number = (
        f"{str(row[name])!r} ({place})" for place, row in (rows[kinds.first_date], rows[kinds.first_number])
    )
    fewer = "numbers" if staged.dated else "dates"
    return (
        f"column {name!r} (time) mixes dates and numbers: {counted(kinds.dates, 'date')}, such as {date}, and "
        f"{counted(kinds.numbers, 'number')}, such as {number}. Write all times in one way, or leave the rows with "
        f"{fewer} out: --on-error drop."
    )


def refuse_nothing_left(db: duckdb.DuckDBPyConnection, source: Source, dropped: list[Dropped]) -> None:
    """Refuse a source of which no row can be used.

    Raises:
        DataError: says that there are no rows, or how many were left out and why.
    """
    if db.execute("SELECT count(*) FROM staged WHERE problem IS NULL").fetchall()[0][0]:
        return
    where = ", ".join(map(str, source.files)) or "the query"
    if not dropped:
        what = "the query has" if source.format == "query" else f"{where} has"
        raise DataError(f"{what} no rows: expected at least one.")
    lines = [line for each in dropped for line in each.in_words()]
    raise DataError("\n".join([f"{where}: no row can be used.", *lines]))


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


def _bad_values(db: duckdb.DuckDBPyConnection, staged: Staged, rules: Rules, total: int) -> list[Dropped]:
    query = (
        f"SELECT problem, count(*), min(rowid, {EXAMPLES}) FROM staged WHERE problem IS NOT NULL "
        "GROUP BY problem ORDER BY min(rowid)"
    )
    found = db.execute(query).fetchall()
    rows = _source_rows(db, staged.source, [row for _, _, rows in found for row in rows])
    bad = []
    for part, count, examples in found:
        words = [in_words(part, *rows[row], staged, rules) for row in examples]
        words[0] += hint_of(part, rows[examples[0]][1], staged, rules, mostly=2 * count > total)
        bad.append(Dropped(part, count, words))
    return bad


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
