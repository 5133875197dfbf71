"""T-GCN (Zhao et al., IEEE T-ITS 2020; arXiv 1811.05320): a GRU whose input passes through a graph convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.nn.graph_conv import Aggregate, GraphConv, write_linear
from tgscale.nn.program import Node, Program, complement, concat, sigmoid, tanh


class TGCN(SnapshotModel):
    """z, r = sigmoid([gc(X) || H] W + b); n = tanh([gc(X) || r * H] W + b); H' = z * H + (1 - z) * n.

    Weights are those of PyTorch Geometric Temporal's ``TGCN``, by the same names.

    Args:
        in_dim: features per node.
        hidden: width of the hidden state, and of what comes out.
    """

    def __init__(self, in_dim: int, hidden: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, hidden
        self.conv_z, self.conv_r, self.conv_h = (GraphConv(in_dim, hidden) for _ in range(3))
        self.linear_z, self.linear_r, self.linear_h = (nn.Linear(2 * hidden, hidden) for _ in range(3))

    def step(self, x: Tensor, h: Tensor, aggregate: Aggregate) -> Tensor:
        """Hidden state ``[N, C]`` after a snapshot with features ``[N, F]``."""
        z = torch.sigmoid(self.linear_z(torch.cat([self.conv_z(x, aggregate), h], dim=1)))
        r = torch.sigmoid(self.linear_r(torch.cat([self.conv_r(x, aggregate), h], dim=1)))
        n = torch.tanh(self.linear_h(torch.cat([self.conv_h(x, aggregate), r * h], dim=1)))
        return z * h + (1 - z) * n

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[w, N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        h = x.new_zeros(x.shape[1], self.out_dim)
        states = []
        for t in range(len(x)):
            h = self.step(x[t], h, at(t))
            states.append(h)
        return torch.stack(states)

    def program(self) -> Program:
        """The same as operators."""
        p = Program()
        h, new = write_tgcn(p, "", self.in_dim, self.out_dim)
        p.update(h, new)
        p.returns(new)
        return p


def write_tgcn(p: Program, prefix: str, in_dim: int, hidden: int) -> tuple[Node, Node]:
    """A T-GCN step for a program; the state before it and after it. ``prefix`` is the module's place in the model."""
    x, h = p.input("x", in_dim), p.state("h", hidden)

    def gate(name: str, state: Node) -> Node:
        conv = GraphConv.write(p, f"{prefix}conv_{name}", x, hidden)
        return write_linear(p, f"{prefix}linear_{name}", concat(conv, state), hidden)

    z = sigmoid(gate("z", h))
    r = sigmoid(gate("r", h))
    n = tanh(gate("h", r * h))
    return h, z * h + complement(z) * n
