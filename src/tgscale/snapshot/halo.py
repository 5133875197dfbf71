"""What a vertex partition costs on each graph: edges and nodes of each device, and features of remote neighbors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot.partition.blocks import contiguous_blocks, node_cost

MOST_COUNTED = 20_000_000
"""Edges above which remote neighbors are expected, not counted."""
CHUNK = 2**22


def is_counted(sequence: SnapshotSequence) -> bool:
    """Whether remote neighbors are counted in this sequence, rather than expected."""
    return sequence.num_edges <= MOST_COUNTED


class VertexSplit(NamedTuple):
    """Nodes split into P runs of consecutive ids, one per device, with about as many edges and nodes each.

    Attributes:
        edges: float64 ``[G, P]``, share of each graph's edges that end on each device.
        nodes: float64 ``[P]``, share of the nodes on each device.
        halo: float64 ``[G]``, distinct remote neighbors of all devices together.
        halo_most: float64 ``[G]``, the same of the device with most of them.
    """

    edges: np.ndarray
    nodes: np.ndarray
    halo: np.ndarray
    halo_most: np.ndarray

    def slowest(self, on_edges: np.ndarray, dense: np.ndarray, graph_of: np.ndarray) -> np.ndarray:
        """Seconds of the device that takes longest in each step, float64 ``[T]``.

        Args:
            on_edges, dense: float ``[T]``, seconds of one device that has all nodes.
            graph_of: integers ``[T]``, which graph each step shows.
        """
        out, rows = np.empty(len(graph_of)), max(1, CHUNK // len(self.nodes))
        for at in range(0, len(graph_of), rows):
            part = slice(at, at + rows)
            loads = on_edges[part, None] * self.edges[graph_of[part]] + dense[part, None] * self.nodes
            out[part] = loads.max(axis=1)
        return out


def split_vertices(sequence: SnapshotSequence, devices: int, halo: bool = True) -> VertexSplit:
    """Split the nodes as the vertex partition does, and count.

    Args:
        sequence: with G graphs.
        devices: P.
        halo: count remote neighbors too, or, where :func:`is_counted` says no, take :func:`expected_halo`; otherwise
            they are 0.
    """
    bounds = contiguous_blocks(node_cost(sequence), devices)
    edges = np.diff(sequence.indptr[:, bounds].astype(np.int64), axis=1)
    share = edges / np.maximum(edges.sum(axis=1, keepdims=True), 1)
    remote = np.zeros((sequence.num_graphs, 2))
    if halo and devices > 1:
        find = _counted_halo if is_counted(sequence) else _expected_halo
        remote = np.array([find(sequence, graph, bounds) for graph in range(sequence.num_graphs)])
    return VertexSplit(share, np.diff(bounds) / sequence.num_nodes, remote[:, 0], remote[:, 1])


def expected_halo(out_degree: np.ndarray, devices: int) -> float:
    """Distinct remote neighbors of all devices together, expected when nodes fall on devices at random.

    A node with d out-neighbors is wanted by ``(P - 1) (1 - (1 - 1/P)^d)`` devices besides its own.
    """
    return float(np.sum((devices - 1) * (1 - (1 - 1 / devices) ** out_degree)))


def _counted_halo(sequence: SnapshotSequence, graph: int, bounds: np.ndarray) -> tuple[float, float]:
    devices, neighbor = len(bounds) - 1, _neighbors(sequence, graph)
    device_of = np.repeat(np.arange(devices), np.diff(bounds))
    here = np.repeat(np.arange(devices), np.diff(sequence.indptr[graph, bounds]))  # rows are sorted by destination
    remote = device_of[neighbor] != here
    wanted = np.unique(here[remote] * sequence.num_nodes + neighbor[remote])
    per_device = np.bincount(wanted // sequence.num_nodes, minlength=devices)
    return float(per_device.sum()), float(per_device.max())


def _expected_halo(sequence: SnapshotSequence, graph: int, bounds: np.ndarray) -> tuple[float, float]:
    devices = len(bounds) - 1
    out_degree = np.bincount(_neighbors(sequence, graph), minlength=sequence.num_nodes)
    expected = expected_halo(out_degree, devices)
    return expected, expected / devices


def _neighbors(sequence: SnapshotSequence, graph: int) -> np.ndarray:
    return np.asarray(sequence.neighbor[sequence.offsets[graph] : sequence.offsets[graph + 1]], np.int64)
