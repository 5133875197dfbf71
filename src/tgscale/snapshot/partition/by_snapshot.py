"""Snapshots of a group split over processes, and then its nodes (ESDG, Chakaravarthy et al., SC'21).

What runs ahead of the recurrence needs whole snapshots and nothing of other steps; the recurrence needs all steps and,
of the graph, only what it aggregates itself. So a process runs the first part on some of a group's snapshots, all that
the recurrence takes over is laid out anew in one exchange, and each process goes on with some nodes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.graph.difference import TransferPlan, transfer_plan
from tgscale.nn.program import Node
from tgscale.snapshot.distinct import RowByRow
from tgscale.snapshot.partition.blocks import contiguous_blocks, step_cost
from tgscale.snapshot.partition.collectives import Exchange
from tgscale.snapshot.partition.fetch import NodeRows
from tgscale.snapshot.partition.statistics import batch_norm
from tgscale.snapshot.partition.vertex import VertexGroup, VertexPlacement, own_draws, refuse_learned_weights
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import LocalGroup, SnapshotData
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace


class Transfer(NamedTuple):
    """Bytes of edges that a process with a small memory would have had to fetch.

    Attributes:
        full: every snapshot as a whole.
        difference: of consecutive ones, what changes from one to the next.
    """

    full: int
    difference: int


class SnapshotPlacement:
    """Ahead of the recurrence a process has some steps, in it some nodes; a ``Placement``.

    Steps are runs of consecutive ones of each group, balanced by edges and nodes; nodes are split as in
    :class:`VertexPlacement`, which also fetches what the recurrence aggregates. Where a group has fewer steps than
    there are processes, some have none and still take part in every exchange.

    What depends on the data alone is kept in every process, as groups move over the sequence and each process meets
    every step sooner or later: of whole snapshots where it is used ahead of the recurrence, of own nodes where it is
    used later, so that it is never sent.

    Args:
        data: the sequence; all of it stays in every process.
        ranks: the processes.
        trace: where time spent on exchanges is counted.

    Attributes:
        vertex: how nodes are split.
        exchange: to the others.
    """

    def __init__(self, data: SnapshotData, ranks: Ranks, trace: Trace | None = None) -> None:
        self.data = data
        self.vertex = VertexPlacement(data, ranks, trace)
        self.nodes, self.part, self.exchange = self.vertex.nodes, self.vertex.part, self.vertex.exchange
        self._cost = step_cost(data.sequence)
        self._kept: dict[Node, Tensor] = {}
        self._ran: Counter[tuple[int, int]] = Counter()

    @property
    def bytes_sent(self) -> int:
        return self.exchange.bytes_sent

    def keep(self, plan: Plan) -> int:
        refuse_learned_weights(plan)
        plan.keep(self.data.whole())
        ahead = {each for node in plan.stages.ahead for each in node.inputs}
        for node in set(plan.crossing()) & set(plan.constants):
            own = plan.constants[node][:, self.nodes] if node.per_node else plan.constants[node]
            self._kept[node] = own.contiguous()
            if node not in ahead:
                del plan.constants[node]
        kept = [*plan.constants.values(), *(self._kept[node] for node in plan.stages.kept if node in self._kept)]
        return sum(value.nbytes for value in kept)

    def run(self, plan: Plan, first: int, window: int, then: RowByRow | None = None) -> Tensor:
        bounds = first + contiguous_blocks(self._cost[first : first + window], self.part[1])
        own, stop = (int(bound) for bound in bounds[self.part[0] :][:2])
        whole = WholeSnapshots(self.data, own, stop - own, window, self.exchange)
        nodes = self.vertex.group(first, window)
        self._ran[own, stop] += 1
        with own_draws(plan, self.exchange.ranks, self.data.device):
            values = plan.run_ahead(whole)
            crossed = self._cross(plan, values, nodes, np.diff(bounds).tolist())
            weights = {node: values[node] for node in plan.stages.weights}
            return plan.run_recurrence(nodes, weights | crossed, then=then)

    @property
    def transfer(self) -> Transfer:
        """What fetching the snapshots of all runs so far takes; looks at every edge of the sequence the first time."""
        full = difference = 0
        for (own, stop), times in self._ran.items():
            if stop > own:
                whole, changed = self._transfers.full[own:stop], self._transfers.difference[own + 1 : stop]
                full += times * int(whole.sum())
                difference += times * int(whole[0] + changed.sum())
        return Transfer(full, difference)

    @cached_property
    def _transfers(self) -> TransferPlan:
        return transfer_plan(self.data.sequence, range(self.data.sequence.num_steps))

    def embeddings(self, h: Tensor) -> NodeRows:
        return self.vertex.embeddings(h)

    def gather(self, out: Tensor) -> Tensor:
        return self.vertex.gather(out)

    def _cross(self, plan: Plan, values: dict[Node, Tensor], to: VertexGroup, steps: list[int]) -> dict[Node, Tensor]:
        """What the recurrence takes over, for own nodes at all steps of the group; tables for all steps."""
        crossed: dict[Node, Tensor] = {}
        moved: list[Node] = []
        for node in plan.crossing():
            if node.op == "input":
                crossed[node] = to.x
            elif node in self._kept:
                crossed[node] = self._kept[node][to.first : to.first + to.window]
            elif not node.per_node:
                crossed[node] = self.exchange.gather(values[node], steps)
            elif values[node].dim() == 2:  # the same at all steps, such as a state that nothing updates
                crossed[node] = values[node][self.nodes]
            else:
                moved.append(node)
        if moved:
            parts = self._to_nodes(torch.cat([values[node] for node in moved], dim=2), steps)
            crossed.update(zip(moved, parts.split([values[node].shape[2] for node in moved], dim=2), strict=True))
        return crossed

    def _to_nodes(self, x: Tensor, steps: list[int]) -> Tensor:
        """All nodes at own steps ``[s, N, K]`` become own nodes at all steps ``[w, n, K]``, in one exchange."""
        counts, n = self.vertex.counts, self.nodes.stop - self.nodes.start
        rows = torch.cat([part.flatten(0, 1) for part in x.split(counts, dim=1)])
        received = self.exchange.rows(rows, [len(x) * count for count in counts], [step * n for step in steps])
        return received.view(sum(steps), n, x.shape[2])


@dataclass(frozen=True)
class WholeSnapshots(LocalGroup):
    """One process's snapshots of a group, maybe none.

    Attributes:
        group_window: number of the group's steps, in all processes.
        exchange: to the others.
    """

    group_window: int
    exchange: Exchange

    def aggregate(self, operator: str, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        # Without snapshots the result is as empty as x, whose gradient others wait for.
        return super().aggregate(operator, x, edge_weight) if self.window else x

    def batch_norm(self, module: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return batch_norm(module, x, self.group_window * self.data.num_nodes, self.exchange)
