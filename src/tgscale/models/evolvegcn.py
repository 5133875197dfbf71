"""EvolveGCN (Pareja et al., AAAI 2020; arXiv 1902.10191): a GCN whose weights are the state of a GRU.

The weights begin at ``initial_weight`` in each group, as in the authors' code. PyTorch Geometric Temporal's layers hand
them on from group to group and from epoch to epoch, unless they are told to begin anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.nn.program import Node, Program, aggregate, columns, complement, pick, sigmoid, tanh, top_rows, transpose


class EvolveGCN(SnapshotModel):
    """``H_t = A_t X_t W_t`` with ``W_t = GRU(I_t, W_{t-1})``: I_t is W_{t-1} (O), or the top nodes' features (H).

    Weights are those of PyTorch Geometric Temporal's ``EvolveGCNO`` and ``EvolveGCNH``, whose weights are square.

    Args:
        in_dim: features per node.
        hidden: width of what comes out.
        variant: ``"O"`` or ``"H"``.
    """

    def __init__(self, in_dim: int, hidden: int, variant: str) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.variant = in_dim, hidden, variant
        self.initial_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, in_dim, hidden)[0])[None])
        self.recurrent_layer = nn.GRU(hidden if variant == "O" else in_dim, hidden)
        if variant == "H":
            self.scorer = nn.Parameter(nn.init.uniform_(torch.empty(in_dim), -(in_dim**-0.5), in_dim**-0.5))

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[w, N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        weight, outs = self.initial_weight, []
        for t in range(len(x)):
            seen = weight if self.variant == "O" else self._summary(x[t])[None]
            weight = self.recurrent_layer(seen, weight)[1]
            outs.append(at(t)("gcn", x[t] @ weight[0]))
        return torch.stack(outs)

    def _summary(self, x: Tensor) -> Tensor:
        """As many nodes as the weights have rows, those that score highest, each times its score."""
        score = torch.tanh(x @ self.scorer / self.scorer.norm())
        best, index = score.topk(self.in_dim)
        return x[index] * best[:, None]

    def program(self) -> Program:
        """The same as operators."""
        p, hidden = Program(), self.out_dim
        x = p.input("x", self.in_dim)
        weight = p.state("weight", hidden, initial=pick(p.parameter("initial_weight", hidden), 0))
        seen = weight if self.variant == "O" else top_rows(x, p.parameter("scorer", 1), self.in_dim)
        new = self._write_gru(p, seen, weight)
        p.update(weight, new)
        p.returns(aggregate("gcn", x @ new))
        return p

    def _write_gru(self, p: Program, x: Node, h: Node) -> Node:
        """torch's GRU cell: its reset gate acts after the product with h."""
        c = self.out_dim
        name = "recurrent_layer"
        of_x = x @ transpose(p.parameter(f"{name}.weight_ih_l0", x.width), 3 * c) + p.parameter(
            f"{name}.bias_ih_l0", 3 * c
        )
        of_h = h @ transpose(p.parameter(f"{name}.weight_hh_l0", c), 3 * c) + p.parameter(f"{name}.bias_hh_l0", 3 * c)
        r = sigmoid(columns(of_x, 0, c) + columns(of_h, 0, c))
        z = sigmoid(columns(of_x, c, 2 * c) + columns(of_h, c, 2 * c))
        n = tanh(columns(of_x, 2 * c, 3 * c) + r * columns(of_h, 2 * c, 3 * c))
        return complement(z) * n + z * h
