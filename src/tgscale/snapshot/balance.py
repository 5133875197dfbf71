"""How even the work of some devices is, and how even it could be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tgscale.errors import ConfigError

Step = list[np.ndarray]
"""Per device, the groups it trains between two updates of the weights: int64, in the order in which they run."""


class Bounds(NamedTuple):
    """What no assignment can beat: the least time of the slowest device, and the least ``max / mean``."""

    makespan: float
    imbalance: float


def bounds(costs: np.ndarray, devices: int) -> Bounds:
    """Lower bounds for groups that cannot be divided: ``max(mean load, dearest group)``.

    Args:
        costs: float ``[B]`` of the groups that share a step.
        devices: how many share them.
    """
    mean = float(np.sum(costs)) / devices
    makespan = max(mean, float(np.max(costs, initial=0.0)))
    return Bounds(makespan, makespan / mean if mean else 1.0)


def step_loads(step: Step, costs: np.ndarray) -> np.ndarray:
    """Time of each device in a step, ``[P]``, when it runs its groups one after another.

    Args:
        step: groups of each device.
        costs: float ``[G]`` of all groups.
    """
    device = np.repeat(np.arange(len(step)), [len(groups) for groups in step])
    return np.bincount(device, weights=costs[np.concatenate(step)], minlength=len(step))


def imbalance(loads: np.ndarray) -> float:
    """Slowest device over the mean, ``>= 1``. 1 where nobody has work."""
    mean = float(loads.mean())
    return float(loads.max()) / mean if mean else 1.0


def sync_wait(loads: np.ndarray) -> float:
    """Time that all devices together wait for the slowest: ``sum(max - own)``."""
    return float(np.sum(loads.max() - loads))


@dataclass(frozen=True, eq=False)
class Balance:
    """How even an epoch is. Devices meet after every step, so the times of the slowest add up, not those of a device.

    Attributes:
        loads: float64 ``[S, P]``, time of each device in each step.
    """

    loads: np.ndarray

    @classmethod
    def of(cls, steps: Sequence[Step], costs: np.ndarray) -> Balance:
        """That of steps made by :func:`~tgscale.snapshot.assign.plan_epoch`; ``costs`` may be others than planned with.

        Raises:
            ConfigError: no steps.
        """
        if not steps:
            raise ConfigError("an epoch without steps has no balance: plan at least one group.")
        return cls(np.stack([step_loads(step, costs) for step in steps]))

    @property
    def per_step(self) -> np.ndarray:
        """``max / mean`` of each step, float64 ``[S]``."""
        return np.array([imbalance(loads) for loads in self.loads])

    @property
    def makespan(self) -> float:
        """Time of the epoch's compute: the slowest device of each step, summed."""
        return float(self.loads.max(axis=1).sum())

    @property
    def imbalance(self) -> float:
        """The epoch's: its makespan over that of perfectly even steps."""
        even = float(self.loads.mean(axis=1).sum())
        return self.makespan / even if even else 1.0

    @property
    def sync_wait(self) -> float:
        """Time that devices wait for others, over all devices and steps."""
        return sum(sync_wait(loads) for loads in self.loads)
