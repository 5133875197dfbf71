"""MPNN-LSTM (Panagopoulos et al., AAAI 2021; arXiv 2009.08388): two graph convolutions, then two LSTMs over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.models.snapshot_model import AggregateAt, SnapshotModel
from tgscale.nn.graph_conv import GraphConv
from tgscale.nn.lstm import write_lstm
from tgscale.nn.program import Node, Program, batch_norm, columns, concat, dropout, last, relu, skip, transpose


class MPNNLSTM(SnapshotModel):
    """Last states of both LSTMs, beside the features of the window: one embedding per node for the whole group.

    Weights are those of PyTorch Geometric Temporal's ``MPNNLSTM``, by the same names.

    Args:
        in_dim: features per node.
        hidden: width of convolutions and LSTMs.
        window: steps of a group.
        dropout: share of elements dropped behind each convolution.
    """

    per_group = True

    def __init__(self, in_dim: int, hidden: int, window: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.in_dim, self.hidden, self.window, self.dropout = in_dim, hidden, window, dropout
        self.out_dim = 2 * hidden + in_dim + window - 1
        self._convolution_1, self._convolution_2 = GraphConv(in_dim, hidden), GraphConv(hidden, hidden)
        self._batch_norm_1, self._batch_norm_2 = nn.BatchNorm1d(hidden), nn.BatchNorm1d(hidden)
        self._recurrent_1, self._recurrent_2 = nn.LSTM(2 * hidden, hidden), nn.LSTM(hidden, hidden)

    def forward(self, x: Tensor, at: AggregateAt) -> Tensor:
        """The equations step by step, ``[w, N, F]`` -> ``[N, out_dim]``; see :meth:`SnapshotModel.forward`."""
        first = self._layer(x, at, self._convolution_1, self._batch_norm_1)
        second = self._layer(first, at, self._convolution_2, self._batch_norm_2)
        states, (h1, _) = self._recurrent_1(torch.cat([first, second], dim=2))
        _, (h2, _) = self._recurrent_2(states)
        return torch.cat([h1[0], h2[0], x[0], x[1:, :, -1].T], dim=1)

    def _layer(self, x: Tensor, at: AggregateAt, conv: GraphConv, norm: nn.BatchNorm1d) -> Tensor:
        out = torch.stack([F.relu(conv(x[t], at(t))) for t in range(len(x))])
        return F.dropout(norm(out.flatten(0, 1)).view_as(out), self.dropout, self.training)

    def program(self) -> Program:
        """The same as operators."""
        p = Program()
        x = p.input("x", self.in_dim)
        first = self._write_layer(p, x, 1)
        second = self._write_layer(p, first, 2)
        h1 = self._write_lstm(p, concat(first, second), 1)
        h2 = self._write_lstm(p, h1, 2)
        p.returns(concat(last(h1), last(h2), skip(x, self.window)), per_group=True)
        return p

    def _write_layer(self, p: Program, x: Node, number: int) -> Node:
        conv = GraphConv.write(p, f"_convolution_{number}", x, self.hidden)
        return dropout(batch_norm(relu(conv), f"_batch_norm_{number}"), self.dropout)

    def _write_lstm(self, p: Program, x: Node, number: int) -> Node:
        c, name = self.hidden, f"_recurrent_{number}"
        h, cell = p.state(f"h{number}", c), p.state(f"c{number}", c)
        of_x = x @ transpose(p.parameter(f"{name}.weight_ih_l0", x.width), 4 * c) + p.parameter(
            f"{name}.bias_ih_l0", 4 * c
        )
        of_h = h @ transpose(p.parameter(f"{name}.weight_hh_l0", c), 4 * c) + p.parameter(f"{name}.bias_hh_l0", 4 * c)
        gates = of_x + of_h
        return write_lstm(p, [columns(gates, k * c, (k + 1) * c) for k in range(4)], h, cell)
