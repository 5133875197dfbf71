"""Edges of many graphs as plain columns: turned both ways, sorted and merged into CSR order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgscale.errors import DataError

MOST_RELATIONS = 2**15
"""Edge types are stored as int16."""


@dataclass(frozen=True)
class EdgeRows:
    """Edges as columns, int64 ``[e]`` each; ``weight`` (float64), ``type`` and ``label`` may be None."""

    graph: np.ndarray
    dst: np.ndarray
    src: np.ndarray
    weight: np.ndarray | None
    type: np.ndarray | None
    label: np.ndarray | None

    def both_ways(self) -> EdgeRows:
        """These edges, then the same turned round; a self-loop stays one."""
        turned = np.flatnonzero(self.src != self.dst)
        return EdgeRows(
            graph=np.r_[self.graph, self.graph[turned]],
            dst=np.r_[self.dst, self.src[turned]],
            src=np.r_[self.src, self.dst[turned]],
            weight=None if self.weight is None else np.r_[self.weight, self.weight[turned]],
            type=None if self.type is None else np.r_[self.type, self.type[turned]],
            label=None if self.label is None else np.r_[self.label, self.label[turned]],
        )

    def merged(self, num_nodes: int, num_graphs: int, parallel: bool) -> EdgeRows:
        """Sorted by (graph, destination, source) with one row for each; weights add up, the first type and label stay.

        With ``parallel``, rows that differ in type stay apart.
        """
        keys = [self.graph, self.dst, self.src]
        sizes = [num_graphs, num_nodes, num_nodes]
        if parallel and self.type is not None:
            keys.append(self.type)
            sizes.append(MOST_RELATIONS)
        order, first = _sort(keys, sizes)
        starts = np.flatnonzero(first)
        kept = order[starts]
        weight = self.weight
        if weight is not None and len(starts):
            weight = np.add.reduceat(weight[order], starts)
        return EdgeRows(
            graph=self.graph[kept],
            dst=self.dst[kept],
            src=self.src[kept],
            weight=weight,
            type=None if self.type is None else self.type[kept],
            label=None if self.label is None else self.label[kept],
        )


def _sort(keys: list[np.ndarray], sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Stable order by the first key, then the second, ..; and which rows, so ordered, differ from the one before."""
    span = 1
    for size in sizes:
        span *= max(1, size)
    if span < 2**63:  # one 64-bit number holds all keys
        number = np.zeros(len(keys[0]), np.int64)
        for key, size in zip(keys, sizes, strict=True):
            number *= size
            number += key
        keys = [number]
    order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])
    first = np.zeros(len(order), bool)
    first[:1] = True
    for key in keys:
        ordered = key[order]
        first[1:] |= ordered[1:] != ordered[:-1]
    return order, first


def csr_indptr(graph: np.ndarray, dst: np.ndarray, num_graphs: int, num_nodes: int) -> np.ndarray:
    """CSR by destination of each graph, int32 ``[num_graphs, num_nodes + 1]``, from sorted edges."""
    degree = np.bincount(graph * num_nodes + dst, minlength=num_graphs * num_nodes).reshape(num_graphs, num_nodes)
    if num_graphs and degree.sum(axis=1).max() >= 2**31:
        raise DataError("a snapshot has 2^31 edges or more, 32-bit offsets cannot hold them: use shorter snapshots.")
    indptr = np.zeros((num_graphs, num_nodes + 1), np.int32)
    np.cumsum(degree, axis=1, out=indptr[:, 1:])
    return indptr
