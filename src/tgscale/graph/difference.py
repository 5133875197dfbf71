"""Graph difference: sending a snapshot as what changed since the one before (ESDG, Chakaravarthy et al., SC 2021).

Consecutive snapshots share most of their edges, so a device that holds one needs only the added edges and the places of
the deleted ones to have the next. An edge whose weight changed is deleted and added. Edges are compared by one sorted
64-bit key, ``(destination * num_nodes + source) * num_relations + type``. Labels are not part of a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of one graph, sorted by (destination, source, type), on a device.

    Attributes:
        src, dst: ``[e]``, int32.
        weight: ``[e]``, float32, or None.
        type: ``[e]``, int16, or None.
        num_nodes, num_relations: of the sequence.
    """

    src: Tensor
    dst: Tensor
    weight: Tensor | None
    type: Tensor | None
    num_nodes: int
    num_relations: int

    def __len__(self) -> int:
        return len(self.src)

    @property
    def key(self) -> Tensor:
        """``[e]``, int64, ascending."""
        return _key(self.dst.long(), self.src, self.type, self.num_nodes, self.num_relations)

    @property
    def num_bytes(self) -> int:
        """What the tensors take."""
        return sum(x.nbytes for x in (self.src, self.dst, self.weight, self.type) if x is not None)

    def to(self, device: torch.device | str) -> Edges:
        """The same edges on a device."""
        return self._map(lambda x: x.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Edges:
        weight = None if self.weight is None else change(self.weight)
        kind = None if self.type is None else change(self.type)
        return replace(self, src=change(self.src), dst=change(self.dst), weight=weight, type=kind)


@dataclass(frozen=True, eq=False)
class GraphDifference:
    """What turns one graph into another.

    Attributes:
        added: edges that only the new graph has.
        deleted: places, among the old graph's edges, of those that only it has, ``[d]``, int32, ascending.
        old_size: number of edges of the old graph.
    """

    added: Edges
    deleted: Tensor
    old_size: int

    @property
    def num_bytes(self) -> int:
        """What the tensors take."""
        return self.added.num_bytes + self.deleted.nbytes

    def to(self, device: torch.device | str) -> GraphDifference:
        """The same difference on a device."""
        return replace(self, added=self.added.to(device), deleted=self.deleted.to(device))


@dataclass(frozen=True, eq=False)
class TransferPlan:
    """Bytes of edges to send, step by step of a run; the first step is sent in full.

    Attributes:
        full: in full, ``[n]``, int64: neighbors, weights, types, and destinations or row starts, whichever is less.
        difference: as the difference from the step before, ``[n]``, int64; the first as in full.
    """

    full: np.ndarray
    difference: np.ndarray

    @property
    def by_difference(self) -> np.ndarray:
        """Which steps are better sent as a difference, ``[n]``, bool."""
        return self.difference < self.full

    @property
    def sent(self) -> np.ndarray:
        """Bytes of the better way, ``[n]``, int64."""
        return np.minimum(self.full, self.difference)


def step_edges(seq: SnapshotSequence, t: int) -> Edges:
    """The graph of step ``t``.

    Raises:
        ConfigError: a step out of range, or nodes and relations that do not fit a 64-bit key.
        DataError: two edges of one type between the same nodes.
    """
    if not 0 <= t < seq.num_steps:
        raise ConfigError(f"step {t} was asked for, expected 0 to {seq.num_steps - 1}.")
    src, dst, weight, kind = _sorted_rows(seq, int(seq.graph_of[t]))
    return Edges(
        torch.from_numpy(np.array(src)),  # copies: columns may be mapped read-only
        torch.from_numpy(dst),
        None if weight is None else torch.from_numpy(np.array(weight)),
        None if kind is None else torch.from_numpy(np.array(kind)),
        seq.num_nodes,
        seq.num_relations,
    )


def difference(seq: SnapshotSequence, t0: int, t1: int) -> GraphDifference:
    """What turns the graph of step ``t0`` into that of step ``t1``. Raises as ``step_edges``."""
    old, new = step_edges(seq, t0), step_edges(seq, t1)
    added, deleted = _changes(_row_key(old), _row_key(new), _numpy(old.weight), _numpy(new.weight))
    rows = torch.from_numpy(np.flatnonzero(added))
    gone = torch.from_numpy(np.flatnonzero(deleted).astype(np.int32))
    return GraphDifference(new._map(lambda x: x[rows]), gone, len(old))


def apply_difference(graph: Edges, change: GraphDifference) -> Edges:
    """The new graph from the old one, on their device.

    Raises:
        ConfigError: a difference from a graph of another size.
    """
    if len(graph) != change.old_size:
        raise ConfigError(f"the difference is from a graph of {change.old_size} edges, this one has {len(graph)}.")
    keep = torch.ones(len(graph), dtype=torch.bool, device=graph.src.device)
    keep[change.deleted.long()] = False
    added = len(change.added)
    at = torch.searchsorted(graph.key[keep], change.added.key) + torch.arange(added, device=keep.device)
    from_old = torch.ones(change.old_size - len(change.deleted) + added, dtype=torch.bool, device=keep.device)
    from_old[at] = False

    def merge(old: Tensor, new: Tensor) -> Tensor:
        out = old.new_empty(len(from_old))
        out[from_old], out[at] = old[keep], new
        return out

    new = change.added
    weight = None if graph.weight is None or new.weight is None else merge(graph.weight, new.weight)
    kind = None if graph.type is None or new.type is None else merge(graph.type, new.type)
    return replace(graph, src=merge(graph.src, new.src), dst=merge(graph.dst, new.dst), weight=weight, type=kind)


def transfer_plan(seq: SnapshotSequence, steps: Sequence[int]) -> TransferPlan:
    """Bytes to send the graphs of ``steps``, one after the other, in full and by difference.

    Steps that follow one another and show the same graph cost nothing by difference. Only what is sent is counted, not
    node features. Raises as ``step_edges``.
    """
    full, by_difference = np.zeros(len(steps), np.int64), np.zeros(len(steps), np.int64)
    per_edge = 4 + (4 if seq.edge_weight is not None else 0) + (2 if seq.edge_type is not None else 0)
    before: Edges | None = None
    shown = -1
    for i, t in enumerate(steps):
        same = before is not None and int(seq.graph_of[t]) == shown
        now = before if same and before is not None else step_edges(seq, t)
        full[i] = per_edge * len(now) + 4 * min(len(now), seq.num_nodes + 1)
        if before is None:
            by_difference[i] = full[i]
        elif not same:
            added, deleted = _changes(_row_key(before), _row_key(now), _numpy(before.weight), _numpy(now.weight))
            by_difference[i] = (per_edge + 4) * np.count_nonzero(added) + 4 * np.count_nonzero(deleted)
        before, shown = now, int(seq.graph_of[t])
    return TransferPlan(full, by_difference)


def _key(dst, src, kind, num_nodes: int, num_relations: int):
    """Of tensors or arrays; ``dst`` in 64 bits."""
    key = dst * num_nodes + src
    return key if kind is None else key * num_relations + kind


def _row_key(edges: Edges) -> np.ndarray:
    return edges.key.numpy()


def _numpy(x: Tensor | None) -> np.ndarray | None:
    return None if x is None else x.numpy()


def _sorted_rows(seq: SnapshotSequence, graph: int) -> tuple[np.ndarray, np.ndarray, Any, Any]:
    """``src, dst, weight, type`` of a graph by ascending key; types of a pair need not be in order in the data."""
    if seq.num_nodes**2 * seq.num_relations >= 2**63:
        raise ConfigError(f"{seq.num_nodes} nodes and {seq.num_relations} relations do not fit a 64-bit key.")
    rows = slice(int(seq.offsets[graph]), int(seq.offsets[graph + 1]))
    src, dst = seq.neighbor[rows], np.repeat(np.arange(seq.num_nodes, dtype=np.int32), np.diff(seq.indptr[graph]))
    weight, kind = (None if x is None else x[rows] for x in (seq.edge_weight, seq.edge_type))
    key = _key(dst.astype(np.int64), src, kind, seq.num_nodes, seq.num_relations)
    if (key[1:] > key[:-1]).all():
        return src, dst, weight, kind
    order = np.argsort(key, kind="stable")
    src, dst, key = src[order], dst[order], key[order]
    twice = np.flatnonzero(key[1:] == key[:-1])
    if len(twice):
        pair = f"from node {src[twice[0]]} to node {dst[twice[0]]}"
        raise DataError(f"graph {graph} has two edges of one type {pair}: merge them.")
    return src, dst, None if weight is None else weight[order], None if kind is None else kind[order]


def _changes(
    old: np.ndarray, new: np.ndarray, old_weight: np.ndarray | None, new_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of ``new`` are added and which of ``old`` deleted: masks."""
    if not len(old):
        return np.ones(len(new), bool), np.zeros(0, bool)
    at = np.minimum(np.searchsorted(old, new), len(old) - 1)
    same = old[at] == new
    if old_weight is not None and new_weight is not None:
        same &= old_weight[at] == new_weight
    deleted = np.ones(len(old), bool)
    deleted[at[same]] = False
    return ~same, deleted
