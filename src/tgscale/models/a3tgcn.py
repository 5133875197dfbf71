"""A3T-GCN (Bai et al. 2021; arXiv 2006.11583): T-GCN over a window, and attention over its hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.models.tgcn import TGCN, write_tgcn
from tgscale.nn.program import Program, attend


class A3TGCN(SnapshotModel):
    """``sum_t softmax(a)_t H_t`` of the hidden states of a T-GCN: one embedding per node for the whole group.

    PyTorch Geometric Temporal's layer never hands the hidden state on from one period to the next, and calls the graph
    convolution with H = 0 each time. ``compat`` does the same, to compare with it; otherwise the recurrence is real.

    Args:
        in_dim: features per node.
        hidden: width of the hidden state, and of what comes out.
        window: steps of a group.
        compat: as in PyTorch Geometric Temporal.
    """

    per_group = True

    def __init__(self, in_dim: int, hidden: int, window: int, compat: bool = False) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.compat = in_dim, hidden, compat
        self.tgcn = TGCN(in_dim, hidden)
        self.attention = nn.Parameter(torch.rand(window))

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        start = h = x.new_zeros(x.shape[1], self.out_dim)
        out = torch.zeros_like(start)
        for t, share in enumerate(torch.softmax(self.attention, dim=0)):
            h = self.tgcn.step(x[t], start if self.compat else h, at(t))
            out = out + share * h
        return out

    def program(self) -> Program:
        """The same as operators."""
        p = Program()
        h, new = write_tgcn(p, "tgcn.", self.in_dim, self.out_dim)
        if not self.compat:  # a state that nothing updates stays 0
            p.update(h, new)
        p.returns(attend(new, p.parameter("attention", 1)), per_group=True)
        return p
