"""TGN-attn with static node memory (TGN, arXiv 2006.10637; as trained by DistTGL, SC'23).

Read top to bottom: absorb mail, add what is static, attend to the sampled past, score pairs.
"""

from __future__ import annotations

from torch import Tensor

from tgscale.graph.block import Block
from tgscale.memory.local import MemoryRows
from tgscale.models.config import ModelConfig
from tgscale.models.stream_model import StreamModel
from tgscale.nn.attention import TemporalAttention
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding
from tgscale.nn.updater import MemoryUpdater

TGNConfig = ModelConfig
"""The options of all models; as they stand, those of TGN."""


class TGN(StreamModel):
    """Embeds (node, time) roots from node memory and their sampled past, and scores pairs of them."""

    fixed_shapes = True

    def build(self, static: StaticMemory) -> None:
        """The memory updater and one layer of attention."""
        config, edge_dim = self.config, self.edge_dim
        self.time = TimeEncoding(config.dim, learned=config.time_encoding == "learned")
        self.updater = MemoryUpdater(config.dim, edge_dim, self.time, config.updater)
        self.static = static
        self.attention = TemporalAttention(
            config.dim, edge_dim, self.time, config.dim, config.heads, config.dropout, config.score
        )

    def update(self, rows: MemoryRows, event_time: Tensor, edge_features: Tensor) -> Tensor:
        """Memory after absorbing mail, ``[U, dim]``: s' = cell([mail || features || phi(t_mail - t_memory)], s)."""
        mail_dt = event_time[rows.mail_event.clamp(min=0)] - rows.memory_time
        return self.updater(rows.memory, rows.mail, mail_dt, edge_features, rows.mail_event)

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Embeddings of the block's roots, ``[R, dim]``, from the memory ``[U, dim]`` of its nodes."""
        return self.attention(self.with_static(memory, block.nodes), block, edge_features)
