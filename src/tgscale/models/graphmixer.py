"""GraphMixer (Cong et al., ICLR 2023, arXiv 2302.11636): an MLP-Mixer over a node's latest links, and no memory."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.graph.block import Block
from tgscale.models.stream_model import MemorylessModel
from tgscale.nn.static_memory import StaticMemory
from tgscale.nn.time_encoding import TimeEncoding

PIECE = 256
"""Roots that are mixed at a time on a CPU: all links of a batch of 50 candidates would take 10 GB."""


class MixerLayer(nn.Module):
    """H + MLP over the links (tokens), then H + MLP over the features (channels) (eq. 2; MLP-Mixer).

    Args:
        links: number of tokens, k.
        dim: number of channels.
        dropout: after each linear layer.
    """

    def __init__(self, links: int, dim: int, dropout: float) -> None:
        super().__init__()
        hidden = max(1, links // 2)  # half as wide over links, four times as wide over features, as in the paper
        self.link_norm, self.channel_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.over_links = _mlp(links, hidden, dropout)
        self.over_channels = _mlp(dim, 4 * dim, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``[R, k, dim]`` -> ``[R, k, dim]``."""
        x = x + self.over_links(self.link_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.channel_norm(x))


class GraphMixer(MemorylessModel):
    """h = W [t || s]: t of the latest links (link encoder, section 3.1), s of the nodes there (node encoder, 3.2)."""

    fixed_shapes = True
    sampling: ClassVar[dict[str, Any]] = {"neighbors": 20}

    def build(self, static: StaticMemory) -> None:
        """The mixer over links, and a layer that joins its mean with what is static of the nodes."""
        config, dim = self.config, self.config.dim
        self.static = static
        self.time = TimeEncoding(dim)
        root = dim**0.5
        with torch.no_grad():  # omega_i = alpha^(-(i - 1) / beta) with alpha = beta = sqrt(dim); never learned
            self.time.omega.copy_(root ** (-torch.arange(dim) / root))
        self.link = nn.Linear(self.edge_dim + dim, dim)
        self.mixer = nn.Sequential(*(MixerLayer(self.neighbors, dim, config.dropout) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(2 * dim, dim)

    def embed(self, memory: Tensor, block: Block, edge_features: Tensor, elapsed: Tensor | None = None) -> Tensor:
        """Embeddings of the roots, ``[R, dim]``."""
        there = (block.event >= 0)[:, :, None]
        return self.out(torch.cat([self._links(block, edge_features, there), self._nodes(block, there)], dim=1))

    def _links(self, block: Block, edge_features: Tensor, there: Tensor) -> Tensor:
        """Mixed links of all roots: in pieces where no gradient is wanted, on a CPU."""
        columns = (block.event, block.dt, there)
        if torch.is_grad_enabled() or there.device.type != "cpu":
            return self._mix(edge_features, *columns)
        pieces = zip(*(column.split(PIECE) for column in columns), strict=True)
        return torch.cat([self._mix(edge_features, *piece) for piece in pieces])

    def _mix(self, edge_features: Tensor, event: Tensor, dt: Tensor, there: Tensor) -> Tensor:
        """t = mean over k of Mixer(W [phi(t0 - t_j) || e_j]); a link that is missing is a row of zeros."""
        edge = edge_features[event.clamp(min=0)].to(self.link.weight.dtype)
        x = torch.cat([edge, self.time(dt)], dim=-1) * there
        return self.norm(self.mixer(self.link(x))).mean(1)

    def _nodes(self, block: Block, there: Tensor) -> Tensor:
        """s = x + mean of the x of the neighbors of the last ``gap``; x is what is static of a node."""
        x = self.static_alone(block.nodes)
        if self.config.gap is not None:
            there = there & (block.dt <= self.config.gap)[:, :, None]
        k = block.slot.shape[1]
        around = F.embedding(block.slot, x) * there
        own = x.index_select(0, block.roots).index_select(0, block.root_row)
        return own + around.sum(1) / there.sum(1).clamp(min=1, max=k)


def _mlp(width: int, hidden: int, dropout: float) -> nn.Sequential:
    drop = nn.Dropout(dropout)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), drop, nn.Linear(hidden, width), drop)
