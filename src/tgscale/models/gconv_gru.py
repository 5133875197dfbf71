"""GConvGRU (Seo et al., ICONIP 2018; arXiv 1612.07659): a GRU with Chebyshev convolutions for its products."""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.nn.graph_conv import ChebyshevConv
from tgscale.nn.program import Node, Program, complement, sigmoid, tanh

GATES = "zrh"


class GConvGRU(SnapshotModel):
    """z, r = sigmoid(cheb(X) + cheb(H)); n = tanh(cheb(X) + cheb(r * H)); H' = z * H + (1 - z) * n.

    Weights are those of PyTorch Geometric Temporal's ``GConvGRU``, by the same names.

    Args:
        in_dim: features per node.
        hidden: width of the hidden state, and of what comes out.
        order: Chebyshev terms.
    """

    def __init__(self, in_dim: int, hidden: int, order: int = 2) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.order = in_dim, hidden, order
        for gate in GATES:
            setattr(self, f"conv_x_{gate}", ChebyshevConv(in_dim, hidden, order))
            setattr(self, f"conv_h_{gate}", ChebyshevConv(hidden, hidden, order))

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[w, N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        h = x.new_zeros(x.shape[1], self.out_dim)
        states = []
        for t in range(len(x)):

            def gate(name: str, state: Tensor, t: int = t) -> Tensor:
                return getattr(self, f"conv_x_{name}")(x[t], at(t)) + getattr(self, f"conv_h_{name}")(state, at(t))

            z, r = torch.sigmoid(gate("z", h)), torch.sigmoid(gate("r", h))
            h = z * h + (1 - z) * torch.tanh(gate("h", r * h))
            states.append(h)
        return torch.stack(states)

    def program(self) -> Program:
        """The same as operators."""
        p = Program()
        x, h = p.input("x", self.in_dim), p.state("h", self.out_dim)

        def gate(name: str, state: Node) -> Node:
            of_x = ChebyshevConv.write(p, f"conv_x_{name}", x, self.out_dim, self.order)
            return of_x + ChebyshevConv.write(p, f"conv_h_{name}", state, self.out_dim, self.order)

        z, r = sigmoid(gate("z", h)), sigmoid(gate("r", h))
        new = z * h + complement(z) * tanh(gate("h", r * h))
        p.update(h, new)
        p.returns(new)
        return p
