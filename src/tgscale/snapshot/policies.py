"""Which device trains which of the groups that share a step: by count, and longest first."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np


class Assigned(NamedTuple):
    """Devices of the groups of a step.

    Attributes:
        device: int64 ``[B]``.
        proven: False where a policy that looks for the best could not prove that it has found it.
    """

    device: np.ndarray
    proven: bool = True


def by_count(costs: np.ndarray, devices: int, time_limit: float = 0.0) -> Assigned:
    """Equal numbers of groups to all devices, neighbours in time together, whatever they cost.

    Args:
        costs: float ``[B]``, in the groups' order in time.
        devices: P.
        time_limit: not needed; every policy takes the same arguments.
    """
    share, rest = divmod(len(costs), devices)
    sizes = np.full(devices, share)
    sizes[:rest] += 1
    return Assigned(np.repeat(np.arange(devices), sizes))


def longest_first(costs: np.ndarray, devices: int, time_limit: float = 0.0) -> Assigned:
    """LPT (Graham 1969): the dearest group that is left to the device with the least to do.

    The slowest device takes at most ``4/3 - 1/(3P)`` times the least time possible. ``O(B log B)``; of equal groups the
    earlier goes first, of equal devices the first takes it. Arguments as in :func:`by_count`.
    """
    device = np.empty(len(costs), np.int64)
    heap = [(0.0, p) for p in range(devices)]
    order = np.argsort(-costs, kind="stable")
    chosen = []
    for cost in costs[order].tolist():
        load, p = heap[0]
        chosen.append(p)
        heapq.heapreplace(heap, (load + cost, p))
    device[order] = chosen
    return Assigned(device)
