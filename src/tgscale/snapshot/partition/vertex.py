"""Nodes split over processes: each aggregation asks other processes for neighbors (AliGraph, DGL, PyGT)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.errors import ConfigError
from tgscale.nn.program import AGGREGATE, STOCHASTIC, topological
from tgscale.snapshot.distinct import RowByRow
from tgscale.snapshot.operators import pick_top
from tgscale.snapshot.partition.blocks import contiguous_blocks, node_cost
from tgscale.snapshot.partition.collectives import Exchange
from tgscale.snapshot.partition.fetch import NodeRows
from tgscale.snapshot.partition.rows import OwnRows, Route, cut_rows
from tgscale.snapshot.partition.statistics import batch_norm
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import SnapshotData, make_adjacency
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace

MOST_ROUTED = 32_000_000
"""Rows of halo whose routes are kept for when a group comes again."""


class VertexPlacement:
    """Every process has a run of consecutive nodes, at all steps; a :class:`~tgscale.snapshot.placement.Placement`.

    Runs are balanced by incoming edges and nodes over the sequence. Hidden states stay where they are. An aggregation
    fetches the rows of neighbors that lie elsewhere: those of all steps in one exchange ahead of the recurrence, and
    step by step within it.

    Args:
        data: the sequence. Its features and adjacencies are not held on to, only this process's part of them.
        ranks: the processes.
        trace: where time spent on exchanges is counted.

    Attributes:
        bounds: process p has nodes ``bounds[p]`` to ``bounds[p + 1]``, int64 ``[P + 1]``.
        exchange: to the others.
    """

    def __init__(self, data: SnapshotData, ranks: Ranks, trace: Trace | None = None) -> None:
        self.sequence, self.device, self.dtype = data.sequence, data.device, data.dtype
        self.exchange = Exchange(ranks, trace)
        self.bounds = contiguous_blocks(node_cost(data.sequence), ranks.world)
        self.counts = np.diff(self.bounds).tolist()
        self.nodes = slice(int(self.bounds[ranks.rank]), int(self.bounds[ranks.rank + 1]))
        self.part = (ranks.rank, ranks.world)
        own = data.x[:, self.nodes]
        self.x = own if own.stride(0) == 0 else own.contiguous()  # features that never change are there once
        self.graph_of = np.asarray(data.sequence.graph_of, np.int64)
        self._rows: dict[str, OwnRows] = {}
        self._routes: dict[tuple[str, bytes], Route] = {}
        self._routed = 0

    @property
    def bytes_sent(self) -> int:
        return self.exchange.bytes_sent

    def keep(self, plan: Plan) -> int:
        refuse_learned_weights(plan)
        return plan.keep(self.group(0, len(self.graph_of)))

    def run(self, plan: Plan, first: int, window: int, then: RowByRow | None = None) -> Tensor:
        with own_draws(plan, self.exchange.ranks, self.device):
            return plan.run(self.group(first, window), then=then)

    def embeddings(self, h: Tensor) -> NodeRows:
        return NodeRows(h, self.bounds, self.exchange)

    def gather(self, out: Tensor) -> Tensor:
        return self.exchange.gather(out.movedim(-2, 0), self.counts).movedim(0, -2)

    def group(self, first: int, window: int) -> VertexGroup:
        """This process's nodes of a group."""
        return VertexGroup(self, first, window)

    def rows(self, operator: str) -> OwnRows:
        """This process's rows of an adjacency; cut out when first asked for."""
        if operator not in self._rows:
            make = partial(make_adjacency, operator=operator, dtype=self.dtype)
            self._rows[operator] = cut_rows(self.sequence, make, self.bounds, self.part[0]).to(self.device)
        return self._rows[operator]

    def aggregate(self, operator: str, graphs: np.ndarray, x: Tensor) -> Tensor:
        """``A_s x_s`` of own rows, ``[S, n, F]``, for S snapshots that show ``graphs``."""
        return self.rows(operator).aggregate(x, self._route(operator, graphs), self.exchange)

    def _route(self, operator: str, graphs: np.ndarray) -> Route:
        key = operator, graphs.tobytes()
        route = self._routes.get(key)
        if route is None:
            route = self.rows(operator).route(graphs)
            self._routed += len(route.sent) + len(route.received)
            if self._routed > MOST_ROUTED:
                self._routes.clear()
                self._routed = len(route.sent) + len(route.received)
            self._routes[key] = route
        return route


@dataclass(frozen=True)
class VertexGroup:
    """One process's nodes of a group; a :class:`~tgscale.snapshot.operators.GroupView`."""

    placement: VertexPlacement
    first: int
    window: int

    @property
    def x(self) -> Tensor:
        return self.placement.x[self.first : self.first + self.window]

    @cached_property
    def _graphs(self) -> np.ndarray:
        return self.placement.graph_of[self.first : self.first + self.window]

    def graphs(self) -> Tensor:
        return torch.from_numpy(self._graphs)

    def adjacency(self, operator: str) -> None:
        """None: no process has all that a recurrence over the graph needs."""

    def aggregate(self, operator: str, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        assert edge_weight is None, "refused when the plan was kept"
        return self.placement.aggregate(operator, self._graphs, x)

    def aggregate_at(self, operator: str, step: int, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        assert edge_weight is None, "refused when the plan was kept"
        return self.placement.aggregate(operator, self._graphs[step : step + 1], x[None])[0]

    def batch_norm(self, module: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return batch_norm(module, x, self.window * self.placement.sequence.num_nodes, self.placement.exchange)

    def top_rows(self, x: Tensor, score: Tensor, count: int) -> Tensor:
        """The best of all processes' best, in each of them."""
        few = min(count, x.shape[-2])
        index = score.topk(few, dim=-1).indices[..., None]
        scored = torch.cat([x, score[..., None]], dim=-1)
        candidates = scored.gather(-2, index.expand(*index.shape[:-1], scored.shape[-1]))
        counts = [min(count, n) for n in self.placement.counts]
        found = self.placement.exchange.gather(candidates.movedim(-2, 0), counts).movedim(0, -2)
        return pick_top(found[..., :-1], found[..., -1], count)


@contextlib.contextmanager
def own_draws(plan: Plan, ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Random numbers of this process's own, which follow from where the generator is, the same in all processes.

    With the same ones in all, nodes of different processes would lose the same elements to dropout. The masks are not
    those of one process, which would have to be drawn for all nodes in each.
    """
    if not plan.model.training or not any(node.op in STOCHASTIC for node in topological(plan.program.roots())):
        yield
        return
    seed = int(torch.randint(2**62, ()))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed + ranks.rank)
        yield


def refuse_learned_weights(plan: Plan) -> None:
    """Factors per edge that are learned have no place in a partition.

    Raises:
        ConfigError: the model has some.
    """
    nodes = topological(plan.program.roots())
    if any(node.op == AGGREGATE and len(node.inputs) > 1 for node in nodes):
        raise ConfigError(
            f"{type(plan.model).__name__} learns edge weights, which are not split over processes: use whole groups."
        )
