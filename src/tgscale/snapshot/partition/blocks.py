"""Runs of consecutive nodes or steps, one per process, that cost about the same."""

from __future__ import annotations

import numpy as np

from tgscale.data.snapshots import SnapshotSequence


def node_cost(sequence: SnapshotSequence) -> np.ndarray:
    """Incoming edges of each node over all steps, and 1 for itself at each, int64 ``[N]``."""
    cost = np.full(sequence.num_nodes, sequence.num_steps, np.int64)
    shown = np.bincount(sequence.graph_of, minlength=sequence.num_graphs)
    for graph in np.flatnonzero(shown):
        cost += shown[graph] * np.diff(sequence.indptr[graph]).astype(np.int64)
    return cost


def step_cost(sequence: SnapshotSequence) -> np.ndarray:
    """Edges and nodes of each step, int64 ``[T]``."""
    return sequence.edge_counts() + sequence.num_nodes


def contiguous_blocks(cost: np.ndarray, parts: int) -> np.ndarray:
    """Cut a sequence into runs so that the costliest run costs as little as possible.

    Among those cuts the ones nearest to equal shares are taken. Runs may be empty.

    Args:
        cost: of each item, integers of at least 1, ``[n]``.
        parts: number of runs.

    Returns:
        int64 ``[parts + 1]``: run p is items ``bounds[p]`` to ``bounds[p + 1]``.
    """
    ends = np.concatenate([[0], np.cumsum(cost, dtype=np.int64)])
    total, n = int(ends[-1]), len(cost)
    low = max(int(np.max(cost, initial=0)), -(-total // parts))
    high = total
    while low < high:
        middle = (low + high) // 2
        if _first_fit(ends, parts, middle)[-1] == n:
            high = middle
        else:
            low = middle + 1
    # Run p must begin late enough that those after it can hold the rest, and may not hold more than the least maximum.
    earliest = n - _first_fit(total - ends[::-1], parts, low)[::-1]
    bounds = np.zeros(parts + 1, np.int64)
    for p in range(1, parts + 1):
        nearest = _nearest(ends, total * p / parts)
        latest = int(np.searchsorted(ends, ends[bounds[p - 1]] + low, side="right")) - 1
        bounds[p] = min(latest, max(nearest, int(earliest[p]), int(bounds[p - 1])))
    return bounds


def _first_fit(ends: np.ndarray, parts: int, most: int) -> np.ndarray:
    """Bounds of runs that each take as many items as cost at most ``most`` together, ``[parts + 1]``."""
    bounds = np.zeros(parts + 1, np.int64)
    for p in range(parts):
        bounds[p + 1] = np.searchsorted(ends, ends[bounds[p]] + most, side="right") - 1
    return bounds


def _nearest(ends: np.ndarray, target: float) -> int:
    above = min(int(np.searchsorted(ends, target)), len(ends) - 1)
    return above - 1 if above and target - ends[above - 1] < ends[above] - target else above
