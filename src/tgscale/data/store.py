"""The data directory of an event stream: its columns, T-CSR and pair index (see :mod:`tgscale.data.directory`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from tgscale.data.directory import (
    CHUNK_BYTES,
    META,
    DirectoryWriter,
    check_lengths,
    check_target,
    disk_full,
    fingerprint,
    kind_of,
    open_columns,
    read_kind,
    recover,
    writing_as,
)
from tgscale.data.files import expect_random_reads
from tgscale.data.index import TCSR, PairIndex, build_tcsr, pair_index_of
from tgscale.data.stream import EventStream, Split
from tgscale.errors import StoreError

__all__ = [
    "CHUNK_BYTES", "META", "NODE_IDS", "StoreWriter", "check_target", "destinations_shifted", "disk_full",
    "fingerprint", "kind_of", "lookup_nodes", "open_stream", "read_meta", "save_stream", "source_ids", "writing",
]  # fmt: skip

NODE_IDS = "node_ids.parquet"
EVENT_COLUMNS = ("src", "dst", "time")
INDEX_COLUMNS = ("tcsr_indptr", "tcsr_neighbor", "tcsr_event_id", "pairs_indptr", "pairs_partner", "pairs_event_id")
OPTIONAL = ("label", "edge_classes", "node_label", "edge_features", "node_features")
READ_AT_RANDOM = {*INDEX_COLUMNS, "time", "edge_features", "node_features"}
# Smaller columns keep the system's read-ahead, which soon has them in memory as a whole.
LARGE_COLUMN = 256 << 20
MADE_HERE = ("memory", "appended")
"""Formats of streams that no import has numbered."""
META_KEYS = {"name", "events", "nodes", "time_unit", "num_sources", "source_split"}


def save_stream(stream: EventStream, path: str | Path, overwrite: bool = False) -> None:
    """Write a stream, with its T-CSR and pair index, as a data directory.

    Args:
        stream: what to write.
        path: the directory to make.
        overwrite: replace a data directory that is already there.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    with writing(path, overwrite) as writer:
        for name in (*EVENT_COLUMNS, *OPTIONAL):
            array = getattr(stream, name)
            if array is not None:
                writer.create(name, array.dtype, array.shape)
                writer.append(name, array)
        writer.write_indices(stream.num_nodes)
        writer.commit(
            name=stream.name,
            num_nodes=stream.num_nodes,
            time_unit=stream.time_unit,
            num_sources=stream.num_sources,
            source_split=stream.source_split,
            source={"format": "memory"},
            classes=stream.classes,
        )


def open_stream(path: str | Path, verify: bool = False) -> EventStream:
    """Open a data directory; columns are read-only memory maps, so nothing is read until it is used.

    Args:
        path: the data directory.
        verify: also read every file and compare its SHA-256 with the one in ``meta.json``.

    Raises:
        StoreError: no data directory, written by a newer tgscale, a file that is missing or cut short, a column of
            another type or shape than ``meta.json`` says, or (with ``verify``) of another checksum.
    """
    path = Path(path)
    recover(path)
    meta = read_meta(path)
    columns = open_columns(path, meta, verify)
    _check_counts(path, meta, columns)
    expect_random_reads(
        *(columns[name] for name in READ_AT_RANDOM & set(columns) if columns[name].nbytes > LARGE_COLUMN)
    )
    split = meta["source_split"]
    return EventStream(
        src=columns["src"],
        dst=columns["dst"],
        time=columns["time"],
        num_nodes=meta["nodes"],
        label=columns.get("label"),
        edge_classes=columns.get("edge_classes"),
        node_label=columns.get("node_label"),
        classes={column: tuple(names) for column, names in meta.get("classes", {}).items()},
        edge_features=columns.get("edge_features"),
        node_features=columns.get("node_features"),
        num_sources=meta["num_sources"],
        source_split=None if split is None else Split(**split),
        time_unit=meta["time_unit"],
        name=meta["name"],
        path=path,
        stored_tcsr=TCSR(columns["tcsr_indptr"], columns["tcsr_neighbor"], columns["tcsr_event_id"]),
        stored_pairs=PairIndex(columns["pairs_indptr"], columns["pairs_partner"], columns["pairs_event_id"]),
    )


def read_meta(path: str | Path) -> dict[str, Any]:
    """The parsed ``meta.json`` of a stream's data directory.

    Raises:
        StoreError: the directory or the file is missing, is not valid JSON, is of a newer version, or holds snapshots.
    """
    return read_kind(path, "stream", META_KEYS, set(EVENT_COLUMNS + INDEX_COLUMNS))


def lookup_nodes(path: str | Path, ids: list[Any], side: str | None = None) -> np.ndarray:
    """Node numbers of source ids.

    Args:
        path: the data directory.
        ids: ids as they stood in the source, integers or strings.
        side: ``"src"`` or ``"dst"``; needed for a bipartite stream, whose two id spaces are apart. Of a stream that was
            saved from memory an id is the node's number, and an id of the other side is one that is not there.

    Returns:
        int64, shape ``[len(ids)]``; -1 for an id that the source did not have.

    Raises:
        StoreError: a bipartite stream and no ``side``.
    """
    meta = read_meta(path)
    first, last = _side_range(path, meta, side)
    if NODE_IDS not in meta["files"]:
        nodes = np.array([int(i) if str(i).isdecimal() else -1 for i in ids], np.int64)
        if destinations_shifted(meta):
            nodes = np.where(nodes < 0, -1, nodes + first)
        return np.where((nodes >= first) & (nodes < last), nodes, -1)
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT n.node FROM unnest($ids::VARCHAR[]) WITH ORDINALITY AS wanted(id, place) "
            "LEFT JOIN (SELECT node, id::VARCHAR AS id FROM read_parquet($file) "
            "WHERE node >= $first AND node < $last) n ON n.id = wanted.id ORDER BY place",
            {"ids": [str(i) for i in ids], "file": str(Path(path) / NODE_IDS), "first": first, "last": last},
        ).fetchall()
    return np.array([-1 if node is None else node for (node,) in rows], np.int64)


def source_ids(path: str | Path) -> np.ndarray | None:
    """The id that each node had in the source, ``[N]``, int64 or text; None where they were dense.

    (Dense ids are the nodes themselves, but for destinations that :func:`destinations_shifted` tells of.)
    """
    if NODE_IDS not in read_meta(path)["files"]:
        return None
    with duckdb.connect() as db:
        column = db.execute("SELECT id FROM read_parquet($file) ORDER BY node", {"file": str(Path(path) / NODE_IDS)})
        return column.fetchnumpy()["id"]


def destinations_shifted(meta: dict[str, Any]) -> bool:
    """Whether the two sides have ids of their own: dense ones of destinations were moved up by ``num_sources``.

    An import does so to the destinations of a bipartite source, which have ids of their own. A stream that was made in
    memory has one number per node already, and is saved as it is.

    Args:
        meta: what :func:`read_meta` gave.
    """
    made_here = (meta.get("source") or {}).get("format") in MADE_HERE
    return meta["num_sources"] is not None and not made_here


def _side_range(path: str | Path, meta: dict[str, Any], side: str | None) -> tuple[int, int]:
    if meta["num_sources"] is None:
        return 0, meta["nodes"]
    if side not in ("src", "dst"):
        raise StoreError(f"{path} is bipartite, its sources and destinations have ids of their own: give side.")
    return (0, meta["num_sources"]) if side == "src" else (meta["num_sources"], meta["nodes"])


class StoreWriter(DirectoryWriter):
    """Columns of a stream while they are being written. Made by :func:`writing`."""

    def write_indices(self, num_nodes: int) -> None:
        """Build T-CSR and pair index of the columns ``src`` and ``dst`` straight into their files."""
        src, dst = self.mapped("src"), self.mapped("dst")
        tcsr = build_tcsr(src, dst, num_nodes, lambda name, *spec: self.create_mapped(f"tcsr_{name}", *spec))
        pair_index_of(tcsr, src, dst, lambda name, *spec: self.create_mapped(f"pairs_{name}", *spec))

    def commit(
        self,
        *,
        name: str,
        num_nodes: int,
        time_unit: str,
        num_sources: int | None,
        source_split: Split | None,
        source: dict[str, Any],
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Write everything out, with checksums and ``meta.json`` last."""
        shapes = self.shapes
        self.finish(
            {
                "kind": "stream",
                "name": name,
                "events": shapes["src"][0],
                "nodes": num_nodes,
                "edge_dim": shapes["edge_features"][1] if "edge_features" in shapes else 0,
                "node_dim": shapes["node_features"][1] if "node_features" in shapes else 0,
                "time_unit": time_unit,
                "num_sources": num_sources,
                "source_split": None if source_split is None else asdict(source_split),
                "classes": {column: list(names) for column, names in (classes or {}).items()},
                "source": source,
            }
        )


@contextmanager
def writing(path: str | Path, overwrite: bool = False) -> Iterator[StoreWriter]:
    """Write a data directory: the body fills the writer and ends with ``commit``.

    On any exception the temporary directory goes, and the target is as it was.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    with writing_as(StoreWriter, path, overwrite) as writer:
        yield writer


def _check_counts(path: Path, meta: dict[str, Any], columns: dict[str, np.ndarray]) -> None:
    events, nodes = meta["events"], meta["nodes"]
    of_events = ("src", "dst", "time", "label", "edge_classes", "edge_features", "pairs_partner", "pairs_event_id")
    rows = dict.fromkeys(of_events, events)
    rows |= {"tcsr_indptr": nodes + 1, "pairs_indptr": nodes + 1, "node_features": nodes, "node_label": nodes}
    rows |= dict.fromkeys(("tcsr_neighbor", "tcsr_event_id"), len(columns["tcsr_neighbor"]))
    check_lengths(path, columns, rows)
