"""Graph convolutions: each as it is computed step by step, and as it is written into a program."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tgscale.nn.program import Node, Program, aggregate, chebyshev, mix, pick, transpose

Aggregate = Callable[[str, Tensor], Tensor]
"""(operator, ``[N, F]``) -> ``[N, F]``: the product with that adjacency of one snapshot."""


class GraphConv(nn.Module):
    """``A x W + b`` with the normalised adjacency (GCN, Kipf and Welling 2017; PyG's ``GCNConv``).

    Args:
        in_dim, out_dim: widths.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_dim, out_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x: Tensor, aggregate: Aggregate) -> Tensor:
        """``[N, in]`` -> ``[N, out]``."""
        return aggregate("gcn", self.lin(x)) + self.bias

    @staticmethod
    def write(p: Program, name: str, x: Node, width: int) -> Node:
        """The same for a program; ``name`` is this module's place in the model."""
        weight = transpose(p.parameter(f"{name}.lin.weight", x.width), width)
        return aggregate("gcn", x @ weight) + p.parameter(f"{name}.bias", width)


class ChebyshevConv(nn.Module):
    """``sum_k T_k(L) x W_k + b`` (Defferrard et al. 2016; PyG's ``ChebConv``).

    Args:
        in_dim, out_dim: widths.
        order: number of terms K.
    """

    def __init__(self, in_dim: int, out_dim: int, order: int) -> None:
        super().__init__()
        lins = [nn.Linear(in_dim, out_dim, bias=False) for _ in range(order)]
        for lin in lins:
            nn.init.xavier_uniform_(lin.weight)
        self.lins = nn.ModuleList(lins)
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor, aggregate: Aggregate) -> Tensor:
        """``[N, in]`` -> ``[N, out]``."""
        basis = [x]
        out = self.lins[0](x)
        for k, lin in enumerate(self.lins[1:], start=1):
            term = aggregate("chebyshev", basis[-1])
            basis.append(term if k == 1 else 2 * term - basis[-2])
            out = out + lin(basis[-1])
        return out + self.bias

    @staticmethod
    def write(p: Program, name: str, x: Node, width: int, order: int) -> Node:
        """The same for a program; ``name`` is this module's place in the model."""
        out: Node | None = None
        for k, term in enumerate(chebyshev("chebyshev", x, order)):
            product = term @ transpose(p.parameter(f"{name}.lins.{k}.weight", x.width), width)
            out = product if out is None else out + product
        assert out is not None
        return out + p.parameter(f"{name}.bias", width)


class RelationalConv(nn.Module):
    """``sum_r mean_r(x) W_r + x W_root + b`` (R-GCN, Schlichtkrull et al. 2018; PyG's ``RGCNConv``).

    Args:
        in_dim, out_dim: widths.
        relations: number of edge types.
        bases: tables that the relations' weights are mixed from; a table of its own for each relation unless given.
    """

    def __init__(self, in_dim: int, out_dim: int, relations: int, bases: int | None = None) -> None:
        super().__init__()
        self.relations = relations
        self.weight = nn.Parameter(torch.empty(bases or relations, in_dim, out_dim))
        self.comp = nn.Parameter(torch.empty(relations, bases)) if bases else None
        self.root = nn.Parameter(torch.empty(in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        for table in (self.root, *self.weight, *([] if self.comp is None else [self.comp])):
            nn.init.xavier_uniform_(table)

    def forward(self, x: Tensor, aggregate: Aggregate) -> Tensor:
        """``[N, in]`` -> ``[N, out]``."""
        weight = self.weight if self.comp is None else torch.einsum("rb,bio->rio", self.comp, self.weight)
        out = x @ self.root + self.bias
        for r in range(self.relations):
            out = out + aggregate(f"mean:{r}", x) @ weight[r]
        return out

    @staticmethod
    def write(p: Program, name: str, x: Node, width: int, relations: int, bases: int | None) -> Node:
        """The same for a program; ``name`` is this module's place in the model."""
        table = p.parameter(f"{name}.weight", width)
        out = x @ p.parameter(f"{name}.root", width) + p.parameter(f"{name}.bias", width)
        for r in range(relations):
            weight = mix(p.parameter(f"{name}.comp", bases), table, r) if bases else pick(table, r)
            out = out + aggregate(f"mean:{r}", x) @ weight
        return out


def write_linear(p: Program, name: str, x: Node, width: int) -> Node:
    """``nn.Linear`` for a program; ``name`` is the module's place in the model."""
    weight = transpose(p.parameter(f"{name}.weight", x.width), width)
    return x @ weight + p.parameter(f"{name}.bias", width)
