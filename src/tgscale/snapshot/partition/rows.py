"""One process's rows of the adjacencies of a sequence, and which rows of others they gather: the halo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.data.snapshots import SnapshotSequence
from tgscale.graph.adjacency import Adjacency
from tgscale.graph.aggregate import aggregate
from tgscale.snapshot.partition.collectives import Exchange

EDGES_AT_A_TIME = 1 << 25
"""Edges of the graphs whose adjacencies are made at once when a process cuts its rows out of them."""


class Route(NamedTuple):
    """How the halo of some snapshots is exchanged.

    Attributes:
        graphs: which graph each snapshot shows, int64 ``[S]`` on the CPU.
        sent: rows of ``[S * n, F]`` to send, those for process 0 first.
        received: rows of ``[S * (n + H), F]`` that what arrives goes to.
        send, receive: number of rows to and from each process.
    """

    graphs: Tensor
    sent: Tensor
    received: Tensor
    send: list[int]
    receive: list[int]


@dataclass(frozen=True, eq=False)
class OwnRows:
    """The rows ``bounds[rank]`` to ``bounds[rank + 1]`` of every adjacency, n of them.

    Attributes:
        adjacency: ``[n, n + H]`` per graph: own nodes' columns, then those of the graph's halo by ascending node; H is
            that of the graph with most.
        halo: how many of them there are of process ``p`` or a lower one in graph g is ``halo[g, p + 1]``, ``[G, P+1]``.
        send_to: rows ``send_to[g, p]`` to ``send_to[g, p + 1]`` of ``send_row`` are sent to process p, ``[G, P+1]``.
        send_row: number among this process's nodes, int64.
    """

    adjacency: Adjacency
    halo: np.ndarray
    send_to: np.ndarray
    send_row: np.ndarray

    def to(self, device: torch.device | str) -> OwnRows:
        return replace(self, adjacency=self.adjacency.to(device))

    def route(self, graphs: np.ndarray) -> Route:
        """How the halo of snapshots that show these graphs (``[S]``) is exchanged, once for all of them."""
        n, columns = self.adjacency.num_rows, self.adjacency.num_cols
        step, device = np.arange(len(graphs)), self.adjacency.device
        away = np.diff(self.send_to[graphs], axis=1).T  # [P, S]: by process, then by snapshot
        sent = self.send_row[_ranges(self.send_to[graphs, :-1].T, away)]
        sent += np.repeat(np.tile(step * n, len(away)), away.ravel())
        home = np.diff(self.halo[graphs], axis=1).T
        received = _ranges(self.halo[graphs, :-1].T + step * columns + n, home)
        index = torch.from_numpy(sent).to(device), torch.from_numpy(received).to(device)
        return Route(torch.from_numpy(graphs), *index, away.sum(axis=1).tolist(), home.sum(axis=1).tolist())

    def aggregate(self, x: Tensor, route: Route, exchange: Exchange) -> Tensor:
        """``A_s x_s`` of this process's rows for S snapshots, ``[S, n, F]``; differentiable in ``x`` of all processes.

        Args:
            x: this process's rows, ``[S, n, F]``.
            route: of the snapshots.
            exchange: to the others.
        """
        return _Aggregate.apply(x, self, route, exchange)


class _Aggregate(torch.autograd.Function):
    """One function, so that a process without rows has an exchange to run backward too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: OwnRows, route: Route, exchange: Exchange) -> Tensor:
        ctx.rows, ctx.route, ctx.exchange = rows, route, exchange
        (S, n, F), columns = x.shape, rows.adjacency.num_cols
        halo = exchange.swap(x.reshape(S * n, F)[route.sent], route.send, route.receive)
        wide = x.new_empty(S, columns, F)
        wide[:, :n] = x
        wide.view(S * columns, F)[route.received] = halo
        return aggregate(rows.adjacency, route.graphs, wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, route, exchange = ctx.rows, ctx.route, ctx.exchange
        (S, n, F), columns = grad.shape, rows.adjacency.num_cols
        wide = aggregate(rows.adjacency.transposed, route.graphs, grad)
        halo = wide.view(S * columns, F)[route.received]
        returned = exchange.swap(halo, route.receive, route.send)
        own = wide[:, :n].contiguous()
        own.view(S * n, F).index_add_(0, route.sent, returned)
        return own, None, None, None


def cut_rows(
    sequence: SnapshotSequence,
    make: Callable[[SnapshotSequence], Adjacency],
    bounds: np.ndarray,
    rank: int,
    edges_at_a_time: int = EDGES_AT_A_TIME,
) -> OwnRows:
    """One process's rows of the adjacencies of a sequence. Nothing is sent: each process can see what others need.

    Args:
        sequence: all graphs.
        make: the adjacencies of a sequence, on the CPU; called with some of the graphs at a time.
        bounds: nodes ``bounds[p]`` to ``bounds[p + 1]`` are process p's, ``[P + 1]``.
        rank: this process.
        edges_at_a_time: see :data:`EDGES_AT_A_TIME`.
    """
    n = int(bounds[rank + 1] - bounds[rank])
    parts = [part for some in _some_graphs(sequence, edges_at_a_time) for part in _cut(make(some), bounds, rank)]
    offsets = np.concatenate([[0], np.cumsum([len(part.row) for part in parts])])
    sizes = np.array([part.send_to[-1] for part in parts])
    halo = np.stack([part.halo for part in parts])
    adjacency = Adjacency.from_edges(
        offsets,
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.weight for part in parts]),
        n,
        n + int(halo[:, -1].max()),
    )
    send_to = np.stack([part.send_to for part in parts]) + (np.cumsum(sizes) - sizes)[:, None]
    return OwnRows(adjacency, halo, send_to, np.concatenate([part.send_row for part in parts]))


class _Part(NamedTuple):
    """A process's rows of one graph."""

    column: np.ndarray
    row: np.ndarray
    weight: np.ndarray
    halo: np.ndarray
    send_to: np.ndarray
    send_row: np.ndarray


def _cut(adjacency: Adjacency, bounds: np.ndarray, rank: int) -> Iterator[_Part]:
    """The process's rows of each of some graphs."""
    low, high, world, nodes = int(bounds[rank]), int(bounds[rank + 1]), len(bounds) - 1, adjacency.num_cols
    n = high - low
    owner = np.repeat(np.arange(world), np.diff(bounds))
    for graph in range(adjacency.num_graphs):
        row, column, weight = _rows_between(adjacency, graph, low, high)
        needed = np.zeros(nodes, bool)
        needed[column] = True
        needed[low:high] = False
        halo = np.flatnonzero(needed)
        place = np.empty(nodes, np.int64)
        place[low:high] = np.arange(n)
        place[halo] = n + np.arange(len(halo))
        # The transposed rows of own nodes name the nodes that gather them.
        own, user, _ = _rows_between(adjacency.transposed, graph, low, high)
        wanted = np.zeros((world, n), bool)
        wanted[owner[user], own] = True
        wanted[rank] = False
        send_to = np.concatenate([[0], np.cumsum(wanted.sum(axis=1))])
        yield _Part(place[column], row, weight, np.searchsorted(halo, bounds), send_to, np.nonzero(wanted)[1])


def _rows_between(adjacency: Adjacency, graph: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row (counted from ``low``), column and weight of the entries of some rows of a graph."""
    offsets, indptr, neighbor, weight = adjacency.arrays
    entries = slice(offsets[graph] + indptr[graph, low], offsets[graph] + indptr[graph, high])
    row = np.repeat(np.arange(high - low), np.diff(indptr[graph, low : high + 1]))
    return row, neighbor[entries], weight[entries]


def _some_graphs(sequence: SnapshotSequence, edges_at_a_time: int) -> Iterator[SnapshotSequence]:
    """The graphs of a sequence, some at a time, as sequences that show each once."""
    first = 0
    while first < sequence.num_graphs:
        most = sequence.offsets[first] + edges_at_a_time
        last = max(first + 1, int(np.searchsorted(sequence.offsets, most, side="right")) - 1)
        rows = slice(int(sequence.offsets[first]), int(sequence.offsets[last]))
        yield replace(
            sequence,
            offsets=sequence.offsets[first : last + 1] - sequence.offsets[first],
            indptr=sequence.indptr[first:last],
            neighbor=sequence.neighbor[rows],
            graph_of=np.arange(last - first, dtype=np.int32),
            edge_weight=None if sequence.edge_weight is None else sequence.edge_weight[rows],
            edge_type=None if sequence.edge_type is None else sequence.edge_type[rows],
            edge_label=None,
            node_features=None,
            target=None,
            step_time=None,
        )
        first = last


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``starts[i], starts[i] + 1, ...``, ``lengths[i]`` of them, one after another for all i, int64."""
    starts, lengths = starts.ravel(), lengths.ravel()
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
