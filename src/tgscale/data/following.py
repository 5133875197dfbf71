"""Rows that follow a data directory: new events, or queries about its nodes, read with its columns and node numbers.

A row's ids become the numbers that the directory gave them. Ids that it does not know are new nodes, numbered from its
``num_nodes`` on in ascending order (in a bipartite stream new sources first, then new destinations).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from tgscale.data.directory import CHUNK_BYTES, DirectoryWriter, open_columns, read_json, writing_as
from tgscale.data.formats.source import Columns
from tgscale.data.ids import SIDES, NodeIds
from tgscale.data.index import narrow
from tgscale.data.problems import Dropped, lines_left_out, refuse_nothing_left
from tgscale.data.reading import Reading, check_choice, checked_rows, find_files
from tgscale.data.row_classes import ClassNames, write_classes
from tgscale.data.staging import Staged, Times
from tgscale.data.store import NODE_IDS
from tgscale.data.time_words import gap_hint, in_words
from tgscale.data.value_words import counted
from tgscale.data.work import work_database
from tgscale.errors import DataError

UNKNOWN = ("fresh", "drop", "stop")


@dataclass(frozen=True)
class RowOptions:
    """How rows are read. What is not given is as in the import of the data directory.

    Attributes:
        format, src, dst, time, edge_features, query, on_error, source_time_unit, memory_limit: see
            :func:`tgscale.data.ingest.import_events`.
        unknown: what a row with an unknown node is: ``"fresh"`` (the node is a new one), ``"drop"`` or ``"stop"``.
        classes: columns of the true classes of events, where those are read; None: as in the import, empty: none.
    """

    format: str = "auto"
    src: str | None = None
    dst: str | None = None
    time: str | None = None
    edge_features: tuple[str, ...] = ()
    query: str | None = None
    on_error: str = "stop"
    source_time_unit: str | None = None
    memory_limit: str = "2GB"
    unknown: str = "fresh"
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("--unknown", self.unknown, UNKNOWN)


@dataclass(frozen=True)
class Rows:
    """Rows in time order.

    Attributes:
        src: nodes, ``[M]``; dst: the same, or None for queries.
        time: ``[M]``, int64.
        row: place of each in the source, from 0, int64.
        edge_features: ``[M, F]``, float32, or None.
        num_nodes: N', of the directory and new nodes together.
        fresh: new nodes.
        dropped: rows left out.
        node_ids: table of all nodes' ids, or None where an id is the node's number.
        label, edge_classes: the true class, or classes, as in :class:`tgscale.data.append.More`; None where none is
            told.
        unknown_classes: rows with a class that the directory does not know.
    """

    src: np.ndarray
    dst: np.ndarray | None
    time: np.ndarray
    row: np.ndarray
    edge_features: np.ndarray | None
    num_nodes: int
    fresh: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    node_ids: Path | None = None
    label: np.ndarray | None = None
    edge_classes: np.ndarray | None = None
    unknown_classes: int = 0


def open_rows(folder: Path) -> Rows:
    """The rows that :func:`read_rows` wrote, memory-mapped."""
    meta = read_json(folder)
    columns = open_columns(folder, meta, verify=False)
    ids = folder / NODE_IDS
    names = ("src", "dst", "time", "row", "edge_features", "label", "edge_classes")
    return Rows(
        **{name: columns.get(name) for name in names},  # type: ignore[arg-type]
        num_nodes=meta["nodes"],
        fresh=meta["fresh"],
        dropped=[Dropped(**each) for each in meta["dropped"]],
        node_ids=ids if ids.exists() else None,
        unknown_classes=meta["unknown_classes"],
    )


def read_rows(
    source: str | Path | Sequence[str | Path] | None,
    data: Path,
    folder: Path,
    options: RowOptions,
    *,
    not_before: int,
    queries: bool = False,
    after: Rows | None = None,
    classes: ClassNames | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Rows:
    """Read the rows of a source into a folder of columns.

    Args:
        source: as for :func:`tgscale.data.ingest.import_events`.
        data: the data directory that they follow.
        folder: to make.
        options: how to read them.
        not_before: the earliest time that a row may have.
        queries: rows have a source and a time alone.
        after: rows that come before these and may have brought new nodes.
        classes: of the directory's events; the true classes of the rows are read, where a column tells them.
        progress: is called with a few words at each step.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: a source that cannot be used; names file, row and column.
        StoreError: the disk is full.
    """
    ids = NodeIds(data, after.num_nodes if after else None, after.node_ids if after else None)
    meta = ids.meta
    reading = _reading(meta, ids, options, queries)
    paths = find_files(source, options.query)
    with writing_as(DirectoryWriter, folder) as writer:
        work = writer.folder / "work"
        with work_database(work, reading.memory, options.query) as db:
            rows, staged, dropped = checked_rows(db, paths, reading, work, progress)
            left_out = lines_left_out(db, rows)
            where = ", ".join(map(str, rows.files)) or "the query"
            table = None if staged.columns.edge_features else rows.edge_table
            width = 0 if queries else (staged.width if table is None else table.shape[1])
            _check_width(where, width, meta, queries)
            dropped = dropped + _too_early(db, where, not_before, meta["time_unit"], options.on_error)
            fresh, unknown = ids.number(db, where, () if queries else ("dst",), options.unknown)
            dropped += unknown
            refuse_nothing_left(db, rows, dropped)
            if hint := _gap(db, data, meta["time_unit"]):
                progress(f"note: {hint}")
            nodes = ids.nodes + fresh
            _write(db, writer, staged, table, width, nodes, queries, left_out)
            strange = write_classes(db, writer, rows, staged, classes, options.classes, meta) if classes else 0
            if fresh or ids.rule != "plain":
                ids.write(db, writer.folder / NODE_IDS)
        shutil.rmtree(work)
        told = {"nodes": nodes, "fresh": fresh, "dropped": [asdict(each) for each in dropped]}
        writer.finish({"kind": "rows", **told, "unknown_classes": strange})
    return open_rows(folder)


def _reading(meta: dict[str, Any], ids: NodeIds, options: RowOptions, queries: bool) -> Reading:
    source = meta.get("source") or {}
    recorded = source.get("columns") or {}
    unit = options.source_time_unit or source.get("source_time_unit") or meta["time_unit"]
    times = Times(meta["time_unit"], unit)
    given = Columns(
        options.src,
        "" if queries else options.dst,
        options.time,
        "",
        None,
        () if queries else options.edge_features,
    )
    roles = ("src", "time") if queries else (*SIDES, "time", "edge_features")
    return Reading(
        given,
        times,
        options.format,
        None,
        meta["num_sources"] is not None,
        options.on_error,
        ids.kind,
        options.query,
        options.memory_limit,
        before={role: recorded[role] for role in roles if recorded.get(role)},
    )


def _check_width(where: str, width: int, meta: dict[str, Any], queries: bool) -> None:
    known = meta["columns"].get("edge_features", {"shape": [0, 0]})["shape"][1]
    if not queries and width != known:
        raise DataError(
            f"{where} has {width} edge features, and the events of the run have {known}: say which columns they are "
            "with --edge-features, in the same order."
        )


def _too_early(db: duckdb.DuckDBPyConnection, where: str, first: int, unit: str, on_error: str) -> list[Dropped]:
    early = f"problem IS NULL AND time < {first}"
    count, earliest = db.execute(f"SELECT count(*), min(time) FROM staged WHERE {early}").fetchall()[0]
    if not count:
        return []
    rows = counted(count, "row is", "rows are")
    seen = f"the last event that the memory has seen ({in_words(first, unit)})"
    words = f"{where}: {rows} earlier (from {in_words(earliest, unit)}) than {seen}."
    if on_error == "stop":
        raise DataError(
            f"{words} The memory cannot go back: give later rows, leave these out with --on-error drop, or start from "
            "an earlier point: --after val, or the state of earlier predictions."
        )
    db.execute(f"UPDATE staged SET problem = 'time' WHERE {early}")
    return [Dropped("time", count, [words])]


def _gap(db: duckdb.DuckDBPyConnection, data: Path, unit: str) -> str | None:
    """What is implausible about the time between the data and these rows, if anything."""
    first = db.execute("SELECT min(time) FROM staged WHERE problem IS NULL").fetchall()[0][0]
    time = np.load(data / "time.npy", mmap_mode="r")
    return gap_hint(first, (int(time[0]), int(time[-1])), unit)


def _write(
    db: duckdb.DuckDBPyConnection,
    writer: DirectoryWriter,
    staged: Staged,
    table: np.ndarray | None,
    width: int,
    nodes: int,
    queries: bool,
    left_out: np.ndarray,
) -> None:
    count = db.execute("SELECT count(*) FROM staged WHERE problem IS NULL").fetchall()[0][0]
    sides = ("src",) if queries else SIDES
    for side in sides:
        writer.create(side, narrow(nodes), (count,))
    writer.create("time", np.int64, (count,))
    writer.create("row", np.int64, (count,))
    if width:
        writer.create("edge_features", np.float32, (count, width))
    for chunk in _chunks(
        db, staged, sides, 0 if table is not None else width, max(1024, CHUNK_BYTES // (4 * width + 40))
    ):
        # Lines that could not be split are no rows of the table, but have their places in the source.
        chunk["row"] = chunk["row"] + np.searchsorted(left_out, chunk["row"], side="right")
        for name in (*sides, "time", "row"):
            writer.append(name, chunk[name])
        if table is not None and width:
            writer.append("edge_features", np.asarray(table[chunk["edge_row"]], np.float32))
        elif width:
            writer.append("edge_features", np.stack([chunk[f"x{i}"] for i in range(width)], axis=1))


def _chunks(
    db: duckdb.DuckDBPyConnection, staged: Staged, sides: tuple[str, ...], width: int, rows: int
) -> Iterator[dict[str, np.ndarray]]:
    wanted = [f"{side}_nodes.node AS {side}" for side in sides]
    wanted += ["time", "staged.rowid AS row", f"{'edge_row' if staged.source.edge_row else 'staged.rowid'} AS edge_row"]
    wanted += [f"x{i}" for i in range(width)]
    joins = " ".join(f"JOIN {side}_nodes ON staged.{side} = {side}_nodes.id" for side in sides)
    result = db.sql(f"SELECT {', '.join(wanted)} FROM staged {joins} WHERE problem IS NULL ORDER BY time, staged.rowid")
    for batch in result.to_arrow_reader(rows):
        yield {name: batch.column(name).to_numpy() for name in batch.schema.names}
