"""Static node memory: a time-independent vector per node, added to the dynamic one (DistTGL section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StaticMemory(nn.Module):
    """Base and the ``"none"`` choice: adds nothing."""

    def forward(self, nodes: Tensor) -> Tensor | None:
        """Vector of each node, ``[U]`` -> ``[U, dim]``, or None for nothing to add."""
        return None


class StaticTable(StaticMemory):
    """A table of vectors, with dropout of whole rows and a linear map when the widths differ.

    A row is dropped as a whole, so that the model cannot lean on who a node is: without it, the table learns training
    pairs by heart. The rows that stay are not scaled up: a dropped row stands for a node that training has not seen,
    and such nodes have zeros. A learned gate (one number, starting at ``gate``) scales what is added.

    Args:
        table: ``[N, width]``.
        dim: width to return.
        trained: let gradients change the table (``"cotrained"``), else it is frozen (``"pretrained"``, ``"features"``).
        dropout: share of rows dropped while training.
        project: map through a linear layer (always when the widths differ).
        gate: start value of a learned scalar gate; None for none.
    """

    def __init__(
        self,
        table: Tensor,
        dim: int,
        trained: bool = False,
        dropout: float = 0.0,
        project: bool = False,
        gate: float | None = None,
    ) -> None:
        super().__init__()
        self.dropout, self.trained = dropout, trained
        self.table = nn.Parameter(table, requires_grad=trained)
        self.project = nn.Linear(table.shape[1], dim) if project or table.shape[1] != dim else None
        self.gate = None if gate is None else nn.Parameter(torch.tensor(float(gate)))

    def forward(self, nodes: Tensor) -> Tensor:
        """Vector of each node, int64 ``[U]`` -> ``[U, dim]``."""
        x = F.embedding(nodes, self.table, sparse=self.trained)
        if self.project is not None:
            x = self.project(x)
        if self.gate is not None:
            x = x * self.gate
        if self.training and self.dropout:
            x = x * torch.empty_like(x[:, :1]).bernoulli_(1 - self.dropout)
        return x
