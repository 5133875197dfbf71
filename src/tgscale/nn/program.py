"""A snapshot step written down as a small graph of operators, so that it can be rewritten before it is run.

A model says what one step computes, in the order of its paper's equations, on nodes of this graph in place of tensors.
Nothing is computed here: :mod:`tgscale.snapshot.plan` rewrites the program and runs it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

AGGREGATE, MATMUL, ADD, CONCAT, AFFINE = "aggregate", "matmul", "add", "concat", "affine"
SOURCES = ("input", "parameter", "state")
STOCHASTIC = ("dropout",)
ACROSS_STEPS = ("attend", "last", "skip")
"""Operators that put the steps of a group together."""
WHOLE_GROUP = ("batch_norm", *ACROSS_STEPS)
"""Operators that see all steps of a group at once."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operator, and what it gives for every node of a snapshot, or a small table (weights).

    Attributes:
        op: name of the operator; see :class:`Program` for what each computes.
        inputs: what it works on.
        attrs: its constants.
        per_node: whether it has one row per node of the snapshot; otherwise it is a table of weights.
        width: columns of the result.
    """

    op: str
    inputs: tuple[Node, ...]
    attrs: tuple[Any, ...]
    per_node: bool
    width: int

    def __add__(self, other: Node) -> Node:
        return _node(ADD, self, other, per_node=self.per_node or other.per_node)

    def __sub__(self, other: Node) -> Node:
        return _node("subtract", self, other, per_node=self.per_node or other.per_node)

    def __mul__(self, other: Node) -> Node:
        return _node("multiply", self, other, per_node=self.per_node or other.per_node)

    def __matmul__(self, weight: Node) -> Node:
        return _node(MATMUL, self, weight, per_node=self.per_node, width=weight.width)


def _node(op: str, *inputs: Node, attrs: tuple[Any, ...] = (), per_node: bool | None = None, width: int = 0) -> Node:
    per_node = inputs[0].per_node if per_node is None else per_node
    return Node(op, inputs, attrs, per_node, width or inputs[0].width)


def rebuild(node: Node, inputs: Sequence[Node]) -> Node:
    """The same operator on other inputs."""
    if all(a is b for a, b in zip(node.inputs, inputs, strict=True)):
        return node
    return Node(node.op, tuple(inputs), node.attrs, node.per_node, node.width)


def sigmoid(x: Node) -> Node:
    """``1 / (1 + exp(-x))``."""
    return _node("sigmoid", x)


def tanh(x: Node) -> Node:
    """``tanh(x)``."""
    return _node("tanh", x)


def relu(x: Node) -> Node:
    """``max(x, 0)``."""
    return _node("relu", x)


def complement(x: Node) -> Node:
    """``1 - x``."""
    return _node("complement", x)


def scale(x: Node, factor: float) -> Node:
    """``factor * x``."""
    return _node("scale", x, attrs=(factor,))


def concat(*parts: Node) -> Node:
    """Columns side by side."""
    return _node(CONCAT, *parts, per_node=any(p.per_node for p in parts), width=sum(p.width for p in parts))


def columns(x: Node, start: int, stop: int) -> Node:
    """Columns ``start`` to ``stop`` of ``x``."""
    return _node("columns", x, attrs=(start, stop), width=stop - start)


def rows(weight: Node, start: int, stop: int) -> Node:
    """Rows ``start`` to ``stop`` of a table of weights."""
    return _node("rows", weight, attrs=(start, stop))


def transpose(weight: Node, width: int) -> Node:
    """A table of weights, transposed; ``width`` is its number of columns then."""
    return _node("transpose", weight, width=width)


def stack_rows(*parts: Node) -> Node:
    """Tables of weights one above the other."""
    return _node("stack_rows", *parts)


def mix(coefficients: Node, bases: Node, index: int) -> Node:
    """``sum_b coefficients[index, b] * bases[b]``: one of several tables made of a common basis ``[B, r, c]``."""
    return _node("mix", coefficients, bases, attrs=(index,), width=bases.width)


def pick(tables: Node, index: int) -> Node:
    """Table ``index`` of a stack ``[R, r, c]`` of weights."""
    return _node("pick", tables, attrs=(index,))


def aggregate(operator: str, x: Node, edge_weight: Node | None = None) -> Node:
    """The graph operator: ``A_t x`` with the adjacency called ``operator`` at this step.

    Args:
        operator: ``"gcn"``, ``"chebyshev"`` or ``"mean:R"`` (mean over in-neighbours by edges of type R).
        x: what is aggregated, per node.
        edge_weight: learned factors, one per stored edge, in place of fixed ones; nothing may then be kept.
    """
    inputs = (x,) if edge_weight is None else (x, edge_weight)
    return Node(AGGREGATE, inputs, (operator,), True, x.width)


def chebyshev(operator: str, x: Node, order: int) -> list[Node]:
    """``T_0(L) x .. T_{order-1}(L) x``, the Chebyshev basis that a ``ChebConv`` of size ``order`` is made of."""
    basis = [x]
    if order > 1:
        basis.append(aggregate(operator, x))
    while len(basis) < order:
        basis.append(scale(aggregate(operator, basis[-1]), 2.0) - basis[-2])
    return basis


def dropout(x: Node, p: float) -> Node:
    """Drop elements with probability ``p`` while training. Nothing may be moved across it, nor kept behind it."""
    return _node("dropout", x, attrs=(p,))


def batch_norm(x: Node, module: str) -> Node:
    """Batch normalisation over all nodes and steps of a group by the model's submodule ``module``."""
    return _node("batch_norm", x, attrs=(module,))


def attend(x: Node, weight: Node) -> Node:
    """``sum_t softmax(weight)_t x_t`` over the steps of a group: one row per node for the whole group."""
    return _node("attend", x, weight, per_node=True, width=x.width)


def last(x: Node) -> Node:
    """``x`` at a group's last step."""
    return _node("last", x)


def skip(x: Node, window: int) -> Node:
    """All features of a group's first step, and the last feature of each later one, side by side (MPNN-LSTM)."""
    return _node("skip", x, attrs=(window,), width=x.width + window - 1)


def top_rows(x: Node, scorer: Node, count: int) -> Node:
    """The ``count`` nodes that score highest, ``[count, F]``, each times its score (EvolveGCN-H, eq. 6).

    The score is ``tanh(x p / |p|)``.
    """
    return _node("top_rows", x, scorer, attrs=(count,), per_node=False)


@dataclass
class Program:
    """What one step of a model computes.

    A model fills it: it asks for inputs, parameters and states, and names what the states become and what comes out.

    Attributes:
        updates: state -> what it becomes at the end of the step.
        output: what the model gives: per step ``[w, N, C]``; or per group ``[N, C]`` where ``per_group``.
    """

    updates: dict[Node, Node] = field(default_factory=dict)
    output: Node | None = None
    per_group: bool = False

    def input(self, name: str, width: int) -> Node:
        """Data of the step, such as the node features ``"x"``."""
        return Node("input", (), (name,), True, width)

    def parameter(self, name: str, width: int) -> Node:
        """A parameter of the model, by its dotted name, with ``width`` columns."""
        return Node("parameter", (), (name,), False, width)

    def state(self, name: str, width: int, initial: Node | None = None) -> Node:
        """A state that steps hand on. Per node it starts at 0; as a table of weights, at ``initial``."""
        return Node("state", () if initial is None else (initial,), (name,), initial is None, width)

    def update(self, state: Node, value: Node) -> None:
        """Say what a state becomes."""
        self.updates[state] = value

    def returns(self, output: Node, per_group: bool = False) -> None:
        """Say what comes out."""
        self.output, self.per_group = output, per_group

    def roots(self) -> list[Node]:
        """All that has to be computed: the states' new values, and the output."""
        assert self.output is not None
        return [*self.updates.values(), self.output]


def topological(roots: Sequence[Node]) -> list[Node]:
    """Every node that the roots need, inputs before what uses them, in the order in which they were written down.

    A state's initial value comes before the state.
    """
    done: dict[Node, None] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            done.setdefault(node)
        elif node not in done:
            stack.append((node, True))
            stack.extend((each, False) for each in reversed(node.inputs))
    return list(done)


def reachable(roots: Iterable[Node], cut: Container[Node]) -> set[Node]:
    """What the roots need, not looking behind the nodes in ``cut``."""
    found: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            if node not in cut:
                stack.extend(node.inputs)
    return found
