"""TGAT (Xu et al., ICLR 2020, arXiv 2002.07962): layers of temporal attention over sampled past, and no memory."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from tgscale.graph.block import Block
from tgscale.models.config import ModelConfig
from tgscale.models.stream_model import MemorylessModel, Needs
from tgscale.nn.attention import TemporalAttention
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding


class TGAT(MemorylessModel):
    """h^l(v, t) = attention(h^(l-1)(v, t) || phi(0); h^(l-1)(u, t_u) || e || phi(t - t_u)) (eq. 4-8).

    h^0 is what is static of a node: its features, or a table; zeros where there is neither.
    """

    sampling: ClassVar[dict[str, Any]] = {"strategy": "uniform"}

    @classmethod
    def needs(cls, config: ModelConfig) -> Needs:
        """A hop of sampled past per layer."""
        return Needs(hops=config.depth)

    def build(self, static: StaticMemory) -> None:
        """Attention layers, one per hop."""
        config, dim = self.config, self.config.dim
        self.static = static
        self.time = TimeEncoding(dim, learned=config.time_encoding == "learned")
        self.layers = nn.ModuleList(
            TemporalAttention(dim, self.edge_dim, self.time, dim, config.heads, config.dropout, "scaled")
            for _ in range(config.depth)
        )

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Embeddings of the roots, ``[R, dim]``: the rows of a layer's block are the roots of the block below it."""
        blocks = [block]
        while (below := blocks[-1].below) is not None:
            blocks.append(below)
        h = self.static_alone(blocks[-1].nodes)
        for layer, each in zip(self.layers, reversed(blocks), strict=True):
            h = layer(h, each, edge_features)
        return h
