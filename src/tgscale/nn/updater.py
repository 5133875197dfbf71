"""Memory updater: absorb each node's mail into its memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.nn.absorb import absorb, can_absorb
from tgscale.nn.dispatch import on_cpu_kernels
from tgscale.nn.gru import gru_cell
from tgscale.nn.time_encoding import TimeEncoding


class MemoryUpdater(nn.Module):
    r"""Absorb mail (TGN eq. 1-3 with the identity message and the most recent mail).

    .. math:: s' = \mathrm{cell}([m \| e \| \phi(t_m - t_s)], s)

    where mail :math:`m = [s_{own} \| s_{other}]` was left by the event with features :math:`e` at :math:`t_m`, and
    :math:`t_s` is when the memory was last updated. Nodes that have no mail keep their memory (the paper; DistTGL's
    code runs the cell on every row).

    Args:
        dim: width of the memory; mail has ``2 * dim``.
        edge_dim: width of the edge features.
        time: the time encoding.
        cell: ``"gru"`` or ``"rnn"``.
    """

    def __init__(self, dim: int, edge_dim: int, time: TimeEncoding, cell: str = "gru") -> None:
        super().__init__()
        self.time = time
        kind = {"gru": nn.GRUCell, "rnn": nn.RNNCell}[cell]
        self.cell = kind(2 * dim + edge_dim + time.dim, dim)

    def forward(
        self, memory: Tensor, mail: Tensor, mail_dt: Tensor, edge_features: Tensor, mail_event: Tensor
    ) -> Tensor:
        """Updated memory of some nodes.

        Args:
            memory: ``[U, dim]``.
            mail: ``[U, 2 * dim]``; where there is mail, its first half equals ``memory``: they are written together.
            mail_dt: mail's time minus memory's time, ``[U]``, int64.
            edge_features: by event id, ``[E, edge_dim]``.
            mail_event: event id that left the mail, ``[U]``, int64; -1 for none.

        Returns:
            ``[U, dim]``.
        """
        if not on_cpu_kernels(memory):
            return self.masked(memory, mail, mail_dt, edge_features, mail_event)
        if can_absorb(self.cell, memory, mail, self.time.omega):
            time = (self.time.omega, self.time.bias)
            return absorb(self.cell, memory, mail, mail_dt, edge_features, mail_event, *time)
        rows = (mail_event >= 0).nonzero().flatten()  # work on the rows that need it
        x = torch.cat([mail[rows], edge_features[mail_event[rows]].to(mail.dtype), self.time(mail_dt[rows])], dim=1)
        return memory.index_copy(0, rows, self._step(x, memory[rows]))

    def masked(
        self, memory: Tensor, mail: Tensor, mail_dt: Tensor, edge_features: Tensor, mail_event: Tensor
    ) -> Tensor:
        """The same, ``[U, dim]``, for a GPU, where counting would wait: compute all, keep those with mail."""
        x = torch.cat([mail, edge_features[mail_event.clamp(min=0)].to(mail.dtype), self.time(mail_dt)], dim=1)
        return torch.where((mail_event >= 0)[:, None], self._step(x, memory), memory)

    def _step(self, x: Tensor, memory: Tensor) -> Tensor:
        return gru_cell(self.cell, x, memory) if isinstance(self.cell, nn.GRUCell) else self.cell(x, memory)
