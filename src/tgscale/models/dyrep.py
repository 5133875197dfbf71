"""DyRep (Trivedi, Farajtabar, Biswal and Zha, ICLR 2019): an event tells a node of the other one's neighborhood.

In the frame of TGN: what an event leaves is mail, and is absorbed when the node is next needed. So that the weights
that look at the neighborhood learn, the mail holds that neighborhood itself (the states of the sampled neighbors, as
they were), and not what was made of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows, last_event_of_ends
from tgscale.memory.shape import RowShape
from tgscale.models.config import ModelConfig
from tgscale.models.stream_model import Ends, Needs, StreamModel
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding


class DyRep(StreamModel):
    """Embeds a root as its node's memory, which takes in the neighborhoods of those that the node meets.

    The mail of node v, of event (v, u) at time t: z_u and the states of u's k sampled neighbors, ``[1 + k, dim]``; its
    event ids: that of (v, u), and those in which u met the neighbors.
    """

    @classmethod
    def needs(cls, config: ModelConfig) -> Needs:
        """No neighbors of roots; the past of each event's two ends."""
        return Needs(hops=0, past_of_ends=True)

    @classmethod
    def shape(cls, config: ModelConfig, neighbors: int) -> RowShape | None:
        """A state ``[dim]`` and a mail ``[1 + neighbors, dim]`` per node."""
        return RowShape(config.dim, config.dim, 1 + neighbors)

    def build(self, static: StaticMemory) -> None:
        """A cell, and attention over the other end's neighborhood."""
        config, dim = self.config, self.config.dim
        self.time = TimeEncoding(dim, learned=config.time_encoding == "learned")
        self.static = static
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim + self.edge_dim + dim, dim)
        self.neighbor = nn.Linear(dim, dim)
        self.cell = nn.RNNCell(dim + self.edge_dim + dim, dim)

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """z_v(t) = tanh(W_struct h_u + W_rec z_v(t-) + W_t phi(t - t_v) + W_e e) (eq. 4, plus e), ``[U, dim]``."""
        at = (rows.mail_event[:, 0] >= 0).nonzero().flatten()
        event, z = rows.mail_event[at], rows.mail[at].unflatten(1, (rows.mail_event.shape[1], -1))
        times, features = event_time[event.clamp(min=0)], edge_features[event.clamp(min=0)].to(z.dtype)
        h = self.neighborhood(z, times[:, :1] - times[:, 1:], features[:, 1:], event[:, 1:] < 0)
        x = torch.cat([h, features[:, 0], self.time(times[:, 0] - rows.memory_time[at])], dim=1)
        return rows.memory.index_copy(0, at, self.cell(x, rows.memory[at]).to(rows.memory.dtype))

    def neighborhood(self, z: Tensor, dt: Tensor, edge_features: Tensor, absent: Tensor) -> Tensor:
        """h_u = max_j sigmoid(q_uj (W_h z_j + b)) (section 3.2.1), with q_u = softmax_j of learned scores.

        The paper keeps q in a matrix of all pairs of nodes, which it moves by the intensities that its model gives.

        Args:
            z: states of u and of its neighbors, ``[n, 1 + k, dim]``.
            dt: since u met each neighbor, ``[n, k]``, int64.
            edge_features: of those events, ``[n, k, edge_dim]``.
            absent: where there is no neighbor, ``[n, k]``.

        Returns:
            ``[n, dim]``; zeros for a u that has no past.
        """
        u, around = z[:, 0], z[:, 1:]
        key = self.key(torch.cat([around, edge_features, self.time(dt)], dim=-1))
        score = torch.einsum("nd,nkd->nk", self.query(u), key) / u.shape[1] ** 0.5
        q = torch.softmax(score.masked_fill(absent, -torch.inf), dim=1).masked_fill(absent, 0)
        h = torch.sigmoid(q[:, :, None] * self.neighbor(around))
        return h.masked_fill(absent[:, :, None], 0).amax(1)  # sigmoids are above 0: an absent one is never the largest

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """z of the roots' nodes, ``[R, dim]``."""
        z = self.with_static(memory, block.nodes)
        return z.index_select(0, block.roots).index_select(0, block.root_row)

    def after(self, rows: MemoryRows, memory: Tensor, ends: Ends, event_time: Tensor) -> tuple[Tensor, MemoryRows]:
        """The new z of both ends, and the mail of its last event (the other end, its neighborhood): rows ``[W]``."""
        assert ends.past_slot is not None
        assert ends.past_event is not None
        memory = memory.detach()
        own, last = last_event_of_ends(len(memory), ends.source, ends.destination, ends.every_end)
        is_source = ends.source[last] == own
        other = torch.where(is_source, ends.destination[last], ends.source[last])
        past = torch.where(is_source, last + len(ends.event), last)  # row of the other end in the sampled past
        around = torch.cat([other[:, None], ends.past_slot[past]], dim=1)
        before = rows.mail_event[own, 0]
        return own, MemoryRows(
            memory=memory[own],
            memory_time=torch.where(before >= 0, event_time[before.clamp(min=0)], rows.memory_time[own]),
            mail=memory[around].flatten(1),
            mail_event=torch.cat([ends.event[last][:, None], ends.past_event[past]], dim=1),
        )
