"""Delimited text (CSV, TSV): header, delimiter, decompression, and the DuckDB relation over it.

Every column is read as text: types are settled by the importer, which can then name the value that does not fit.
"""

from __future__ import annotations

import bz2
import csv
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from tgscale.data.formats.source import FILE_COLUMN, sql_list, sql_text
from tgscale.errors import DataError

# DuckDB reads .gz and .zst by itself.
DECOMPRESS: dict[str, Callable[[Path], Any]] = {".xz": lzma.open, ".bz2": bz2.open}


def plain(files: list[Path], work: Path) -> list[Path]:
    """The files, with those that DuckDB cannot decompress written out below ``work``."""
    return [_decompressed(file, work / f"{i}") if file.suffix in DECOMPRESS else file for i, file in enumerate(files)]


def _decompressed(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.stem
    try:
        with DECOMPRESS[file.suffix](file) as packed, open(target, "wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(f"{file} cannot be decompressed ({error}): it is damaged or cut short, get it again.") from None
    return target


def first_lines(file: Path, count: int) -> list[str]:
    """The first lines of a text file, which may be compressed."""
    try:
        if file.suffix in DECOMPRESS:
            with DECOMPRESS[file.suffix](file) as packed:
                head = packed.read(1 << 20)
        else:
            codec = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix)
            with pa.input_stream(str(file), compression=codec) as stream:
                head = stream.read(1 << 20)
    except (lzma.LZMAError, EOFError, OSError) as error:
        raise DataError(f"{file} cannot be read ({error}): it is damaged or cut short, get it again.") from None
    return head.decode("utf-8-sig", errors="replace").splitlines()[:count]


def read_header(file: Path) -> tuple[list[str], str]:
    """Column names and delimiter of a file.

    Raises:
        DataError: the file is empty, its first line holds no names, or a name comes twice.
    """
    lines = first_lines(file, 1)
    if not lines or not lines[0].strip():
        raise DataError(f"{file} is empty: expected a line of column names and a row per event.")
    # A space only where there is nothing else: names may have spaces in them.
    delimiter = max("\t,;|", key=lines[0].count)
    delimiter = delimiter if delimiter in lines[0] else " "
    names = [name.strip() for name in next(csv.reader([lines[0]], delimiter=delimiter))]
    # A column without a name is the row number that pandas writes.
    names = [name or f"column{i}" for i, name in enumerate(names)]
    if all(is_number(name) for name in names):
        raise DataError(
            f"{file}: its first line ({lines[0][:80]}) is no column names: add a line like src,dst,time; or, if each "
            "line is SRC DST TIME, say --format snap."
        )
    lower = [name.lower() for name in names]
    twice = [name for name in names if lower.count(name.lower()) > 1]  # DuckDB does not tell a from A
    if twice:
        raise DataError(f"{file}: the column {twice[0]!r} comes twice in its first line: rename one of them.")
    return names, delimiter


def csv_relation(files: list[Path], names: list[str], delimiter: str) -> str:
    """DuckDB relation over text files that all begin with one header line."""
    return _relation(files, names, f"header=true, delim={sql_text(delimiter)}, quote='\"', escape='\"'")


def headerless_relation(files: list[Path], names: list[str], delimiter: str) -> str:
    """DuckDB relation over text files without a header line and without quotes; lines with ``#`` are comments."""
    return _relation(files, names, f"header=false, delim={sql_text(delimiter)}, quote='', escape='', comment='#'")


def _relation(files: list[Path], names: list[str], dialect: str) -> str:
    columns = ", ".join(f"{sql_text(name)}: 'VARCHAR'" for name in names)
    return (
        f"read_csv({sql_list(files)}, auto_detect=false, {dialect}, columns={{{columns}}}, filename='{FILE_COLUMN}', "
        "store_rejects=true, rejects_table='rejects', rejects_scan='reject_scans')"
    )


def is_number(text: str) -> bool:
    """Does it read as a number?"""
    try:
        float(text)
    except ValueError:
        return False
    return True


def original(files: list[Path], path: str) -> Path:
    """The source file behind a path that DuckDB read, which may be what :func:`plain` wrote."""
    read = Path(path)
    return read if read in files else files[int(read.parent.name)]
