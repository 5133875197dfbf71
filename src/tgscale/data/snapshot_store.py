"""The data directory of a snapshot sequence: its columns (see :mod:`tgscale.data.directory`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tgscale.data.directory import (
    CHUNK_BYTES,
    DirectoryWriter,
    check_lengths,
    open_columns,
    read_kind,
    recover,
    writing_as,
)
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import DataError, StoreError

REQUIRED = ("offsets", "indptr", "neighbor", "graph_of")
EDGE_COLUMNS = ("edge_weight", "edge_type", "edge_label")
NODE_COLUMNS = ("node_features", "target", "target_mean", "target_std")
META_KEYS = {"name", "steps", "graphs", "nodes", "edges", "num_relations", "undirected", "time_unit"}
TYPES = {"edge_weight": np.float32, "edge_type": np.int16, "edge_label": np.int64}


def save_snapshots(
    sequence: SnapshotSequence, path: str | Path, overwrite: bool = False, source: dict[str, Any] | None = None
) -> None:
    """Write a snapshot sequence as a data directory.

    Args:
        sequence: what to write.
        path: the directory to make.
        overwrite: replace a data directory that is already there.
        source: what ``meta.json`` is to say about where the data came from.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    with writing_snapshots(path, overwrite) as writer:
        writer.write_sequence(sequence)
        writer.commit(
            name=sequence.name,
            num_relations=sequence.num_relations,
            undirected=sequence.undirected,
            time_unit=sequence.time_unit,
            target_delay=sequence.target_delay,
            source={"format": "memory"} if source is None else source,
        )


def open_snapshots(path: str | Path, verify: bool = False) -> SnapshotSequence:
    """Open a data directory; columns are read-only memory maps, so nothing is read until it is used.

    Args:
        path: the data directory.
        verify: also read every file and compare its SHA-256 with the one in ``meta.json``.

    Raises:
        StoreError: no data directory, one of an event stream, written by a newer tgscale, a file that is missing or
            cut short, a column of another type or shape than ``meta.json`` says, or (with ``verify``) altered.
    """
    path = Path(path)
    recover(path)
    meta = read_kind(path, "snapshots", META_KEYS, set(REQUIRED))
    columns = open_columns(path, meta, verify)
    _check_shapes(path, meta, columns)
    return SnapshotSequence(
        **columns,
        num_nodes=meta["nodes"],
        num_relations=meta["num_relations"],
        undirected=meta["undirected"],
        time_unit=meta["time_unit"],
        target_delay=meta.get("target_delay", 1),
        name=meta["name"],
        path=path,
    )


class SnapshotWriter(DirectoryWriter):
    """Columns of a snapshot sequence while they are being written. Made by :func:`writing_snapshots`.

    Edges come in chunks, sorted by (graph, destination, source); the CSR is built in its file.
    """

    def create_edges(self, num_graphs: int, num_nodes: int, num_edges: int, extras: tuple[str, ...] = ()) -> None:
        """Make the columns of edges, all of them of known size.

        Args:
            num_graphs, num_nodes, num_edges: sizes.
            extras: which of ``edge_weight``, ``edge_type`` and ``edge_label`` there are.

        Raises:
            OSError: the disk has no room.
        """
        row_bytes = 4 + sum(np.dtype(TYPES[name]).itemsize for name in extras)
        self.require(4 * num_graphs * (num_nodes + 1) + num_edges * row_bytes)
        self.create("neighbor", np.int32, (num_edges,))
        for name in extras:
            self.create(name, TYPES[name], (num_edges,))
        self._indptr = self.create_mapped("indptr", np.int32, (num_graphs, num_nodes + 1))

    def append_edges(self, graph: np.ndarray, dst: np.ndarray, src: np.ndarray, **extras: np.ndarray) -> None:
        """Write the next edges; all columns of one length."""
        self.append("neighbor", src)
        for name, values in extras.items():
            self.append(name, values)
        place = graph.astype(np.int64) * self._indptr.shape[1] + dst + 1
        steps = np.diff(place, prepend=-1)
        if (steps < 0).any():
            raise ValueError("edges must come sorted by graph and destination")
        first = np.flatnonzero(steps)
        self._indptr.reshape(-1)[place[first]] += np.diff(first, append=len(place)).astype(np.int32)

    def finish_edges(self) -> None:
        """Turn the counted degrees into offsets, when all edges are written.

        Raises:
            DataError: a snapshot has more edges than 32-bit offsets can hold.
        """
        indptr = self._indptr
        sizes = np.zeros(len(indptr), np.int64)
        step = max(1, CHUNK_BYTES // (8 * indptr.shape[1]))
        for at in range(0, len(indptr), step):
            ends = np.cumsum(indptr[at : at + step], axis=1, dtype=np.int64)
            sizes[at : at + step] = ends[:, -1]
            if sizes.max() >= 2**31:
                raise DataError(f"snapshot {int(np.argmax(sizes))} has 2^31 edges or more: use shorter snapshots.")
            indptr[at : at + step] = ends
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        self.create("offsets", np.int64, offsets.shape)
        self.append("offsets", offsets)

    def write_sequence(self, sequence: SnapshotSequence, more: int = 0) -> None:
        """Write all columns that a sequence has; ``more`` bytes are to follow."""
        columns = {name: getattr(sequence, name) for name in (*REQUIRED, *EDGE_COLUMNS, *NODE_COLUMNS, "step_time")}
        there = {name: array for name, array in columns.items() if array is not None}
        self.require(sum(array.nbytes for array in there.values()) + more)
        for name, array in there.items():
            self.write(name, array)

    def write(self, name: str, array: np.ndarray) -> None:
        """Write a whole column."""
        self.create(name, array.dtype, array.shape)
        self.append(name, array)

    def commit(
        self,
        *,
        name: str,
        num_relations: int,
        undirected: bool,
        time_unit: str,
        source: dict[str, Any],
        target_delay: int = 1,
        num_sources: int | None = None,
    ) -> None:
        """Write everything out, with checksums and ``meta.json`` last.

        ``num_sources`` is of a bipartite source, whose two sides have ids of their own: nodes from there on are
        destinations. (Data directories from before it was kept do not say it.)
        """
        shapes = self.shapes
        self.finish(
            {
                "kind": "snapshots",
                "name": name,
                "steps": shapes["graph_of"][0],
                "graphs": shapes["indptr"][0],
                "nodes": shapes["indptr"][1] - 1,
                "edges": shapes["neighbor"][0],
                "node_dim": shapes["node_features"][-1] if "node_features" in shapes else 0,
                "target_dim": shapes["target"][-1] if "target" in shapes else 0,
                "num_relations": num_relations,
                "undirected": undirected,
                "time_unit": time_unit,
                "target_delay": target_delay,
                "num_sources": num_sources,
                "source": source,
            }
        )


@contextmanager
def writing_snapshots(path: str | Path, overwrite: bool = False) -> Iterator[SnapshotWriter]:
    """Write the data directory of a snapshot sequence: the body fills the writer and ends with ``commit``.

    On any exception the temporary directory goes, and the target is as it was.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    with writing_as(SnapshotWriter, path, overwrite) as writer:
        yield writer


def _check_shapes(path: Path, meta: dict[str, Any], columns: dict[str, np.ndarray]) -> None:
    steps, graphs, nodes = meta["steps"], meta["graphs"], meta["nodes"]
    rows = {"offsets": graphs + 1, "indptr": graphs, "graph_of": steps, "step_time": steps}
    rows |= dict.fromkeys(("neighbor", *EDGE_COLUMNS), meta["edges"])
    rows |= dict.fromkeys(("target_mean", "target_std"), nodes)
    if "node_features" in columns:
        rows["node_features"] = steps if columns["node_features"].ndim == 3 else nodes
    check_lengths(path, columns, rows)
    offsets, graph_of = columns["offsets"], columns["graph_of"]
    widths = {columns[name].shape[-2] for name in ("node_features", "target") if name in columns}
    sound = columns["indptr"].shape[1] == nodes + 1 and offsets[0] == 0 and offsets[-1] == meta["edges"]
    sound = sound and len(columns.get("target", ())) <= steps
    sound = sound and widths <= {nodes} and bool((graph_of >= 0).all() and (graph_of < graphs).all())
    if not sound:
        raise StoreError(f"{path}: the columns do not fit one another, they are damaged: import the data again.")
