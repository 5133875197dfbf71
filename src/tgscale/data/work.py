"""The DuckDB database in which an import works: bounded in memory, on disk beside the target, gone afterwards."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tgscale.errors import ConfigError, DataError

MEMORY_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
LEAST_MEMORY = 400 * 10**6
# What DuckDB may take; the rest is for Python, chunks on their way, and what DuckDB does not count.
DUCKDB_SHARE, OTHERS = 0.75, 100 * 10**6
THREAD_BYTES = 400 * 10**6


def parse_memory(text: str) -> int:
    """Bytes of an amount such as ``2GB`` or ``512MiB``.

    Raises:
        ConfigError: not an amount, or too little to work with.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]i?B)\s*", text, flags=re.IGNORECASE)
    if match is None:
        raise ConfigError(f"--memory-limit {text!r} is no amount of memory: give a number and a unit, such as 2GB.")
    amount = int(float(match[1]) * MEMORY_UNITS[match[2].upper()])
    if amount < LEAST_MEMORY:
        raise ConfigError(f"--memory-limit {text} is too little: give at least {LEAST_MEMORY // 10**6}MB.")
    return amount


@contextmanager
def work_database(folder: Path, memory: int, query: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in ``folder``; its errors become those of tgscale.

    Args:
        folder: made here; the caller removes it.
        memory: bytes that the whole import may take.
        query: the user's SQL, if any, to be named when DuckDB refuses it.
    """
    folder.mkdir()
    db = duckdb.connect(str(folder / "work.duckdb"))
    try:
        db.execute(f"SET memory_limit = '{(int(memory * DUCKDB_SHARE) - OTHERS) // 10**6}MB'")
        db.execute(f"SET threads = {max(1, min(os.cpu_count() or 1, memory // THREAD_BYTES))}")
        # Else a value that try_cast would make NULL counts as a line of text that cannot be split, and its row is gone.
        db.execute("SET disabled_optimizers = 'type_pushdown'")
        # Dates without a zone mean the same moment on every machine.
        db.execute("SET TimeZone = 'UTC'")
        yield db
    except duckdb.OutOfMemoryException as error:
        raise ConfigError(
            "the import does not fit into --memory-limit: give more, or write Parquet sources in smaller row groups. "
            f"({_first(error)})"
        ) from None
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "no space left") from None
        raise DataError(f"the source cannot be read: {_first(error)}") from None
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        if query is None:
            raise
        raise ConfigError(f"the --query cannot be run: {_query_fault(str(error))}") from None
    except (duckdb.DataError, duckdb.InvalidInputException) as error:
        raise DataError(f"the source cannot be read: {_first(error)}") from None
    finally:
        db.close()


def _first(error: Exception) -> str:
    return str(error).split("\n\n")[0].strip()


def _query_fault(error: str) -> str:
    """What is wrong with a query and where, without the dozens of variants of a function that DuckDB lists."""
    lines = [line for line in error.splitlines() if line.strip() and not line.startswith("\t")]
    if "No function matches" in lines[0] and "VARCHAR" in lines[0]:
        lines.insert(1, "The columns of a CSV file are text (VARCHAR): to calculate, write CAST(x AS DOUBLE).")
    return "\n".join(lines)
