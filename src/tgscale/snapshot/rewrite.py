"""Exact rewrites of a step's program: the same numbers up to rounding, from fewer and larger operators.

Each is a pass over the graph of operators. None moves anything across a nonlinearity, dropout or batch normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

from tgscale.nn.program import (
    ADD,
    AFFINE,
    AGGREGATE,
    CONCAT,
    MATMUL,
    STOCHASTIC,
    Node,
    Program,
    columns,
    concat,
    rebuild,
    rows,
    topological,
)

ZERO_OF_ZERO = (MATMUL, AGGREGATE, "columns", "scale", "tanh", "relu")
"""Operators that give 0 where their first input is 0."""

CONST, WEIGHTS, STATE = "const", "weights", "state"
"""What a node depends on: the data alone; also weights, which change each step of training; also the hidden state."""


@dataclass(frozen=True)
class Rewrites:
    """Which rewrites a plan makes; all exact.

    Attributes:
        associate: ``A (X W)`` <-> ``(A X) W``, whichever is cheaper or can be kept.
        fold: a product of products is one product with a product of weights; ``[a || b] W`` is ``a W_a + b W_b``; and
            what a state that is always 0 adds is left out.
        share: what is the same is computed once: one aggregation for all gates.
        merge: products with the same left side are one product with the weights side by side.
        hoist: what does not depend on the state is computed for all steps of a group at once, ahead of the recurrence.
        cache: what depends on the data alone is computed once for the whole run.
        fuse: a recurrence that is a GRU or an LSTM runs as one call for all steps of a group.
        distinct: nodes with equal data, and states that cannot differ, are computed once per group.
    """

    associate: bool = True
    fold: bool = True
    share: bool = True
    merge: bool = True
    hoist: bool = True
    cache: bool = True
    fuse: bool = True
    distinct: bool = True

    @classmethod
    def none(cls) -> Rewrites:
        """The program as it was written down."""
        return cls(**{field.name: False for field in fields(cls)})

    @classmethod
    def only(cls, *names: str) -> Rewrites:
        """Some of them."""
        return replace(cls.none(), **{name: True for name in names})


def dependence(nodes: Iterable[Node]) -> dict[Node, str]:
    """What each of some nodes, in topological order, depends on. Dropout changes each time, as weights do."""
    found: dict[Node, str] = {}
    for node in nodes:
        own = {"input": CONST, "parameter": WEIGHTS, "state": STATE, "scan": STATE}.get(node.op, CONST)
        own = WEIGHTS if node.op in (*STOCHASTIC, "batch_norm") else own
        found[node] = max((own, *(found[each] for each in node.inputs)), key=(CONST, WEIGHTS, STATE).index)
    return found


def transform(program: Program, rule: Callable[[Node], Node]) -> Program:
    """A program whose every node is what ``rule`` makes of it, inputs first."""
    new: dict[Node, Node] = {}
    for node in topological(program.roots()):
        new[node] = rule(rebuild(node, [new[each] for each in node.inputs]))
    return renamed(program, new)


def renamed(program: Program, new: dict[Node, Node]) -> Program:
    """A program whose nodes have become others."""
    assert program.output is not None
    updates = {new.get(state, state): new[value] for state, value in program.updates.items()}
    return Program(updates, new[program.output], program.per_group)


def associate(program: Program) -> Program:
    """``A (X W)`` becomes ``(A X) W`` where X is data (then ``A X`` can be kept) or no wider; else the reverse.

    ``(A X) W`` becomes ``A (X W)`` where W narrows X, X is no data and nothing else uses ``A X``.
    """
    depends = dependence(topological(program.roots()))
    users = Counter(each for node in topological(program.roots()) for each in node.inputs)

    def aggregate_first(node: Node) -> bool:
        (product,) = node.inputs
        return depends[product.inputs[0]] == CONST or product.inputs[0].width <= product.width

    def update_first(node: Node) -> bool:
        around = node.inputs[0]
        source = around.inputs[0]
        return depends[source] != CONST and node.width < source.width and users[around] == 1

    new: dict[Node, Node] = {}
    for node in topological(program.roots()):
        inputs = [new[each] for each in node.inputs]
        plain_aggregate = node.op == AGGREGATE and len(node.inputs) == 1
        if plain_aggregate and node.inputs[0].op == MATMUL and inputs[0].op == MATMUL and aggregate_first(node):
            x, weight = inputs[0].inputs
            new[node] = rebuild_as(node, x) @ weight
        elif node.op == MATMUL and _is_plain_aggregate(node.inputs[0]) and node.per_node and update_first(node):
            inner = inputs[0]
            assert inner.op == AGGREGATE
            new[node] = rebuild_as(inner, inner.inputs[0] @ inputs[1])
        else:
            new[node] = rebuild(node, inputs)
    return renamed(program, new)


def _is_plain_aggregate(node: Node) -> bool:
    return node.op == AGGREGATE and len(node.inputs) == 1


def rebuild_as(node: Node, x: Node) -> Node:
    """The same graph operator on something of another width."""
    return Node(node.op, (x,), node.attrs, True, x.width)


def fold(program: Program) -> Program:
    """Pull products of per-node values with weights apart and together, so that each gate is a sum of products."""
    return transform(program, lambda node: product(*node.inputs) if node.op == MATMUL and node.per_node else node)


def product(x: Node, weight: Node) -> Node:
    """``x @ weight``, in as few products with per-node values as there are different ones in ``x``."""
    if x.op == CONCAT and all(part.per_node for part in x.inputs):
        total, at = None, 0
        for part in x.inputs:
            term = product(part, rows(weight, at, at + part.width))
            total, at = term if total is None else total + term, at + part.width
        assert total is not None
        return total
    if x.op == ADD and x.inputs[0].per_node and not x.inputs[1].per_node:  # x + bias
        return product(x.inputs[0], weight) + x.inputs[1] @ weight
    if x.op == MATMUL:
        return x.inputs[0] @ (x.inputs[1] @ weight)
    return x @ weight


def drop_zeros(program: Program) -> Program:
    """Leave out what a state that nothing updates adds: it is 0 at each step, as are products with it."""
    zero: set[Node] = set()  # of the new program

    def rule(node: Node) -> Node:
        of_zero = [each in zero for each in node.inputs]
        if node.op == ADD and any(of_zero):
            other = node.inputs[0 if of_zero[1] else 1]
            if other.per_node:
                return other
        lost = node.op == "multiply" and any(of_zero)
        kept_zero = node.op in ZERO_OF_ZERO and node.per_node and of_zero[0]
        if lost or kept_zero or (node.op == "state" and node not in program.updates and not node.inputs):
            zero.add(node)
        return node

    return transform(program, rule)


def share(program: Program) -> Program:
    """One node for all that compute the same; random ones stay apart."""
    known: dict[tuple[object, ...], Node] = {}

    def rule(node: Node) -> Node:
        if node.op in STOCHASTIC:
            return node
        return known.setdefault((node.op, node.inputs, node.attrs, node.width), node)

    return transform(program, rule)


def merge(program: Program) -> Program:
    """Products with the same left side become one product with the weights side by side."""
    groups: dict[Node, list[Node]] = {}
    for node in topological(program.roots()):
        if node.op == MATMUL and node.per_node and not node.inputs[1].per_node:
            groups.setdefault(node.inputs[0], []).append(node)
    # Weights that evolve from step to step stay by themselves: they are not there for all steps at once.
    depends = dependence(topological(program.roots()))
    part_of: dict[Node, tuple[Node, int]] = {}
    for products in groups.values():
        members = [node for node in products if depends[node.inputs[1]] != STATE]
        if len(members) > 1:
            at = 0
            for node in members:
                part_of[node] = (members[0], at)
                at += node.width
    merged: dict[Node, Node] = {}
    new: dict[Node, Node] = {}
    members_of: dict[Node, list[Node]] = {}
    for node, (first, _) in part_of.items():
        members_of.setdefault(first, []).append(node)
    # Weights depend on nothing per node, so they can be rewritten before the products that use them.
    for node in topological(program.roots()):
        if node not in part_of:
            new[node] = rebuild(node, [new[each] for each in node.inputs])
            continue
        first, at = part_of[node]
        if first not in merged:
            weights = [_rewritten(each.inputs[1], new) for each in members_of[first]]
            merged[first] = new[first.inputs[0]] @ concat(*weights)
        new[node] = columns(merged[first], at, at + node.width)
    return renamed(program, new)


def gather_biases(program: Program) -> Program:
    """``(x + a) + b`` becomes ``x + (a + b)`` where a and b are biases."""

    def rule(node: Node) -> Node:
        if node.op != ADD or node.inputs[1].per_node or node.inputs[0].op != ADD:
            return node
        x, bias = node.inputs[0].inputs
        return x + (bias + node.inputs[1]) if x.per_node and not bias.per_node else node

    return transform(program, rule)


def add_biases(program: Program) -> Program:
    """A product to which a bias is added becomes one operator, which passes over its result once.

    So does one whose columns each have a bias of their own added, as :func:`merge` leaves them.
    """
    users: dict[Node, list[Node]] = {}
    for node in topological(program.roots()):
        for each in node.inputs:
            users.setdefault(each, []).append(node)
    roots = set(program.roots())
    new: dict[Node, Node] = {}
    affine: dict[Node, Node] = {}
    for node in topological(program.roots()):
        new[node] = rebuild(node, [new[each] for each in node.inputs])
        if node.op != ADD or node.inputs[1].per_node:
            continue
        part = node.inputs[0]
        source = part.inputs[0] if part.op == "columns" else part
        if source.op != MATMUL or not source.per_node or source.inputs[1].per_node:
            continue
        biased = _biased(source, users, roots)
        if not biased:
            continue
        if source not in affine:
            biases = [_rewritten(each.inputs[1], new) for each in biased]
            bias = biases[0] if len(biases) == 1 else concat(*biases)
            affine[source] = Node(AFFINE, (*new[source].inputs, bias), (), True, source.width)
        new[node] = affine[source] if part is source else columns(affine[source], *part.attrs)
    return renamed(program, new)


def _biased(source: Node, users: dict[Node, list[Node]], roots: set[Node]) -> list[Node]:
    """The sums with a bias that are all that uses a product, or each of its columns, in their order; else nothing."""
    parts = users[source]
    if all(part.op == "columns" for part in parts):
        parts = sorted(parts, key=lambda part: part.attrs)
        edges = [0, *(part.attrs[1] for part in parts)]
        if [part.attrs[0] for part in parts] != edges[:-1] or edges[-1] != source.width:
            return []
    else:
        parts = [source]
    sums = []
    for part in parts:
        after = users.get(part, [])
        if len(after) != 1 or part in roots or after[0].op != ADD or after[0].inputs[1].per_node:
            return []
        sums += after
    return [] if source in roots else sums


def _rewritten(node: Node, new: dict[Node, Node]) -> Node:
    for each in topological([node]):
        if each not in new:
            new[each] = rebuild(each, [new[other] for other in each.inputs])
    return new[node]
