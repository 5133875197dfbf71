"""APAN (Wang et al., SIGMOD 2021, arXiv 2011.11545): nodes read their mailbox; events post mail to neighborhoods.

Scoring samples no neighbors. After it, each event's mail goes to its two ends and to their sampled neighbors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows
from tgscale.memory.shape import RowShape
from tgscale.models.config import ModelConfig
from tgscale.models.stream_model import Ends, Needs, StreamModel
from tgscale.nn.static_memory import StaticMemory


class APAN(StreamModel):
    """Embeds a root as its node's last embedding, updated by attention over the node's mailbox.

    A mail holds z_i + z_j of the event (i, j) that posted it, ``[dim]``; the event's features are looked up. A mailbox
    holds the latest ``mails``, latest first. Mail is read, and stays until newer mail pushes it out.
    """

    @classmethod
    def needs(cls, config: ModelConfig) -> Needs:
        """No neighbors of roots; the past of each event's two ends, to whom mail goes."""
        return Needs(hops=0, past_of_ends=True)

    @classmethod
    def shape(cls, config: ModelConfig, neighbors: int) -> RowShape | None:
        """An embedding ``[dim]`` and a mailbox ``[mails, dim]`` per node."""
        return RowShape(config.dim, config.dim, config.mails)

    @classmethod
    def nodes_written(cls, config: ModelConfig, batch_size: int, neighbors: int) -> int:
        """Both ends of each event and their sampled neighbors."""
        return 2 * batch_size * (1 + neighbors)

    def build(self, static: StaticMemory) -> None:
        """Attention over a mailbox with learned places, and an MLP of two layers."""
        config, dim = self.config, self.config.dim
        self.static = static
        self.edge = nn.Linear(self.edge_dim, dim, bias=False) if self.edge_dim else None
        self.position = nn.Parameter(torch.randn(config.mails, dim) * 0.02)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(dim, dim))

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """z(t) = MLP(LayerNorm(z(t-) + attention(z(t-); M + P))) (eq. 1-5), ``[U, dim]``.

        M are the mails, ``[U, mails, dim]``, and P their places.
        """
        at = (rows.mail_event[:, 0] >= 0).nonzero().flatten()
        z, event = rows.memory[at], rows.mail_event[at]
        mails = rows.mail[at].unflatten(1, (self.config.mails, -1)) + self.position
        if self.edge is not None:
            mails = mails + self.edge(edge_features[event.clamp(min=0)].to(z.dtype))
        z = self.mlp(self.norm(z + self.attention(z, mails, event < 0)))
        return rows.memory.index_copy(0, at, z.to(rows.memory.dtype))

    def attention(self, z: Tensor, mails: Tensor, absent: Tensor) -> Tensor:
        """softmax(q.k / sqrt(width of a head)) v of each z, ``[n, dim]``, over its mails, ``[n, M, dim]``; one or more
        of them are there."""
        heads = (self.config.heads, -1)
        query, key, value = self.query(z), self.key(mails), self.value(mails)
        query, key, value = (x.unflatten(-1, heads) for x in (query, key, value))
        score = torch.einsum("nhd,nmhd->nhm", query, key) / query.shape[-1] ** 0.5
        weight = torch.softmax(score.masked_fill(absent[:, None], -torch.inf), dim=-1)
        weight = F.dropout(weight, self.config.dropout, self.training)
        return self.out(torch.einsum("nhm,nmhd->nhd", weight, value).flatten(1))

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """z of the roots' nodes, ``[R, dim]``."""
        z = self.with_static(memory, block.nodes)
        return z.index_select(0, block.roots).index_select(0, block.root_row)

    def after(self, rows: MemoryRows, memory: Tensor, ends: Ends, event_time: Tensor) -> tuple[Tensor, MemoryRows]:
        """The new z of both ends, and the mailboxes of all that are mailed to: rows ``[W]`` and their state."""
        memory = memory.detach()
        receiver, place = self._deliveries(ends)
        own, count = torch.unique_consecutive(receiver, return_counts=True)
        end = count.cumsum(0)
        # Slot s of a mailbox takes the s-th latest of the new mails, and after the last of them the old ones move up.
        slot = torch.arange(self.config.mails, device=own.device)
        is_new = slot < count[:, None]
        new = place[(end[:, None] - 1 - slot).clamp(min=0)]
        old = (slot - count[:, None]).clamp(min=0)
        mail = memory[ends.source] + memory[ends.destination]  # [B, dim]
        boxes = rows.mail[own].unflatten(1, (self.config.mails, -1))
        kept = boxes.gather(1, old[:, :, None].expand_as(boxes))
        is_end = torch.zeros(len(memory), dtype=torch.bool, device=own.device)
        is_end[torch.cat([ends.source, ends.destination])] = True
        return own, MemoryRows(
            memory=torch.where(is_end[own][:, None], memory[own], rows.memory[own]),
            memory_time=rows.memory_time[own],  # not used: the mails' order is what counts
            mail=torch.where(is_new[:, :, None], mail[new], kept).flatten(1),
            mail_event=torch.where(is_new, ends.event[new], ends.mail_event[own].gather(1, old)),
        )

    @staticmethod
    def _deliveries(ends: Ends) -> tuple[Tensor, Tensor]:
        """(row that receives, place of the event in the batch), each pair once, in this order."""
        assert ends.past_slot is not None
        assert ends.past_event is not None
        B = len(ends.event)
        place = torch.arange(B, device=ends.event.device)
        there = ends.past_event >= 0
        around = place.repeat(2)[:, None].expand_as(there)[there]
        receiver = torch.cat([ends.source, ends.destination, ends.past_slot[there]])
        key = torch.unique(receiver * B + torch.cat([place, place, around]))
        return key // B, key % B
