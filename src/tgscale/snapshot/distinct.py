"""What a group computes once for all nodes that cannot differ: rows of equal data, and states that follow from them.

Ahead of a recurrence most operators work node by node on data that are kept for the run. Where nodes have equal data
they need it once. Behind it, nodes that had the same inputs and have gathered the same so far share their state. Both
are decided by size, group by group: a table of distinct rows is an indirection, which has to save something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tgscale.graph.distinct import Lists, StateClasses, compact, distinct_rows, state_classes
from tgscale.nn.program import AFFINE, CONCAT, MATMUL, Node
from tgscale.nn.shared_recurrence import gru_shared_scan, lstm_shared_scan
from tgscale.nn.shared_rows import attend_rows, expand_rows
from tgscale.snapshot.fuse import SELF
from tgscale.snapshot.operators import GroupView

ROWWISE = (
    "add", AFFINE, "subtract", "multiply", MATMUL, "sigmoid", "tanh", "relu", "complement", "scale", CONCAT, "columns",
)  # fmt: skip
"""Operators that give equal rows for equal rows, from tables as from all nodes."""

RowByRow = Callable[[Tensor], Tensor]
"""Works on each row by itself, ``[..., C] -> [..., D]``, and draws nothing."""

MOST_ROWS = 0.5
"""A group's data are put into a table where it has at most this share of all rows."""
MOST_STATES = 0.9
"""And states are shared where there are at most this share of them."""
MOST_BYTES = 2**30
"""What all groups together may take for their indices."""


@dataclass(frozen=True, eq=False)
class Sharing:
    """What the nodes of one group share.

    Attributes:
        index: the table row of every node at every step, ``[w, N]``, int32.
        places: where each table row stands in ``index``.
        tables: the distinct rows of what is computed from, ``[K, F]`` each.
        states: the distinct states of each recurrence that shares them.
    """

    index: np.ndarray
    places: Lists
    tables: dict[Node, Tensor]
    states: dict[Node, StateClasses]

    @property
    def num_rows(self) -> int:
        return len(self.places.start) - 1

    @property
    def num_bytes(self) -> int:
        states = {id(each): each for each in self.states.values()}.values()
        tables = sum(table.nbytes for table in self.tables.values())
        return self.index.nbytes + self.places.num_bytes + tables + sum(each.num_bytes for each in states)

    def expand(self, table: Tensor) -> Tensor:
        """A table's rows for all nodes and steps, ``[w, N, C]``."""
        return expand_rows(table, self.index, self.places)

    def run(self, node: Node, at: Sequence[Tensor], then: RowByRow | None = None) -> Tensor:
        """An operator whose first input is a table: ``[w, N, C]``, or ``[N, C]`` for attention.

        Args:
            then: applied to each distinct row of the result.
        """
        if node.op == "attend":
            out = attend_rows(at[0], torch.softmax(at[1], dim=0), self.index)
            return then(out) if then else out
        classes = self.states[node]
        kind, basis = node.attrs
        if kind == "gru":
            states = gru_shared_scan(at[0], classes, at[1], at[2])
        else:
            weights = at[1].unflatten(0, (len(basis), -1))
            near = [k for k, name in enumerate(basis) if name != SELF]
            u_self = weights[basis.index(SELF)] if SELF in basis else None
            states = lstm_shared_scan(at[0], classes, u_self, weights[near] if near else None)
        return expand_rows(then(states) if then else states, classes.index, classes.members)

    def takes_table(self, node: Node) -> bool:
        """Whether an operator takes its first input as a table."""
        return node.op == "attend" or node in self.states


@dataclass
class SharedRows:
    """Which operators of a plan work on tables of distinct rows, and what is known of the data of its groups.

    Args:
        sources: kept values and inputs that they are computed from.
        rowwise: operators that give equal rows for equal rows.
        users: operators for whose sake that is worth while: recurrences and attention over steps.
    """

    sources: list[Node]
    rowwise: list[Node]
    users: list[Node]
    numbers: np.ndarray | None = None
    found: dict[tuple[int, int], Sharing | None] = field(default_factory=dict)

    def keep(self, values: Iterable[Tensor]) -> None:
        """Number the distinct rows of a whole sequence; ``values``: those of ``sources``, ``[T, N, F]`` each."""
        arrays = [value.detach().numpy() for value in values]
        shape = arrays[0].shape[:2]
        self.numbers = distinct_rows([x.reshape(-1, x.shape[2]) for x in arrays]).reshape(shape)
        self.found = {}

    def forget(self) -> None:
        self.numbers, self.found = None, {}

    def of(self, view: GroupView, values: dict[Node, Tensor]) -> Sharing | None:
        """What the nodes of a group share, or None where that saves too little; found at its first use.

        Args:
            values: those of ``sources`` for the group, ``[w, N, F]``.
        """
        key = view.first, view.window
        if key not in self.found:
            used = sum(each.num_bytes for each in list(self.found.values()) if each)  # two threads may be here
            self.found[key] = self._find(view, values) if used < MOST_BYTES else None
        return self.found[key]

    def _find(self, view: GroupView, values: dict[Node, Tensor]) -> Sharing | None:
        assert self.numbers is not None
        index, first = compact(self.numbers[view.first : view.first + view.window])
        by_basis: dict[object, StateClasses | None] = {}
        states = {}
        for node in self.users:
            if node.op != "scan" or not can_share(node):
                continue
            basis = node.attrs[1]
            if basis not in by_basis:
                matrices = [view.adjacency(name) for name in basis if name != SELF]
                graphs, most = view.graphs().cpu().numpy(), int(MOST_STATES * index.size)
                there = [matrix for matrix in matrices if matrix is not None]
                usable = len(there) == len(matrices)
                by_basis[basis] = state_classes(index, there, graphs, most) if usable else None
            classes = by_basis[basis]
            if classes is not None:
                states[node] = classes
        attends = any(node.op == "attend" for node in self.users)
        if not states and not (attends and len(first) <= MOST_ROWS * index.size):
            return None
        rows = torch.from_numpy(first)
        tables = {node: values[node].flatten(0, 1)[rows] for node in self.sources}
        return Sharing(index, Lists.inverse(index.ravel(), len(first)), tables, states)


def can_share(scan: Node) -> bool:
    """Whether there is a kernel for a recurrence on distinct states.

    What a GRU aggregates after its reset gate depends on the neighbors' neighbors at the same step, and so do
    Chebyshev terms from the third on: those are left as they are.
    """
    kind, basis = scan.attrs
    return not any("^" in name for name in basis) and (kind == "lstm" or basis == (SELF,))


def shared_rows(nodes: Sequence[Node], kept: Iterable[Node], ahead: Iterable[Node], fixed: set[Node]) -> SharedRows:
    """Find what works on distinct rows in a plan.

    Args:
        nodes: all, inputs first.
        kept: what is kept for the run.
        ahead: what is computed for all steps at once, ahead of the recurrence.
        fixed: tables of weights that are the same at all steps.
    """
    kept, ahead = set(kept), set(ahead)
    of_rows: dict[Node, set[Node]] = {node: {node} for node in nodes if node in kept or node.op == "input"}
    rowwise = []
    for node in nodes:
        rows = [each for each in node.inputs if each.per_node]
        others = [each for each in node.inputs if not each.per_node]
        if node not in ahead or node.op not in ROWWISE or not rows:
            continue
        if all(each in of_rows for each in rows) and all(each in fixed for each in others):
            of_rows[node] = set().union(*(of_rows[each] for each in rows))
            rowwise.append(node)
    on_tables = set(rowwise)
    users = [node for node in nodes if node.op in ("scan", "attend") and node.inputs[0] in on_tables]
    needed = set().union(*(of_rows[node.inputs[0]] for node in users)) if users else set()
    wanted = [node for node in rowwise if of_rows[node] <= needed] if users else []
    return SharedRows([node for node in nodes if node in needed], wanted, users)
