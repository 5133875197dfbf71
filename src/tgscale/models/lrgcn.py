"""LRGCN (Li et al., KDD 2019; arXiv 1905.03994): an LSTM whose inputs and hidden state pass through R-GCNs."""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.nn.graph_conv import RelationalConv
from tgscale.nn.lstm import lstm_step, write_lstm
from tgscale.nn.program import Node, Program

GATES = "ifco"


class LRGCN(SnapshotModel):
    """Gates i, f, g, o = rgcn_x(X) + rgcn_h(H), then an LSTM cell.

    Weights are those of PyTorch Geometric Temporal's ``LRGCN``, by the same names.

    Args:
        in_dim: features per node.
        hidden: width of the hidden state, and of what comes out.
        relations: edge types.
        bases: tables that the relations' weights are mixed from; a table for each relation unless given.
    """

    def __init__(self, in_dim: int, hidden: int, relations: int, bases: int | None = None) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.relations, self.bases = in_dim, hidden, relations, bases
        for gate in GATES:
            setattr(self, f"conv_x_{gate}", RelationalConv(in_dim, hidden, relations, bases))
            setattr(self, f"conv_h_{gate}", RelationalConv(hidden, hidden, relations, bases))

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[w, N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        h = c = x.new_zeros(x.shape[1], self.out_dim)
        states = []
        for t in range(len(x)):
            x_parts = [getattr(self, f"conv_x_{gate}")(x[t], at(t)) for gate in GATES]
            h_parts = [getattr(self, f"conv_h_{gate}")(h, at(t)) for gate in GATES]
            h, c = lstm_step([a + b for a, b in zip(x_parts, h_parts, strict=True)], c)
            states.append(h)
        return torch.stack(states)

    def program(self) -> Program:
        """The same as operators."""
        p = Program()
        x, h, c = p.input("x", self.in_dim), p.state("h", self.out_dim), p.state("c", self.out_dim)

        def conv(name: str, of: Node) -> Node:
            return RelationalConv.write(p, name, of, self.out_dim, self.relations, self.bases)

        gates = [conv(f"conv_x_{gate}", x) + conv(f"conv_h_{gate}", h) for gate in GATES]
        p.returns(write_lstm(p, gates, h, c))
        return p
