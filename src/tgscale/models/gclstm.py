"""GC-LSTM (Chen et al., Applied Intelligence 2022; arXiv 1812.04206): an LSTM that convolves its hidden state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.nn.graph_conv import ChebyshevConv
from tgscale.nn.lstm import lstm_step, write_lstm
from tgscale.nn.program import Node, Program

GATES = "ifco"


class GCLSTM(SnapshotModel):
    """Gates i, f, g, o = X W + cheb(H) + b, then an LSTM cell.

    Weights are those of PyTorch Geometric Temporal's ``GCLSTM``, by the same names.

    Args:
        in_dim: features per node.
        hidden: width of the hidden state, and of what comes out.
        order: Chebyshev terms.
    """

    def __init__(self, in_dim: int, hidden: int, order: int = 2) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.order = in_dim, hidden, order
        for gate in GATES:
            setattr(self, f"conv_{gate}", ChebyshevConv(hidden, hidden, order))
            setattr(self, f"W_{gate}", nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_dim, hidden))))
            setattr(self, f"b_{gate}", nn.Parameter(torch.zeros(1, hidden)))

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[w, N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        h = c = x.new_zeros(x.shape[1], self.out_dim)
        states = []
        for t in range(len(x)):
            gates = [
                x[t] @ getattr(self, f"W_{gate}") + getattr(self, f"conv_{gate}")(h, at(t)) + getattr(self, f"b_{gate}")
                for gate in GATES
            ]
            h, c = lstm_step(gates, c)
            states.append(h)
        return torch.stack(states)

    def program(self) -> Program:
        """The same as operators."""
        p = Program()
        x, h, c = p.input("x", self.in_dim), p.state("h", self.out_dim), p.state("c", self.out_dim)

        def gate(name: str) -> Node:
            conv = ChebyshevConv.write(p, f"conv_{name}", h, self.out_dim, self.order)
            return x @ p.parameter(f"W_{name}", self.out_dim) + conv + p.parameter(f"b_{name}", self.out_dim)

        p.returns(write_lstm(p, [gate(name) for name in GATES], h, c))
        return p
