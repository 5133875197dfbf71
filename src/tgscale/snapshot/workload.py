"""Where the time of the groups goes: fixed, ahead of the recurrence or in it, on edges or on dense work."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tgscale.errors import ConfigError
from tgscale.snapshot.cost import assumed_coefficients, step_columns
from tgscale.snapshot.groups import Groups, group_sizes
from tgscale.snapshot.profile import Profile
from tgscale.snapshot.shapes import Shape

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Workload:
    """Seconds of one device, one group after another.

    Attributes:
        groups: which steps each group holds.
        fixed: seconds per group whatever is in it, on every device that takes part in it.
        edges_ahead, dense_ahead: float64 ``[T]``, seconds of a step ahead of the recurrence.
        edges_in_loop, dense_in_loop: float64 ``[T]``, seconds of a step in the recurrence.
        scale: float64 ``[G]``; a group takes this times what its steps and ``fixed`` add up to.
    """

    groups: Groups
    fixed: float
    edges_ahead: np.ndarray
    dense_ahead: np.ndarray
    edges_in_loop: np.ndarray
    dense_in_loop: np.ndarray
    scale: np.ndarray

    @property
    def costs(self) -> np.ndarray:
        """Seconds of each group, float64 ``[G]``."""
        per_step = self.edges_ahead + self.dense_ahead + self.edges_in_loop + self.dense_in_loop
        return self.scaled(per_step) + self.scale * self.fixed

    def scaled(self, per_step: np.ndarray) -> np.ndarray:
        """What a part of the steps adds up to in each group, ``[G]``."""
        return self.scale * group_sizes(per_step, self.groups)


def make_workload(
    edges: np.ndarray,
    num_nodes: int,
    groups: Groups,
    shape: Shape,
    features: int,
    hidden: int,
    cache: bool,
    profile: Profile,
    measured: np.ndarray | None = None,
) -> Workload:
    """The work of an epoch.

    Args:
        edges: integers ``[T]``, edges of each step.
        num_nodes: N, at every step.
        groups: which steps each group holds.
        shape, features, hidden: the model, F and C.
        cache: the aggregated features are kept for the whole run.
        profile: speed of the device; without coefficients an assumed one.
        measured: float ``[G]``, seconds of each group, in place of what the coefficients give.

    Raises:
        ConfigError: measured times of another number of groups, negative or not finite.
    """
    ahead, in_loop = shape.aggregated(features, hidden, cache)
    coefficients = profile.coefficients
    if coefficients is None:
        coefficients = _assumed(shape, (ahead + in_loop) / features)
    edge_share = ahead / (ahead + in_loop) if ahead + in_loop else 1.0
    columns = step_columns(np.full(len(edges), num_nodes), edges, features, hidden)
    nodes, on_edges, product, recurrent = (columns * np.array(coefficients[1:])).T
    ahead_share = shape.ahead_products / shape.state_products if shape.state_products else 0.0
    early, late = ahead_share * recurrent, nodes + (1 - ahead_share) * recurrent
    if shape.evolving:  # the features wait for the weights
        late += product
    else:
        early += product
    parts = (edge_share * on_edges, early, (1 - edge_share) * on_edges, late)
    if profile.hoisted_share is not None:
        parts = _divide(parts, profile.hoisted_share)
    work = Workload(groups, float(coefficients[0]), *parts, np.ones(len(groups)))
    if measured is None:
        return work
    _check(measured, len(groups))
    if (work.costs == 0).any():
        raise ConfigError("the profile's coefficients give a group no time, so its measured time cannot be divided.")
    return replace(work, scale=measured / work.costs)


def _assumed(shape: Shape, aggregated: float) -> tuple[float, ...]:
    """Coefficients of the assumed device, for ``aggregated`` times F columns that are aggregated."""
    fixed, node, edge, product, square = assumed_coefficients(shape.input_products, shape.state_products).tolist()
    return fixed, node, edge * aggregated, product, square


def _divide(parts: Parts, share: float) -> Parts:
    """The same total per step, with ``share`` of it ahead of the recurrence; edges and dense work keep their ratio."""
    edges_ahead, dense_ahead, edges_in_loop, dense_in_loop = parts
    total = edges_ahead + dense_ahead + edges_in_loop + dense_in_loop
    ahead = _shared(share * total, edges_ahead, dense_ahead)
    return (*ahead, *_shared((1 - share) * total, edges_in_loop, dense_in_loop))


def _shared(total: np.ndarray, edges: np.ndarray, dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``total`` in the ratio of the two; all of it dense where both are 0."""
    both = edges + dense
    share = np.divide(edges, both, out=np.zeros_like(both), where=both > 0)
    return share * total, (1 - share) * total


def _check(measured: np.ndarray, groups: int) -> None:
    if measured.shape != (groups,):
        raise ConfigError(f"measured costs have shape {list(measured.shape)}, but there are {groups} groups.")
    bad = ~np.isfinite(measured) | (measured < 0)
    if bad.any():
        group = int(np.argmax(bad))
        raise ConfigError(f"the measured cost of group {group} is {measured[group]}: give seconds, 0 or more.")
