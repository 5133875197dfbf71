"""The LSTM cell behind its gates' pre-activations (Hochreiter and Schmidhuber 1997, with forget gate)."""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.nn.program import Node, Program, sigmoid, tanh


def lstm_step(gates: list[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell state ``[N, C]`` from pre-activations of the gates i, f, g, o and the cell state before."""
    i, f, g, o = gates
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def write_lstm(p: Program, gates: list[Node], h: Node, c: Node) -> Node:
    """The same for a program, gates in the order i, f, g, o; gives the new hidden state."""
    i, f, g, o = gates
    new_c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    new_h = sigmoid(o) * tanh(new_c)
    p.update(h, new_h)
    p.update(c, new_c)
    return new_h
