"""Recurrences that are a GRU or an LSTM, found in a program and put into one operator over all steps of a group.

What is looked for is the form, not a model's name: ``z * h + (1 - z) * n`` or ``o * tanh(f * c + i * g)``, with gates
whose pre-activations are sums of products. What does not depend on the state goes into the operator as one input for
all gates and steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from tgscale.nn.program import (
    ADD,
    AGGREGATE,
    MATMUL,
    Node,
    Program,
    columns,
    concat,
    reachable,
    rebuild,
    stack_rows,
    topological,
)
from tgscale.snapshot.rewrite import renamed

SELF = ""
"""The basis function that is the state itself."""


@dataclass(frozen=True)
class _Gate:
    """A pre-activation: products of basis functions of the state, and the rest."""

    on_state: dict[str, Node]
    rest: list[Node]


def fuse(program: Program) -> Program:
    """Replace each recurrence that is a GRU or an LSTM by an operator ``scan``; leave the others.

    A ``scan`` has attributes (kind, basis names) and inputs: the gates' part without the state, ``[w, N, G C]``, and
    the products' weights, ``[B C, G C]`` (for a GRU ``[B C, 2 C]`` and ``[B C, C]``).
    """
    for state in list(program.updates):
        found = _gru(program, state) or _lstm(program, state)
        if found:
            program = _replace(program, state, found)
            return fuse(program)
    return program


def _gru(program: Program, h: Node) -> Node | None:
    """The scan for h' = z * h + (1 - z) * n, z, r = sigmoid(.), n = tanh(. on r * h)."""
    parts = _match_mix(program.updates[h], h)
    if parts is None:
        return None
    z, n = parts
    if z.op != "sigmoid" or n.op != "tanh":
        return None
    reset_states = {each for each in topological([n]) if each.op == "multiply" and h in each.inputs}
    if len(reset_states) != 1:
        return None
    (reset_state,) = reset_states
    r = next((each for each in reset_state.inputs if each is not h), h)
    if r.op != "sigmoid":
        return None
    gates = _all([_decompose(z.inputs[0], h), _decompose(r.inputs[0], h), _decompose(n.inputs[0], reset_state)])
    if gates is None or not _usable(program, {h}, gates, {program.updates[h]}):
        return None
    basis = tuple(gates[0].on_state)
    weights = [
        stack_rows(*(_side_by_side([gate.on_state[b] for gate in some]) for b in basis))
        for some in (gates[:2], gates[2:])
    ]
    return Node("scan", (_together([gate.rest for gate in gates]), *weights), ("gru", basis), True, h.width)


def _lstm(program: Program, h: Node) -> Node | None:
    """The scan for h' = sigmoid(o) * tanh(c'), c' = sigmoid(f) * c + sigmoid(i) * tanh(g)."""
    new_h = program.updates[h]
    if new_h.op != "multiply":
        return None
    for o, squashed in (new_h.inputs, new_h.inputs[::-1]):
        if o.op == "sigmoid" and squashed.op == "tanh":
            break
    else:
        return None
    new_c = squashed.inputs[0]
    c = next((state for state, value in program.updates.items() if value is new_c), None)
    kept = _match_cell(new_c, c) if c else None
    if c is None or kept is None:
        return None
    i, f, g = kept
    gates = _all([_decompose(each.inputs[0], h) for each in (i, f, g, o)])
    if gates is None or not _usable(program, {h, c}, gates, {new_h, new_c}):
        return None
    basis = tuple(gates[0].on_state)
    weight = stack_rows(*(_side_by_side([gate.on_state[b] for gate in gates]) for b in basis))
    return Node("scan", (_together([gate.rest for gate in gates]), weight), ("lstm", basis), True, h.width)


def _match_mix(value: Node, h: Node) -> tuple[Node, Node] | None:
    """(z, n) of ``z * h + (1 - z) * n``."""
    if value.op != ADD or any(term.op != "multiply" for term in value.inputs):
        return None
    for kept, fresh in (value.inputs, value.inputs[::-1]):
        if h not in kept.inputs:
            continue
        z = kept.inputs[1] if kept.inputs[0] is h else kept.inputs[0]
        for a, n in (fresh.inputs, fresh.inputs[::-1]):
            if a.op == "complement" and a.inputs[0] is z:
                return z, n
    return None


def _match_cell(value: Node, c: Node) -> tuple[Node, Node, Node] | None:
    """(i, f, g) of ``f * c + i * g``."""
    if value.op != ADD or any(term.op != "multiply" for term in value.inputs):
        return None
    for kept, fresh in (value.inputs, value.inputs[::-1]):
        if c not in kept.inputs:
            continue
        f = kept.inputs[1] if kept.inputs[0] is c else kept.inputs[0]
        for i, g in (fresh.inputs, fresh.inputs[::-1]):
            if (i.op, f.op, g.op) == ("sigmoid", "sigmoid", "tanh"):
                return i, f, g
    return None


def _decompose(value: Node, h: Node) -> _Gate | None:
    """A sum, taken apart into products of basis functions of ``h`` and the rest."""
    on_state: dict[str, Node] = {}
    rest: list[Node] = []
    for term in _terms(value):
        name = _basis_name(term.inputs[0], h) if term.op == MATMUL and term.per_node else None
        if name is None:
            rest.append(term)
        elif name in on_state:
            return None
        else:
            on_state[name] = term.inputs[1]
    return _Gate(on_state, rest)


def _terms(value: Node) -> list[Node]:
    if value.op == ADD:
        return [term for part in value.inputs for term in _terms(part)]
    if value.op == "columns" and value.inputs[0].op in (ADD, MATMUL):
        return [term for part in _terms(value.inputs[0]) for term in _terms_of_columns(part, *value.attrs)]
    return [value]


def _terms_of_columns(term: Node, start: int, stop: int) -> list[Node]:
    if term.op == MATMUL:
        return [term.inputs[0] @ columns(term.inputs[1], start, stop)]
    return [columns(term, start, stop)]


def _basis_name(node: Node, h: Node) -> str | None:
    """What function of the state a node is: itself, an aggregation ``op``, or a Chebyshev term ``op^k``."""
    if node is h:
        return SELF
    if node.op == AGGREGATE and len(node.inputs) == 1 and node.inputs[0] is h:
        return str(node.attrs[0])
    if node.op == "subtract" and node.inputs[0].op == "scale" and node.inputs[0].attrs == (2.0,):
        around, before = node.inputs[0].inputs[0], _basis_name(node.inputs[1], h)
        inner = _basis_name(around.inputs[0], h) if around.op == AGGREGATE and len(around.inputs) == 1 else None
        if inner is not None and before is not None and _power(inner) == _power(before) + 1:
            return f"{around.attrs[0]}^{_power(inner) + 1}"
    return None


def _power(name: str) -> int:
    return 0 if name == SELF else int(name.partition("^")[2] or 1)


def _all(gates: list[_Gate | None]) -> list[_Gate] | None:
    """The gates, if all were understood and have the same basis."""
    found = [gate for gate in gates if gate is not None]
    same = len(found) == len(gates) and all(set(gate.on_state) == set(found[0].on_state) for gate in found)
    return found if same and found[0].on_state else None


def _usable(program: Program, states: set[Node], gates: list[_Gate], new: set[Node]) -> bool:
    """Whether nothing but the products knows a state, and nothing but the recurrence looks at its own."""
    terms = [term for gate in gates for term in gate.rest]
    weights = [weight for gate in gates for weight in gate.on_state.values()]
    if any(each in program.updates for each in topological(terms)):
        return False
    if any(node.op in ("state", "scan") for node in topological(weights)):
        return False
    # Outside of the recurrence, only what comes out of it may be used.
    outside = [value for state, value in program.updates.items() if state not in states]
    assert program.output is not None
    return not any(each in states for each in reachable([*outside, program.output], new))


def _together(rests: list[list[Node]]) -> Node:
    """All gates' parts without the state, side by side, with one product for each left side that all gates have."""
    lefts = [{term.inputs[0]: term.inputs[1] for term in rest if _is_product(term)} for rest in rests]
    if all(list(left) == list(lefts[0]) for left in lefts) and all(
        len(left) == sum(map(_is_product, rest)) for left, rest in zip(lefts, rests, strict=True)
    ):
        others = [[term for term in rest if not _is_product(term)] for rest in rests]
        if all(others) and all(not term.per_node for other in others for term in other):
            weights = [_side_by_side([left[x] for left in lefts]) for x in lefts[0]]
            if len(weights) == 1:
                product = next(iter(lefts[0])) @ weights[0]
            else:  # what is multiplied stands side by side as well: one product in place of several and their sum
                product = concat(*lefts[0]) @ stack_rows(*weights)
            return product + concat(*map(_sum, others))
    return concat(*map(_sum, rests))


def _is_product(term: Node) -> bool:
    return term.op == MATMUL and term.per_node


def _sum(terms: list[Node]) -> Node:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _side_by_side(weights: list[Node]) -> Node:
    """Weights side by side; those that were cut from one table that way are that table."""
    first = weights[0]
    if first.op == "columns":
        whole = first.inputs[0]
        cuts = [(w.op, w.inputs, w.attrs[:1]) for w in weights]
        edges = [sum(w.width for w in weights[:k]) for k in range(len(weights) + 1)]
        if cuts == [("columns", (whole,), (at,)) for at in edges[:-1]] and edges[-1] == whole.width:
            return whole
    return concat(*weights)


def _replace(program: Program, h: Node, scan: Node) -> Program:
    """The program with the scan in place of the new hidden state, and without its states."""
    value = program.updates[h]
    gone = {h}
    if scan.attrs[0] == "lstm":
        gone |= {state for state, new in program.updates.items() if new in topological([value]) and state is not h}
        gone = {state for state in gone if state is h or _is_cell_of(program, state, value)}
    assert program.output is not None
    program = Program(
        {state: new for state, new in program.updates.items() if state not in gone}, program.output, program.per_group
    )
    new: dict[Node, Node] = {}
    for node in topological([*program.roots(), *scan.inputs]):
        new[node] = scan if node is value else rebuild(node, [new[each] for each in node.inputs])
    return renamed(program, new)


def _is_cell_of(program: Program, state: Node, new_h: Node) -> bool:
    """Whether ``state`` is the cell state of the LSTM that gives ``new_h``."""
    return any(each.op == "tanh" and each.inputs[0] is program.updates[state] for each in new_h.inputs)
