"""Distinct ids in tensors whose shapes do not depend on the ids: nothing is counted on the host."""

from __future__ import annotations

import torch
from torch import Tensor


def unique_fixed(ids: Tensor, capacity: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct ids, ascending, in a table of fixed length, and the place of each id in it.

    By sorting, so that it needs neither a workspace per node nor an answer from the device. The table cannot overflow
    where ``capacity`` is the length of ``ids`` or the number of nodes, whichever is less; nothing checks a smaller one,
    since that would wait for the device.

    Args:
        ids: ``[M]``, int64, at least one, not negative.
        capacity: length of the table: at least the number of distinct ids.

    Returns:
        unique ``[capacity]``: the distinct ids, then zeros, which no place refers to; inverse ``[M]``, with
        ``unique[inverse] == ids``; and how many distinct ids there are, a tensor of no dimensions. All int64.
    """
    ordered, order = ids.sort()
    new = torch.ones_like(ordered)
    new[1:] = ordered[1:] != ordered[:-1]
    place = new.cumsum(0) - 1
    inverse = torch.empty_like(place).scatter_(0, order, place)
    unique = ids.new_zeros(capacity).scatter_(0, place, ordered)  # equal values where a place is written twice
    return unique, inverse, place[-1] + 1
