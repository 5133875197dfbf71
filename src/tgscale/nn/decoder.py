"""Score of a candidate event from the embeddings of its two ends and, if wanted, their common past."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.nn.linear import Linear


class LinkDecoder(nn.Module):
    """``Linear(ReLU(Linear_s(source) + Linear_d(destination) [+ MLP(pair features)]))`` (DistTGL's edge predictor).

    Args:
        dim: width of embeddings and of the hidden layer.
        pair_dim: width of the pair features (:mod:`tgscale.nn.pair_encoding`); 0 leaves them out.
    """

    def __init__(self, dim: int, pair_dim: int = 0) -> None:
        super().__init__()
        self.source = Linear(dim, dim)
        self.destination = Linear(dim, dim)
        self.out = nn.Linear(dim, 1)
        self.pair = nn.Sequential(Linear(pair_dim, dim), nn.ReLU(), Linear(dim, dim)) if pair_dim else None

    def forward(self, h: Tensor, source: Tensor, destination: Tensor, pair_features: Tensor | None = None) -> Tensor:
        """Score sources against their candidates.

        Args:
            h: embeddings of roots, ``[R, dim]``.
            source: row of ``h`` of each source, ``[B]``.
            destination: row of ``h`` of each of its candidates, ``[B, C]``.
            pair_features: ``[B, C, pair_dim]``.

        Returns:
            Logits, ``[B, C]``.
        """
        # Project each root once, then pick: a root may be a candidate many times.
        candidate = self.destination(h).index_select(0, destination.flatten()).unflatten(0, destination.shape)
        hidden = self.source(h.index_select(0, source))[:, None] + candidate
        if self.pair is not None:
            assert pair_features is not None
            # In full precision, also under autocast: counts and times in eight bits would move the loss by a tenth.
            with torch.autocast(h.device.type, enabled=False):
                hidden = hidden + self.pair(pair_features.to(self.out.weight.dtype))
        return self.out(F.relu(hidden)).squeeze(-1)


class PairClassifier(nn.Module):
    """``Linear(ReLU(Linear_s(source) + Linear_d(destination)))`` with an output per class.

    Args:
        dim: width of embeddings and of the hidden layer.
        classes: number of classes.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.source, self.destination = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, classes)

    def forward(self, source: Tensor, destination: Tensor) -> Tensor:
        """Logits ``[B, classes]`` from the embeddings of both ends, ``[B, dim]`` each."""
        return self.out(F.relu(self.source(source) + self.destination(destination)))


def link_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of each event's true destination (column 0 of ``[B, C]``) against its negatives (DistTGL)."""
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
