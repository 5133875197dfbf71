"""A whole recurrence in one operator: by a kernel where the group lies on one device, step by step elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

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
    return scan_by_steps(kind, basis, at, view)


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
