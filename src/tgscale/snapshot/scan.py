"""A whole recurrence in one operator: by a kernel where the group lies on one device, step by step elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.graph.adjacency import Adjacency
from tgscale.nn.graph_recurrence import gru_graph_scan, lstm_graph_scan
from tgscale.nn.program import Node
from tgscale.nn.recurrence import gru_scan, lstm_scan
from tgscale.snapshot.fuse import SELF
from tgscale.snapshot.operators import GroupView


def run_scan(node: Node, at: list[Tensor], view: GroupView) -> Tensor:
    """Hidden states of all steps, ``[w, N, C]``.

    Args:
        node: a ``scan``; see :func:`tgscale.snapshot.fuse.fuse` for its attributes.
        at: its inputs.
        view: the group.
    """
    kind, basis = node.attrs
    if basis == (SELF,):
        return gru_scan(*at) if kind == "gru" else lstm_scan(*at)[0]
    bases = _matrices(basis, view)
    if bases is None:
        return scan_by_steps(kind, basis, at, view)
    gates, weights = at[0], [weight.unflatten(0, (len(basis), -1)) for weight in at[1:]]
    chebyshev, graphs = any("^" in name for name in basis), view.graphs().cpu()
    if kind == "gru":
        return gru_graph_scan(gates, bases, graphs, weights[0], weights[1], chebyshev=chebyshev)
    return lstm_graph_scan(gates, bases, graphs, weights[0], chebyshev=chebyshev)[0]


def _matrices(basis: tuple[str, ...], view: GroupView) -> list[Adjacency | None] | None:
    """The matrix behind each basis function, None for the state itself; nothing where they do not lie here."""
    operators = [name.partition("^")[0] for name in basis]
    if "^" in "".join(basis) and [(name, k) for k, name in enumerate(basis)] != [
        (_chebyshev_name(operators[-1], k), k) for k in range(len(basis))
    ]:
        return None  # Chebyshev terms beside others, or not in order: no kernel for those
    found = {name: view.adjacency(name) for name in set(operators) if name}
    if any(matrix is None for matrix in found.values()):
        return None
    return [found.get(name) for name in operators]


def _chebyshev_name(operator: str, k: int) -> str:
    return SELF if k == 0 else operator if k == 1 else f"{operator}^{k}"


def scan_by_steps(kind: str, basis: tuple[str, ...], at: list[Tensor], view: GroupView) -> Tensor:
    """The same in plain operators: the reference, and what runs where aggregation has to ask other processes."""
    gates, width = at[0], at[1].shape[0] // len(basis)
    h = c = gates.new_zeros(gates.shape[1], width)
    states = []
    for t, gate in enumerate(gates.unbind(0)):
        if kind == "gru":
            zr = torch.sigmoid(gate[:, : 2 * width] + _functions(basis, h, t, view) @ at[1])
            z, r = zr.chunk(2, dim=1)
            n = torch.tanh(gate[:, 2 * width :] + _functions(basis, r * h, t, view) @ at[2])
            h = z * h + (1 - z) * n
        else:
            i, f, g, o = (gate + _functions(basis, h, t, view) @ at[1]).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return torch.stack(states)


def _functions(basis: tuple[str, ...], x: Tensor, t: int, view: GroupView) -> Tensor:
    """Basis functions of the state side by side: itself, aggregations, Chebyshev terms ``op^k``."""
    found: dict[str, Tensor] = {"": x}
    for name in basis:
        operator, _, power = name.partition("^")
        if name and not power:
            found[name] = view.aggregate_at(operator, t, x)
        elif power:
            before = operator if power == "2" else f"{operator}^{int(power) - 1}"
            first = "" if power == "2" else operator if power == "3" else f"{operator}^{int(power) - 2}"
            found[name] = 2 * view.aggregate_at(operator, t, found[before]) - found[first]
    return torch.cat([found[name] for name in basis], dim=1) if len(basis) > 1 else found[basis[0]]
