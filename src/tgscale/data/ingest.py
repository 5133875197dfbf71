"""Import events from files or a query into a data directory.

DuckDB parses, checks, relabels and sorts, in bounded memory and on disk where it must; the sorted rows stream into
the columns of the store, and T-CSR and pair index are built in their files.
"""

from __future__ import annotations

import glob
import shutil
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from tgscale.data.columns import choose_columns
from tgscale.data.formats import check_format, read_source
from tgscale.data.formats.dyglib import load_table
from tgscale.data.formats.source import Columns, Source
from tgscale.data.nodes import number_nodes, write_node_features, write_node_ids
from tgscale.data.problems import Dropped, check_rows
from tgscale.data.sorting import write_events
from tgscale.data.staging import Times, looks_integer, stage
from tgscale.data.store import check_target, writing
from tgscale.data.work import parse_memory, work_database
from tgscale.errors import ConfigError, DataError


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        path: the data directory.
        format, note: the format, and how it was recognised.
        columns: which column played which part.
        events, nodes, num_sources, edge_dim, node_dim: sizes; ``num_sources`` is None unless bipartite.
        first_time, last_time: in ``time_unit``.
        relabelled: the source's ids were not dense integers; the mapping lies in ``node_ids.parquet``.
        dropped: rows left out (with ``on_error="drop"``).
        hints: what looks odd.
        bytes: size of the directory.
        seconds: how long it took.
    """

    path: Path
    format: str
    note: str
    columns: Columns
    events: int
    nodes: int
    num_sources: int | None
    edge_dim: int
    node_dim: int
    first_time: int
    last_time: int
    time_unit: str
    relabelled: bool
    bytes: int
    seconds: float
    dropped: list[Dropped] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def import_events(
    source: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    *,
    format: str = "auto",
    src: str | None = None,
    dst: str | None = None,
    time: str | None = None,
    label: str | None = None,
    edge_features: str | Sequence[str] | None = None,
    node_features: str | Path | None = None,
    bipartite: bool = False,
    on_error: str = "stop",
    memory_limit: str = "2GB",
    time_unit: str = "s",
    source_time_unit: str = "s",
    split: str | None = None,
    ids: str = "auto",
    query: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> ImportReport:
    """Import events into a data directory.

    Args:
        source: a file, a folder, a pattern such as ``part-*.parquet``, or several of them; with ``query`` it may be
            None, or is what the query calls ``source``.
        out: the data directory to make.
        format: ``auto`` or a name of :data:`tgscale.data.formats.FORMATS`.
        src, dst, time, label: columns, where their names are not the usual ones. An empty ``label`` means none.
        edge_features: column names or patterns (``"f*"``; several with commas or as a list), or one column of lists.
        node_features: a ``.npy`` table whose row is the source's id, or a CSV or Parquet table that has an ``id``
            column and one column per feature.
        bipartite: sources and destinations have ids of their own; sources become nodes 0..S-1, destinations S...
        on_error: ``stop`` at a row that cannot be used, or ``drop`` such rows and report them.
        memory_limit: about how much memory the import may take; what does not fit goes to disk beside ``out``.
        time_unit: unit of the stored time: ``s``, ``ms``, ``us``, ``ns``, or ``step`` for numbers without a unit.
        source_time_unit: unit of numeric times in the source; they are multiplied to ``time_unit``.
        split: column that holds 0 (train), 1 (val) or 2 (test), in time order.
        ids: ``auto``, ``int`` or ``text``.
        query: SQL (DuckDB) whose result is imported.
        name: name for reports; the directory's name unless given.
        overwrite: replace a data directory that is already there.
        progress: is called with a few words at each step.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: a source that cannot be used; names file, row and column.
        StoreError: the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    times = Times(time_unit, source_time_unit)
    memory = parse_memory(memory_limit)
    check_format(format)
    _check_choice("--on-error", on_error, ("stop", "drop"))
    _check_choice("--ids", ids, ("auto", "int", "text"))
    out = Path(out)
    check_target(out, overwrite)
    paths = _find_files(source, query)
    given = Columns(src, dst, time, label, split, _patterns(edge_features))

    with writing(out, overwrite) as writer:
        work = writer.folder / "work"
        with work_database(work, memory, query) as db:
            progress("reading")
            rows = _describe(db, paths, format, query, node_features, work)
            columns, types = _columns(db, rows, given)
            staged = stage(db, rows, types, columns, times, ids, bipartite or rows.bipartite)
            progress("checking")
            dropped = check_rows(db, staged, times, on_error)
            nodes = number_nodes(db, staged, bipartite or rows.bipartite)
            progress("sorting")
            written = write_events(db, writer, staged, nodes.count)
            node_table = Path(node_features) if node_features and rows.node_table is None else rows.node_table
            node_dim = write_node_features(db, writer, nodes, node_table)
            write_node_ids(db, writer.folder, nodes)
        shutil.rmtree(work)
        progress("indexing")
        writer.write_indices(nodes.count)
        progress("checksums")
        writer.commit(
            name=name or out.absolute().name,
            num_nodes=nodes.count,
            time_unit=time_unit,
            num_sources=nodes.num_sources,
            source_split=written.split,
            source=_origin(rows, query, columns, dropped),
        )
    return ImportReport(
        path=out,
        format=rows.format,
        note=rows.note,
        columns=columns,
        events=written.events,
        nodes=nodes.count,
        num_sources=nodes.num_sources,
        edge_dim=written.edge_dim,
        node_dim=node_dim,
        first_time=written.first_time,
        last_time=written.last_time,
        time_unit=time_unit,
        relabelled=not nodes.dense,
        bytes=sum(file.stat().st_size for file in out.iterdir()),
        seconds=clock.perf_counter() - began,
        dropped=dropped,
        hints=_hints(written.last_time, times),
    )


def _check_choice(option: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ConfigError(f"{option} {given!r} is unknown: choose {' or '.join(choices)}.")


def _patterns(edge_features: str | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(edge_features, str):
        return tuple(pattern.strip() for pattern in edge_features.split(","))
    return tuple(edge_features or ())


def _find_files(source: str | Path | Sequence[str | Path] | None, query: str | None) -> list[Path]:
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


def _describe(
    db: duckdb.DuckDBPyConnection,
    paths: list[Path],
    format: str,
    query: str | None,
    node_features: str | Path | None,
    work: Path,
) -> Source:
    rows = read_source(paths, format, work) if paths else Source("query", "", [])
    if query is not None:
        note = "an SQL query"
        if paths:
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


def _columns(db: duckdb.DuckDBPyConnection, rows: Source, given: Columns) -> tuple[Columns, dict[str, str]]:
    types = {name: kind for name, kind, *_ in db.execute(f"DESCRIBE SELECT * FROM {rows.relation}").fetchall()}
    where = "the query" if rows.format == "query" else str(rows.files[0])
    columns = choose_columns(given, rows.columns, types, where)
    guessed = columns.label if given.label is None and rows.columns.label is None else None
    if guessed is not None and not looks_integer(db, rows, types, guessed):
        columns = replace(columns, label=None)  # a column of that name, but no labels that could be stored
    return columns, types


def _origin(rows: Source, query: str | None, columns: Columns, dropped: list[Dropped]) -> dict[str, Any]:
    """What ``meta.json`` keeps about where the data came from."""
    return {
        "format": rows.format,
        "files": [str(file) for file in rows.files],
        "query": query,
        "columns": vars(columns),
        "dropped": {reason.part: reason.rows for reason in dropped},
    }


def _hints(last_time: int, times: Times) -> list[str]:
    # A number of seconds that lies after the year 5000 is rather a number of milliseconds.
    if times.unit == "step" or last_time < 10**11 * times.scale or times.source_unit != "s":
        return []
    return [
        f"the last time is {last_time} {times.unit}: that is far in the future. If the source counts in milliseconds, "
        "import it with --source-time-unit ms --time-unit ms (or us, ns)."
    ]
