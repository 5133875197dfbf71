"""The assignment with the least time of the slowest device: a mixed-integer program for HiGHS, within a time limit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from tgscale.snapshot.balance import bounds
from tgscale.snapshot.policies import Assigned, longest_first

MOST_CHOICES = 50_000
"""Groups x devices above which a program is not even set up: building it would take longer than it could help."""
GAP = 1e-6
"""Relative; what is this close to the least time counts as it."""


def least_makespan(costs: np.ndarray, devices: int, time_limit: float) -> Assigned:
    """Exact where the solver ends in time, else the best it has found, and never worse than longest first.

    With a time limit that is reached the answer depends on the machine's speed, so let one process plan for all.

    Args:
        costs: float ``[B]``.
        devices: P.
        time_limit: seconds.
    """
    greedy = longest_first(costs, devices)
    reached = _makespan(greedy.device, costs, devices)
    floor = bounds(costs, devices).makespan
    if reached <= floor * (1 + GAP):
        return greedy
    if len(costs) * devices > MOST_CHOICES or time_limit <= 0:
        return greedy._replace(proven=False)
    device, proven = _solve(costs / reached, devices, floor / reached, time_limit)
    if device is None or _makespan(device, costs, devices) >= reached:
        device = greedy.device
    return Assigned(device, proven)


def _makespan(device: np.ndarray, costs: np.ndarray, devices: int) -> float:
    return float(np.bincount(device, weights=costs, minlength=devices).max())


def _solve(costs: np.ndarray, devices: int, floor: float, time_limit: float) -> tuple[np.ndarray | None, bool]:
    """Devices, and whether nothing better exists. ``costs`` are such that a known assignment has makespan 1.

    The variables are ``x[i, p]`` (group ``i``, dearest first, on device ``p``) for ``p <= i``, and the makespan. As
    devices are alike, the i-th group may be held to the first i: that leaves one of the many equal assignments.
    """
    order = np.argsort(-costs, kind="stable")
    i, p = np.nonzero(np.arange(devices) <= np.arange(len(costs))[:, None])
    x = np.arange(len(i))
    once = coo_array((np.ones(len(x)), (i, x)), shape=(len(costs), len(x) + 1))
    rows, columns = np.r_[p, np.arange(devices)], np.r_[x, np.full(devices, len(x))]
    load = coo_array((np.r_[costs[order][i], -np.ones(devices)], (rows, columns)), shape=(devices, len(x) + 1))
    with _without_prints():
        result = milp(
            c=np.r_[np.zeros(len(x)), 1.0],
            integrality=np.r_[np.ones(len(x)), 0],
            bounds=Bounds(np.r_[np.zeros(len(x)), floor], np.r_[np.ones(len(x)), 1 + GAP]),
            constraints=[LinearConstraint(csr_array(once), 1, 1), LinearConstraint(csr_array(load), -np.inf, 0)],
            options={"time_limit": time_limit, "mip_rel_gap": GAP},
        )
    if result.x is None:
        return None, False
    device = np.empty(len(costs), np.int64)
    chosen = np.zeros((len(costs), devices))
    chosen[i, p] = result.x[:-1]
    device[order] = chosen.argmax(axis=1)
    return device, result.status == 0


@contextlib.contextmanager
def _without_prints() -> Iterator[None]:
    """HiGHS prints a line at times, whatever its options say, which would end up amid the JSON of a command."""
    c = ctypes.CDLL(None)
    sys.stdout.flush()
    c.fflush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        c.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
