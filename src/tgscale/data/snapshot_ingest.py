"""Import edges from files, a query or an event stream's data directory into a snapshot sequence.

DuckDB parses, checks and relabels as for event streams, then assigns steps, merges the edges of a step and sorts, in
bounded memory; the sorted edges stream into the columns of the store.
"""

from __future__ import annotations

import shutil
import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tgscale.data.directory import META, check_target
from tgscale.data.formats.source import Columns
from tgscale.data.nodes import write_node_features, write_node_ids
from tgscale.data.reading import Prepared, Reading, find_files, origin, prepare
from tgscale.data.snapshot_edges import EdgeKind, write_edges
from tgscale.data.snapshot_report import SnapshotReport, report_on
from tgscale.data.snapshot_store import writing_snapshots
from tgscale.data.staging import Times
from tgscale.data.store import NODE_IDS, destinations_shifted, open_stream, read_meta
from tgscale.data.stream import EventStream
from tgscale.data.windows import Cut
from tgscale.data.work import work_database
from tgscale.errors import ConfigError

OF_READING = {
    "format": "auto", "node_features": None, "bipartite": False, "on_error": "stop", "time_unit": "s",
    "source_time_unit": "s", "ids": "auto", "query": None,
}  # fmt: skip
"""Options of :func:`import_snapshots` that say how a source is read, with their defaults."""


def import_snapshots(
    source: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    *,
    snapshots: str | None = None,
    every: str | int | None = None,
    events_per_snapshot: int | None = None,
    intervals: str | None = None,
    undirected: bool = False,
    weight: str | None = None,
    edge_type: str | None = None,
    label: str | None = None,
    format: str = "auto",
    src: str | None = None,
    dst: str | None = None,
    time: str | None = None,
    node_features: str | Path | None = None,
    bipartite: bool = False,
    on_error: str = "stop",
    memory_limit: str = "2GB",
    time_unit: str = "s",
    source_time_unit: str = "s",
    ids: str = "auto",
    query: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> SnapshotReport:
    """Import edges into the data directory of a snapshot sequence.

    Edges of one snapshot that join the same two nodes become one: weights add up, the first label in time order stays;
    with ``edge_type``, edges of different types stay apart.

    Args:
        source: as in :func:`tgscale.data.ingest.import_events`, or the data directory of an event stream.
        out: the data directory to make.
        snapshots: the column that numbers the snapshots; they begin at the lowest number.
        every: length of a time window, such as ``"1d"``, ``"6h"``, ``"30min"`` or a number in ``time_unit``. Windows
            begin at multiples of their length; those without events are empty snapshots.
        events_per_snapshot: that many events, in time order, make a snapshot.
        intervals: two columns ``"first,last"``: an edge stands in snapshots first to last, both included.
        undirected: store every edge both ways; the source has it once. Weights of both directions add up.
        weight: column of weights; None: ``weight`` if there is one; ``"count"``: the number of events that were merged;
            an empty string: none.
        edge_type: column of edge types, integers from 0 to 32767.
        label: column of labels; None: a usual name; an empty string: none.
        format, src, dst, time, node_features, bipartite, on_error: as in :func:`tgscale.data.ingest.import_events`.
        memory_limit, time_unit, source_time_unit, ids, query, name, overwrite, progress: as there.

    Raises:
        ConfigError: an option that cannot be used, or a number of snapshots that cannot be meant.
        DataError: a source that cannot be used; names file, row and column.
        StoreError: the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    how = Cut(snapshots, every, events_per_snapshot, intervals)
    column = None if weight == "count" else "auto" if weight is None else weight or None
    columns = Columns(
        src, dst, how.time_column or time, label, weight=column, edge_type=edge_type, until=how.until_column
    )
    folder = _stream_folder(source)
    if folder is not None:
        _refuse_options(
            folder, columns, format=format, node_features=node_features, bipartite=bipartite, on_error=on_error,
            time_unit=time_unit, source_time_unit=source_time_unit, ids=ids, query=query,
        )  # fmt: skip
    if how.time_column is not None:
        if time is not None:
            raise ConfigError(f"--time {time} does not go with the numbered snapshots of {how.time_column!r}: drop it.")
        if (time_unit, source_time_unit) != ("s", "s"):
            raise ConfigError(f"numbered snapshots ({how.time_column!r}) have no time unit: drop --time-unit.")
        time_unit = source_time_unit = "step"
    times = Times(time_unit, source_time_unit)
    out = Path(out)
    check_target(out, overwrite)
    if folder is not None:
        columns = Columns(label=label)
        times = Times(unit := open_stream(folder).time_unit, unit)
    if every is not None:
        how.window(times.unit)  # before the work, not after it
    reading = Reading(columns, times, format, node_features, bipartite, on_error, ids, query, memory_limit)
    count = weight == "count"
    if folder is not None:
        return _import_stream(folder, out, how, reading, count, undirected, name, overwrite, progress, began)
    paths = find_files(source, query)
    with writing_snapshots(out, overwrite) as writer:
        work = writer.folder / "work"
        with work_database(work, reading.memory, query) as db:
            prepared = prepare(db, paths, reading, work, progress)
            nodes = prepared.nodes
            kind = _edge_kind(prepared.columns, count, undirected)
            _number_events(db, prepared)
            steps, relations = write_edges(db, writer, kind, how, nodes.count, times.unit, reading.memory, progress)
            write_node_features(db, writer, nodes, prepared.node_table(node_features))
            write_node_ids(db, writer.folder, nodes)
        shutil.rmtree(work)
        progress("checksums")
        writer.commit(
            name=name or out.absolute().name,
            num_relations=relations,
            undirected=undirected,
            time_unit=times.unit,
            num_sources=nodes.num_sources,
            source={**origin(prepared, reading), "cut": steps.about, "weight": kind.weight},
        )
    found = prepared.source
    return report_on(
        out,
        began,
        found.format,
        found.note,
        columns=prepared.columns,
        relabelled=not nodes.dense,
        dropped=prepared.dropped,
        unused=prepared.unused,
        hints=[steps.hint] if steps.hint else [],
    )


def _edge_kind(columns: Columns, count: bool, undirected: bool) -> EdgeKind:
    weight = "count" if count else "sum" if columns.weight else None
    return EdgeKind(weight, columns.label is not None, columns.edge_type is not None, undirected)


def _number_events(db: duckdb.DuckDBPyConnection, prepared: Prepared) -> None:
    """Make the table ``events`` of the usable rows of ``staged``."""
    carried = [role for role in ("until", "label", "weight", "edge_type") if getattr(prepared.columns, role)]
    wanted = ", ".join(["s.node::INTEGER AS src", "d.node::INTEGER AS dst", "time", "staged.rowid AS place", *carried])
    db.execute(
        f"CREATE TABLE events AS SELECT {wanted} FROM staged JOIN src_nodes s ON src = s.id "
        "JOIN dst_nodes d ON dst = d.id WHERE problem IS NULL"
    )


def _stream_folder(source: Any) -> Path | None:
    """The data directory of an event stream, when the source is one."""
    if not isinstance(source, str | Path):
        source = source[0] if source is not None and len(source) == 1 else None
    return Path(source) if source is not None and (Path(source) / META).is_file() else None


def _refuse_options(folder: Path, columns: Columns, **reading: Any) -> None:
    """Refuse what says how a source is read: a data directory was read when it was made."""
    given = {name: value for name, value in reading.items() if value != OF_READING[name]}
    given |= {name: value for name, value in vars(columns).items() if value}
    if columns.weight == "auto":
        del given["weight"]
    for name, value in given.items():
        option = {"time": "time or --snapshots", "until": "intervals"}.get(name, name).replace("_", "-")
        said = f"--{option}" if value is True else f"--{option} {value}"
        raise ConfigError(
            f"{said} does not go with {folder}, a data directory, whose columns are settled: leave it out, or import "
            "from the source itself."
        )


def _import_stream(
    folder: Path,
    out: Path,
    how: Cut,
    reading: Reading,
    count: bool,
    undirected: bool,
    name: str | None,
    overwrite: bool,
    progress: Callable[[str], None],
    began: float,
) -> SnapshotReport:
    """Cut the event stream of a data directory into snapshots; its nodes keep their numbers."""
    stream, meta = open_stream(folder), read_meta(folder)
    labelled = stream.label is not None and reading.columns.label != ""
    kind = EdgeKind("count" if count else None, labelled, False, undirected)
    with writing_snapshots(out, overwrite) as writer:
        work = writer.folder / "work"
        with work_database(work, reading.memory, None) as db:
            progress("reading")
            db.register("stored", _arrow(stream, labelled))
            db.execute("CREATE VIEW events AS SELECT *, row_number() OVER () - 1 AS place FROM stored")
            unit, memory = stream.time_unit, reading.memory
            steps, _ = write_edges(db, writer, kind, how, stream.num_nodes, unit, memory, progress)
        shutil.rmtree(work)
        if stream.node_features is not None:
            writer.write("node_features", stream.node_features)
        if (folder / NODE_IDS).is_file():
            shutil.copyfile(folder / NODE_IDS, writer.folder / NODE_IDS)
        progress("checksums")
        writer.commit(
            name=name or out.absolute().name,
            num_relations=1,
            undirected=undirected,
            time_unit=stream.time_unit,
            num_sources=stream.num_sources if destinations_shifted(meta) else None,
            source={
                "format": "stream",
                "files": [str(folder)],
                "columns": (meta.get("source") or {}).get("columns"),
                "cut": steps.about,
                "weight": kind.weight,
            },
        )
    hints = ["the edge features of the events are not kept in snapshots"] if stream.edge_dim else []
    hints += [steps.hint] if steps.hint else []
    return report_on(out, began, "stream", "a data directory", hints=hints)


def _arrow(stream: EventStream, labelled: bool) -> pa.Table:
    """The columns of a stream as a table, without a copy."""
    names = ("src", "dst", "time", *(["label"] if labelled else []))
    return pa.table({name: pa.array(np.asarray(getattr(stream, name))) for name in names})
