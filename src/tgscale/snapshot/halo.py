"""What a vertex partition costs on each graph: edges of the fullest device, and features of remote neighbors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tgscale.data.snapshots import SnapshotSequence

MOST_COUNTED = 20_000_000
"""Edges above which remote neighbors are expected, not counted."""


def is_counted(sequence: SnapshotSequence) -> bool:
    """Whether remote neighbors are counted in this sequence, rather than expected."""
    return sequence.num_edges <= MOST_COUNTED


class VertexSplit(NamedTuple):
    """Nodes split into P runs of consecutive ids of equal length, one per device.

    Attributes:
        fullest: float64 ``[G]``, share of each graph's edges that end on the device with most of them; 1/P if none.
        halo: float64 ``[G]``, distinct remote neighbors of all devices together.
        halo_most: float64 ``[G]``, the same of the device with most of them.
        largest: share of the nodes on the device with most of them.
    """

    fullest: np.ndarray
    halo: np.ndarray
    halo_most: np.ndarray
    largest: float


def split_vertices(sequence: SnapshotSequence, devices: int, halo: bool = True) -> VertexSplit:
    """Split the nodes, and count.

    Args:
        sequence: with G graphs.
        devices: P.
        halo: count remote neighbors too, or, where :func:`is_counted` says no, take :func:`expected_halo`; otherwise
            they are 0.
    """
    bounds = np.linspace(0, sequence.num_nodes, devices + 1).astype(np.int64)
    edges = np.diff(sequence.indptr[:, bounds].astype(np.int64), axis=1)
    total = edges.sum(axis=1)
    fullest = np.where(total > 0, edges.max(axis=1) / np.maximum(total, 1), 1 / devices)
    remote = np.zeros((sequence.num_graphs, 2))
    if halo and devices > 1:
        find = _counted_halo if is_counted(sequence) else _expected_halo
        remote = np.array([find(sequence, graph, bounds) for graph in range(sequence.num_graphs)])
    largest = float(np.diff(bounds).max()) / sequence.num_nodes
    return VertexSplit(fullest, remote[:, 0], remote[:, 1], largest)


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
