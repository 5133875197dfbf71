"""Embeddings of nodes that may lie in any process, fetched when asked for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tgscale.snapshot.partition.collectives import Exchange


class NodeRows:
    """One row per node, each in the process that has the node; ``rows[nodes]`` fetches some. Differentiable.

    All processes index it at the same time, each with the nodes that it wants, maybe none.

    Args:
        own: rows of this process's nodes, ``[n, C]``.
        bounds: process p has nodes ``bounds[p]`` to ``bounds[p + 1]``, ``[P + 1]``.
        exchange: to the others.
    """

    def __init__(self, own: Tensor, bounds: np.ndarray, exchange: Exchange) -> None:
        self.own, self.exchange = own, exchange
        self._low = int(bounds[exchange.ranks.rank])
        self._inner = torch.from_numpy(bounds[1:-1]).to(own.device)

    def __getitem__(self, nodes: Tensor) -> Tensor:
        """Rows of ``nodes`` (int64, any shape), ``[..., C]``. A node that is named twice is sent twice."""
        world = self.exchange.ranks.world
        owner = torch.bucketize(nodes.reshape(-1), self._inner, right=True)
        order = torch.argsort(owner, stable=True)
        asked = torch.bincount(owner, minlength=world)
        wanted = self.exchange.swap(asked, [1] * world, [1] * world).tolist()
        counts = asked.tolist()
        ids = self.exchange.swap(nodes.reshape(-1)[order], counts, wanted)
        rows = self.exchange.rows(self.own.index_select(0, ids - self._low), wanted, counts)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return rows.index_select(0, place).view(*nodes.shape, self.own.shape[1])
