"""TGN-attn with static node memory (TGN, arXiv 2006.10637; as trained by DistTGL, SC'23).

Read top to bottom: absorb mail, add what is static, attend to the sampled past, score pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from tgscale.errors import ConfigError
from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows
from tgscale.nn.attention import TemporalAttention
from tgscale.nn.decoder import LinkDecoder
from tgscale.nn.pair_encoding import DEFAULT_GROUPS, GroupName, pair_dim
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding
from tgscale.nn.updater import MemoryUpdater


@dataclass
class TGNConfig:
    """What the model is made of."""

    dim: int = 100
    """Width of memory, time encoding and embedding."""
    heads: int = 2
    """Attention heads; divides dim."""
    dropout: float = 0.1
    """On attention weights and the attention's output."""
    score: Literal["leaky_relu", "scaled"] = "leaky_relu"
    """Attention score: LeakyReLU(q.k) as in DistTGL's code, or q.k / sqrt(width)."""
    time_encoding: Literal["fixed", "learned"] = "fixed"
    """Whether the frequencies of the time encoding are learned."""
    updater: Literal["gru", "rnn"] = "gru"
    """Cell that absorbs mail into memory."""
    pair_encoding: bool = True
    """Let the decoder see whether, how often and when the two nodes have met."""
    pair_groups: tuple[GroupName, ...] = DEFAULT_GROUPS
    """What else the pair encoding sees, in groups (docs/pair-encoding.md); without a name: nothing."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.heads < 1 or self.dim % self.heads:
            raise ConfigError(
                f"model.dim {self.dim} does not divide into model.heads {self.heads} heads: "
                "choose a multiple, such as 100 and 2."
            )
        pair_dim(self.pair_groups)  # refuses a group that stands twice
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}: give a share in [0, 1).")


class TGN(nn.Module):
    """Embeds (node, time) roots from node memory and their sampled past, and scores pairs of them.

    Args:
        config: sizes and choices.
        edge_dim: width of the edge features; 0 for none.
        static: adds a time-independent vector to each node's memory.
    """

    def __init__(self, config: TGNConfig, edge_dim: int, static: StaticMemory | None = None) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEncoding(config.dim, learned=config.time_encoding == "learned")
        self.updater = MemoryUpdater(config.dim, edge_dim, self.time, config.updater)
        self.static = static or StaticMemory()
        self.attention = TemporalAttention(
            config.dim, edge_dim, self.time, config.dim, config.heads, config.dropout, config.score
        )
        self.decoder = LinkDecoder(config.dim, pair_dim(config.pair_groups) if config.pair_encoding else 0)

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """Memory after absorbing mail, ``[U, dim]``: s' = cell([mail || features || phi(t_mail - t_memory)], s)."""
        mail_dt = event_time[rows.mail_event.clamp(min=0)] - rows.memory_time
        return self.updater(rows.memory, rows.mail, mail_dt, edge_features, rows.mail_event)

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor) -> Tensor:
        """Embeddings of the block's roots, ``[R, dim]``, from the memory ``[U, dim]`` of its nodes."""
        static = self.static(block.nodes)
        z = memory if static is None else memory + static
        return self.attention(z, block, edge_features)

    def score(self, h: Tensor, source: Tensor, candidate: Tensor, pair_features: Tensor | None = None) -> Tensor:
        """Logits ``[B, C]`` of sources (rows ``[B]`` of ``h``) against their candidates (rows ``[B, C]``)."""
        return self.decoder(h, source, candidate, pair_features)
