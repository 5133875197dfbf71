"""The plan of an epoch: which groups share a step, on which device each is trained, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np

from tgscale.errors import ConfigError
from tgscale.snapshot.balance import Balance, Step
from tgscale.snapshot.batches import balanced_batches, random_batches
from tgscale.snapshot.optimal import least_makespan
from tgscale.snapshot.policies import Assigned, by_count, longest_first

TIME_LIMIT = 10.0


Choose = Callable[[np.ndarray, int, int, np.random.Generator], list[np.ndarray]]


class Policy(NamedTuple):
    """One way to plan: which groups share a step, then which device takes which of them.

    With several ways to choose batches, each is planned and the one with the least compute time is kept.
    """

    choose: tuple[Choose, ...]
    assign: Callable[[np.ndarray, int, float], Assigned]


POLICIES = {
    "count": Policy((random_batches,), by_count),
    "lpt": Policy((random_batches,), longest_first),
    "optimal": Policy((random_batches,), least_makespan),
    "cross-window": Policy((balanced_batches, random_batches), longest_first),
}


@dataclass(frozen=True, eq=False)
class EpochPlan(Sequence[Step]):
    """The steps of an epoch, in order; each a list, per device, of int64 group ids in the order in which they run.

    Attributes:
        steps: as above.
        notes: what the reader of the result should know, such as steps that were not proven optimal.
    """

    steps: list[Step]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @overload
    def __getitem__(self, at: int) -> Step: ...
    @overload
    def __getitem__(self, at: slice) -> list[Step]: ...
    def __getitem__(self, at: int | slice) -> Step | list[Step]:
        return self.steps[at]


def plan_epoch(
    costs: np.ndarray,
    devices: int,
    groups_per_step: int,
    policy: str,
    seed: int = 0,
    epoch: int = 0,
    time_limit: float = TIME_LIMIT,
) -> EpochPlan:
    """Plan an epoch: every group once. On a device the longest group runs first.

    ``count``, ``lpt`` and ``optimal`` train on the same batches of groups, a shuffle by seed and epoch, so that they
    take the same steps of gradient descent. ``cross-window`` chooses others where that makes the epoch shorter, so it
    is never slower than ``lpt`` by these costs.

    Args:
        costs: float ``[G]``, cost of each group, in any unit.
        devices: how many train together. A device may be left without a group.
        groups_per_step: groups between two updates of the weights; the last step may have fewer.
        policy: a name of :data:`POLICIES`.
        seed: of the run.
        epoch: number of the epoch; each is shuffled anew.
        time_limit: seconds that the policy ``optimal`` may take for the epoch.

    Raises:
        ConfigError: an unknown policy, a number below 1, or costs that are not finite numbers of 0 or more.
    """
    costs = np.asarray(costs, np.float64)
    _check(costs, devices, groups_per_step, policy, epoch)
    choices, assign = POLICIES[policy]
    plans = []
    for choose in choices:
        batches = choose(costs, devices, groups_per_step, np.random.default_rng([seed % 2**64, epoch]))
        plans.append(_plan(batches, costs, devices, assign, time_limit))
    if len(plans) == 1:
        return plans[0]
    return min(plans, key=lambda plan: Balance.of(plan, costs).makespan)


def _plan(
    batches: list[np.ndarray],
    costs: np.ndarray,
    devices: int,
    assign: Callable[[np.ndarray, int, float], Assigned],
    time_limit: float,
) -> EpochPlan:
    end = time.monotonic() + time_limit
    steps, unproven = [], 0
    for at, batch in enumerate(batches):
        batch = np.sort(batch)
        left = max(0.0, end - time.monotonic()) / (len(batches) - at)
        device, proven = assign(costs[batch], devices, left)
        steps.append(_by_device(batch, device, costs, devices))
        unproven += not proven
    notes = []
    if unproven:
        notes.append(
            f"{unproven} of {len(batches)} steps are not proven optimal within {time_limit:g} s; they have "
            "the best assignment that was found, which is never worse than lpt"
        )
    return EpochPlan(steps, tuple(notes))


def _by_device(batch: np.ndarray, device: np.ndarray, costs: np.ndarray, devices: int) -> Step:
    """The groups of each device, longest first."""
    order = np.lexsort((-costs[batch], device))
    ends = np.cumsum(np.bincount(device, minlength=devices))
    return np.split(batch[order], ends[:-1])


def _check(costs: np.ndarray, devices: int, groups_per_step: int, policy: str, epoch: int) -> None:
    if policy not in POLICIES:
        raise ConfigError(f"policy {policy!r} is unknown: take one of {', '.join(POLICIES)}.")
    for name, value, least in (
        ("devices", devices, 1),
        ("groups per step", groups_per_step, 1),
        ("epoch", epoch, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}: give a whole number of {least} or more.")
    if costs.ndim != 1 or not len(costs):
        raise ConfigError(f"costs have shape {costs.shape}: give one cost for each of one or more groups.")
    bad = ~np.isfinite(costs) | (costs < 0)
    if bad.any():
        group = int(np.argmax(bad))
        raise ConfigError(f"the cost of group {group} is {costs[group]}: give finite costs of 0 or more.")
