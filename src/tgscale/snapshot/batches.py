"""Which groups share a step: any, or such as can be spread evenly over the devices."""

from __future__ import annotations

import numpy as np

MIXING = 0.5
"""How far, in numbers of devices, a group may move from its place in the order by cost."""


def random_batches(costs: np.ndarray, devices: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A shuffle of all groups, cut into steps: what stochastic gradient descent does, whatever groups cost.

    Args:
        costs: float ``[G]``.
        devices: not needed; both choices take the same arguments.
        size: groups per step; the last step has what is left.
        rng: decides.

    Returns:
        int64 arrays; every group in one of them.
    """
    order = rng.permutation(len(costs))
    return [order[at : at + size] for at in range(0, len(order), size)]


def balanced_batches(costs: np.ndarray, devices: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Steps made of tiers: P groups of about the same cost, one for each of the P devices.

    Groups are sorted by cost, with a random shift of up to half a tier so that no two epochs have the same tiers, and
    cut into tiers; each step takes ``size // P`` tiers at random and, where P does not divide its size, some of the
    cheapest groups, which upset it least. Steps are less alike than random ones, so gradients vary more between them.
    That choosing what shares a step makes it easy to balance is the idea of DyGNeX (an ICLR 2025 submission), whose own
    rule is not public. Arguments and result as in :func:`random_batches`.
    """
    groups = len(costs)
    sizes = np.full(-(-groups // size), size)
    sizes[-1] = groups - size * (len(sizes) - 1)
    rank = np.empty(groups)
    rank[np.argsort(-costs, kind="stable")] = np.arange(groups)
    order = np.argsort(rank + rng.uniform(0, MIXING * devices, groups), kind="stable")
    tiers = sizes // devices
    in_tiers = int(tiers.sum()) * devices
    blocks = rng.permutation(order[:in_tiers].reshape(-1, devices), axis=0).reshape(-1)
    tier_parts = np.split(blocks, np.cumsum(tiers * devices)[:-1])
    filler_parts = np.split(order[in_tiers:], np.cumsum(sizes % devices)[:-1])
    steps = [np.concatenate(parts) for parts in zip(tier_parts, filler_parts, strict=True)]
    return [steps[at] for at in rng.permutation(len(steps))]
