"""Import events from files or a query into a data directory.

DuckDB parses, checks, relabels and sorts, in bounded memory and on disk where it must; the sorted rows stream into
the columns of the store, and T-CSR and pair index are built in their files.
"""

from __future__ import annotations

import shutil
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tgscale.data.formats.source import Columns
from tgscale.data.nodes import write_node_features, write_node_ids, write_node_labels
from tgscale.data.problems import Dropped
from tgscale.data.reading import Reading, find_files, origin, prepare
from tgscale.data.sorting import write_events
from tgscale.data.staging import Staged, Times
from tgscale.data.store import check_target, writing
from tgscale.data.time_words import unit_hint
from tgscale.data.work import work_database
from tgscale.errors import ConfigError


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        path: the data directory.
        format, note: the format, and how it was recognised.
        columns: which column played which part.
        events, nodes, num_sources, edge_dim, node_dim: sizes; ``num_sources`` is None unless bipartite.
        classes: number of named classes of ``label``, ``edge_classes`` and ``node_label``.
        first_time, last_time: in ``time_unit``.
        relabelled: the source's ids were not dense integers; the mapping lies in ``node_ids.parquet``.
        dropped: rows left out (with ``on_error="drop"``).
        unused: columns of the source that were not imported.
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
    classes: dict[str, int] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
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
    edge_classes: str | Sequence[str] | None = None,
    node_labels: str | Path | None = None,
    node_label_column: str | None = None,
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
    about: Mapping[str, Any] | None = None,
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
        edge_classes: one column of classes, numbers or text, which becomes ``label``; one column of lists of classes;
            or several columns (names or patterns) of 0 and 1, a class each. Names of classes are kept.
        node_labels: a CSV, Parquet or JSON table with an ``id`` column and one of the nodes' classes.
        node_label_column: which column that is, where there are more.
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
        about: what else ``meta.json`` shall keep about the source; must go into JSON.
        progress: is called with a few words at each step.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: a source that cannot be used; names file, row and column.
        StoreError: the target exists, or the disk is full.
    """
    began = clock.perf_counter()
    times = Times(time_unit, source_time_unit)
    given = Columns(src, dst, time, label, split, _patterns(edge_features))
    given = replace(given, edge_classes=_patterns(edge_classes))
    if node_label_column is not None and node_labels is None:
        raise ConfigError("--node-label-column says what to read in --node-labels: give that, too.")
    reading = Reading(given, times, format, node_features, bipartite, on_error, ids, query, memory_limit)
    reading = replace(reading, of_events=True)
    out = Path(out)
    check_target(out, overwrite)
    paths = find_files(source, query)

    with writing(out, overwrite) as writer:
        work = writer.folder / "work"
        with work_database(work, reading.memory, query) as db:
            prepared = prepare(db, paths, reading, work, progress)
            nodes = prepared.nodes
            progress("sorting")
            written = write_events(db, writer, prepared.staged, nodes.count)
            classes = _class_names(prepared.staged)
            if node_labels is not None:
                classes["node_label"] = write_node_labels(db, writer, nodes, Path(node_labels), node_label_column)
            node_dim = write_node_features(db, writer, nodes, prepared.node_table(node_features))
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
            source={**origin(prepared, reading), **(about or {})},
            classes=classes,
        )
    return ImportReport(
        path=out,
        format=prepared.source.format,
        note=prepared.source.note,
        columns=prepared.columns,
        events=written.events,
        nodes=nodes.count,
        num_sources=nodes.num_sources,
        edge_dim=written.edge_dim,
        node_dim=node_dim,
        classes={column: len(names) for column, names in classes.items()},
        first_time=written.first_time,
        last_time=written.last_time,
        time_unit=time_unit,
        relabelled=not nodes.dense,
        bytes=sum(file.stat().st_size for file in out.iterdir()),
        seconds=clock.perf_counter() - began,
        dropped=prepared.dropped,
        unused=prepared.unused,
        hints=_hints(written.first_time, written.last_time, times, prepared.staged.dated),
    )


def _class_names(staged: Staged) -> dict[str, Sequence[str]]:
    if staged.classes is None:
        return {}
    return {"edge_classes" if staged.classes.several else "label": staged.classes.names}


def _patterns(edge_features: str | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(edge_features, str):
        return tuple(pattern.strip() for pattern in edge_features.split(","))
    return tuple(edge_features or ())


def _hints(first_time: int, last_time: int, times: Times, dated: bool) -> list[str]:
    # Of dates, and where the unit of the source was said, nothing was taken for granted.
    hint = None if dated or times.source_unit != "s" else unit_hint(first_time, last_time, times.unit)
    return [] if hint is None else [hint]
