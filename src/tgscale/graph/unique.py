"""Distinct node ids of a batch, and for each position which of them it is."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.graph.search import check_nodes, check_query


@numba.njit(nogil=True, cache=True)
def _compact(ids, mark, base, unique, inverse):
    found = 0
    for i in range(len(ids)):
        u = ids[i]
        # A mark below `base` is left from an earlier batch: nothing has to be cleared between batches.
        if mark[u] < base:
            mark[u] = base + found
            unique[found] = u
            found += 1
        inverse[i] = mark[u] - base
    return found


class Compactor:
    """Finds the distinct ids of one batch after another, in O(batch) on the CPU.

    It keeps a workspace of one int64 per node, so one compactor must not be used by two threads at once.

    Args:
        num_nodes: ids lie in ``[0, num_nodes)``.
        device: where the ids are. On a GPU ``torch.unique`` is used, which waits for the device.
    """

    def __init__(self, num_nodes: int, device: str | torch.device = "cpu") -> None:
        if num_nodes < 1:
            raise ConfigError(f"num_nodes is {num_nodes}: give at least 1.")
        self.num_nodes = num_nodes
        self.device = torch.empty(0, device=device).device
        self._mark = np.zeros(num_nodes if self.device.type == "cpu" else 0, np.int64)
        self._base = 1

    def __call__(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct ids and the place of each.

        Args:
            ids: ``[M]`` int64.

        Returns:
            unique ``[U]`` int64, in order of first appearance on the CPU and ascending on a GPU; and
            inverse ``[M]`` int64 with ``unique[inverse] == ids``.

        Raises:
            ConfigError: not an integer vector on the device, or ids out of range (checked on the CPU).
        """
        check_query(self.device, len(ids), ids=ids)
        check_nodes(self.num_nodes, ids=ids)
        ids = ids.long()
        if self.device.type != "cpu":
            unique, inverse = torch.unique(ids, return_inverse=True)
            return unique, inverse
        unique, inverse = torch.empty_like(ids), torch.empty_like(ids)
        found = _compact(ids.contiguous().numpy(), self._mark, self._base, unique.numpy(), inverse.numpy())
        self._base += found
        return unique[:found], inverse


def compact(ids: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """``Compactor`` for a single batch: O(num_nodes) for its workspace."""
    return Compactor(num_nodes, ids.device)(ids)
