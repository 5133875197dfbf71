"""Lists of SNAP: ``SRC DST TIME`` without a header, and ``SRC,DST,RATING,TIME`` of its Bitcoin networks.

Lines that begin with ``#`` are comments. Other lists of numbers have columns ``c1, c2, ..``; say which one is the time.
"""

from __future__ import annotations

from pathlib import Path

from tgscale.data.formats.delimited import first_lines, headerless_relation, is_number, plain
from tgscale.data.formats.source import Columns, Source
from tgscale.data.formats.tabular import kind_of, table_files
from tgscale.errors import DataError

LOOK = 1000  # a comment at the top may be of so many lines


def recognise(paths: list[Path]) -> bool:
    """Three columns of numbers with spaces or tabs between; what has commas may mean anything, so it must be said."""
    files = table_files(paths)
    if not files or any(kind_of(file) != "csv" for file in files):
        return False
    first = _first_row(files[0])
    return first is not None and first[1] in (" ", "\t") and len(first[0]) == 3 and all(map(is_number, first[0]))


def read(paths: list[Path], work: Path) -> Source:
    files = table_files(paths, "csv")
    first = _first_row(files[0]) if files else None
    if first is None or len(first[0]) < 3 or not is_number(first[0][-1]):
        raise DataError(f"{paths[0]} is not a list of SNAP: expected lines of numbers, SRC DST TIME, without a header.")
    values, delimiter = first
    names, columns = _layout(len(values), delimiter)
    return Source(
        format="snap",
        relation=headerless_relation(plain(files, work), names, delimiter),
        files=files,
        columns=columns,
        text=True,
        header=0,
        note=f"SNAP's list, columns {', '.join(names)} (by their number)",
    )


def _layout(count: int, delimiter: str) -> tuple[list[str], Columns]:
    if count == 3:
        return ["src", "dst", "time"], Columns("src", "dst", "time")
    if count == 4 and delimiter == ",":
        return ["src", "dst", "rating", "time"], Columns("src", "dst", "time", edge_features=("rating",))
    return [f"c{i}" for i in range(1, count + 1)], Columns("c1", "c2")


def _first_row(file: Path) -> tuple[list[str], str] | None:
    """Values and delimiter of the first line that is no comment."""
    line = next((line for line in first_lines(file, LOOK) if line.strip() and not line.startswith("#")), None)
    if line is None:
        return None
    delimiter = max("\t, ;|", key=line.count)
    return line.split(delimiter), delimiter
