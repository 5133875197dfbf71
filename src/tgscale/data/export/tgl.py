"""TGL's folder: ``edges.csv``, ``ext_full.npz``, ``edge_features.pt``, ``node_features.pt``, ``labels.csv``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.export.outgoing import Outgoing, Writer
from tgscale.data.export.pieces import array_file, write_node_ids, write_text
from tgscale.data.export.tensors import save, tensor


def _edges(data: Outgoing) -> Iterator[pa.RecordBatch]:
    stream = data.stream
    for rows in data.chunks():
        yield pa.record_batch(
            {
                "": pa.array(np.arange(rows.start, rows.stop)),
                "src": pa.array(np.asarray(stream.src[rows])),
                "dst": pa.array(np.asarray(stream.dst[rows])),
                "time": pa.array(np.asarray(stream.time[rows])),
                "ext_roll": pa.array(data.parts_of(rows, stream.split())),
            }
        )


def _labels(data: Outgoing) -> Iterator[pa.RecordBatch]:
    stream = data.stream
    assert stream.label is not None
    for rows in data.chunks():
        yield pa.record_batch(
            {
                "": pa.array(np.arange(rows.start, rows.stop)),
                "node": pa.array(np.asarray(stream.src[rows])),
                "time": pa.array(np.asarray(stream.time[rows])),
                "label": pa.array(np.asarray(stream.label[rows])),
                "ext_roll": pa.array(data.parts_of(rows, stream.split())),
            }
        )


def _adjacency(data: Outgoing, folder: Path) -> dict[str, np.ndarray]:
    """TGL's T-CSR with both directions: its arrays as memory maps in ``folder``.

    As ``gen_graph.py --add_reverse`` has it, a self-loop stands twice, where ours stands once.
    """
    stream, tcsr = data.stream, data.stream.tcsr
    indptr = np.asarray(tcsr.indptr) + np.concatenate([[0], np.cumsum(_self_loops(data))])
    size = int(indptr[-1])
    id_type = np.int32 if max(size, stream.num_events) < 2**31 else np.int64
    files = {
        name: array_file(folder / f"{name}.npy", dtype, (size,))
        for name, dtype in (("indices", id_type), ("ts", np.float64), ("eid", id_type))
    }
    for first, last in _node_blocks(np.asarray(tcsr.indptr)):
        span = slice(int(tcsr.indptr[first]), int(tcsr.indptr[last]))
        owner = np.repeat(np.arange(first, last), np.diff(tcsr.indptr[first : last + 1]))
        neighbor, event = np.asarray(tcsr.neighbor[span]), np.asarray(tcsr.event_id[span])
        times = 1 + (neighbor == owner)
        out = slice(int(indptr[first]), int(indptr[last]))
        files["indices"][out] = np.repeat(neighbor, times)
        files["eid"][out] = np.repeat(event, times)
        files["ts"][out] = np.repeat(stream.time[event], times)
    return {"indptr": indptr.astype(id_type), **files}


def _self_loops(data: Outgoing) -> np.ndarray:
    """Number of self-loops of each node, int64 ``[N]``."""
    loops = np.zeros(data.stream.num_nodes, np.int64)
    for rows in data.chunks():
        src = np.asarray(data.stream.src[rows])
        nodes, counts = np.unique(src[src == data.stream.dst[rows]], return_counts=True)
        loops[nodes] += counts
    return loops


def _node_blocks(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of nodes with about as many entries as fit into a chunk; a node is never cut."""
    most, first = CHUNK_BYTES // 32, 0
    while first < len(indptr) - 1:
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + most, side="right")) - 1)
        last = min(last, first + most)
        yield first, last
        first = last


def write(data: Outgoing, target: Path) -> None:
    """Write the folder."""
    target.mkdir()
    write_text(target / "edges.csv", ",src,dst,time,ext_roll", _edges(data))
    if data.stream.label is not None:
        write_text(target / "labels.csv", ",node,time,label,ext_roll", _labels(data))
    for name, table in (("edge", data.stream.edge_features), ("node", data.stream.node_features)):
        if table is not None:
            save(tensor(table), target / f"{name}_features.pt")
    work = target / "work"
    work.mkdir()
    np.savez(target / "ext_full.npz", **_adjacency(data, work))  # type: ignore[arg-type]
    for file in work.iterdir():
        file.unlink()
    work.rmdir()
    write_node_ids(target / "node_ids.parquet", data)


def check(data: Outgoing) -> list[str]:
    """Say what was added."""
    said = []
    if data.stream.source_split is None:
        said.append("the stream brings no split; ext_roll splits its events 70/15/15 in time order, as training would")
    if data.ids is not None:
        said.append("nodes are named by number; node_ids.parquet in the folder holds the ids of the source")
    return said


def reading(data: Outgoing, target: Path) -> dict[str, Any]:
    """Options that read it back."""
    return {"format": "tgl"} | data.units()


WRITER = Writer(
    "TGL's folder",
    frozenset({"label", "split", "edge_features", "node_features", "ids"}),
    write,
    reading,
    files=("edges.csv", "labels.csv", "ext_full.npz", "*_features.pt", "node_ids.parquet"),
    check=check,
    binary=True,
)
