"""What a snapshot group costs to train: from its sizes, from sizes fitted to measured times, or as measured.

``cost = a0 + a1 * sum N_t + a2 * sum E_t F + a3 * sum N_t F C + a4 * sum N_t C^2`` over the steps t of a group, with
N_t nodes, E_t edges, F features and hidden width C: a group's fixed cost, work per node, aggregation, and the dense
products of features and of the hidden state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls

from tgscale.snapshot.groups import Groups, group_sizes

COLUMNS = ("group", "nodes", "edges x F", "nodes x F x C", "nodes x C x C")
SMOOTHING = 0.5
RIDGE = 1e-5

# A device of which nothing is known: 1 TB/s of memory, 10 TFLOP/s, and 0.5 ms to launch a group's kernels. Training
# reads and writes a feature of an edge's source twice forward and twice backward, touches about 100 bytes of a node
# besides, and takes 3 products (one forward, two backward) of 2 FLOP per multiplication.
ASSUMED_BYTES_PER_SECOND, ASSUMED_FLOPS, ASSUMED_LAUNCH = 1e12, 1e13, 5e-4
ASSUMED_BYTES_PER_EDGE, ASSUMED_BYTES_PER_NODE, FLOP_PER_PRODUCT = 16, 100, 6


def assumed_coefficients(input_products: int = 3, state_products: int = 3) -> np.ndarray:
    """``a0 .. a4`` in seconds for the device that is assumed where nothing was measured, float64 ``[5]``.

    Args:
        input_products: products of F x C per node; 3 in a GRU.
        state_products: products of C x C per node; 3 in a GRU.
    """
    product = FLOP_PER_PRODUCT / ASSUMED_FLOPS
    per_node, per_edge = (size / ASSUMED_BYTES_PER_SECOND for size in (ASSUMED_BYTES_PER_NODE, ASSUMED_BYTES_PER_EDGE))
    return np.array([ASSUMED_LAUNCH, per_node, per_edge, input_products * product, state_products * product])


def step_columns(nodes: np.ndarray, edges: np.ndarray, features: int, hidden: int) -> np.ndarray:
    """What each step adds to ``a1 .. a4``, int64 ``[T, 4]``.

    Args:
        nodes: integers ``[T]``, nodes of each step.
        edges: integers ``[T]``, stored edges of each step.
        features: F, columns that are aggregated.
        hidden: C, width of the hidden state.
    """
    nodes, edges = np.asarray(nodes, np.int64), np.asarray(edges, np.int64)
    return np.stack([nodes, edges * features, nodes * features * hidden, nodes * hidden * hidden], axis=1)


def cost_columns(nodes: np.ndarray, edges: np.ndarray, groups: Groups, features: int, hidden: int) -> np.ndarray:
    """What ``a0 .. a4`` are multiplied with, float64 ``[G, 5]``. See :func:`step_columns`."""
    sums = group_sizes(step_columns(nodes, edges, features, hidden), groups)
    return np.column_stack([np.ones(len(groups)), sums]).astype(np.float64)


class Fit(NamedTuple):
    """How well the sizes explain the measured times.

    Attributes:
        coefficients: float64 ``[5]``, not negative.
        r2: share of the variance between groups that is explained; 1 where all took the same time.
        relative_error: mean of ``|fitted - measured| / measured``.
        groups: how many were measured.
    """

    coefficients: np.ndarray
    r2: float
    relative_error: float
    groups: int


class CostModel:
    """Costs of all groups: measured where there is a measurement, from fitted sizes elsewhere.

    Before anything was measured the costs are those of an assumed device, so only their ratios mean something.

    Args:
        columns: float ``[G, 5]`` of :func:`cost_columns`; any columns do, also equal or zero ones.
        smoothing: weight of a new measurement of a group against its older ones, in (0, 1].
        prior: coefficients before anything was measured, ``[5]``; :func:`assumed_coefficients` unless given. Where the
            measurements cannot tell columns apart, a fit keeps to their ratios.
    """

    def __init__(self, columns: np.ndarray, smoothing: float = SMOOTHING, prior: np.ndarray | None = None) -> None:
        if not 0 < smoothing <= 1:
            raise ValueError(f"smoothing is {smoothing}: give a weight above 0 and up to 1")
        self.columns = np.asarray(columns, np.float64)
        self.smoothing = smoothing
        self.prior = assumed_coefficients() if prior is None else np.asarray(prior, np.float64)
        if self.columns.ndim != 2 or self.prior.shape != self.columns.shape[1:]:
            raise ValueError(f"columns are {self.columns.shape}, coefficients {self.prior.shape}: need [G, K] and [K]")
        self.coefficients = self.prior.copy()
        self.measured = np.full(len(self.columns), np.nan)
        self._stale = False

    def update(self, groups: np.ndarray, seconds: np.ndarray) -> None:
        """Take in measured times; the next :meth:`predict` fits to them.

        Args:
            groups: integers ``[n]``, each group once.
            seconds: ``[n]``, training time of each.
        """
        groups, seconds = np.asarray(groups, np.int64), np.asarray(seconds, np.float64)
        if groups.shape != seconds.shape or groups.ndim != 1:
            raise ValueError(f"groups are {groups.shape}, seconds {seconds.shape}: give one time for each group")
        if not np.isfinite(seconds).all() or (seconds < 0).any():
            raise ValueError("a measured time is negative or not finite")
        old = self.measured[groups]
        self.measured[groups] = np.where(np.isnan(old), seconds, old + self.smoothing * (seconds - old))
        self._stale = self._stale or len(groups) > 0

    @property
    def any_measured(self) -> bool:
        """Whether there is anything to fit to."""
        return bool(np.isfinite(self.measured).any())

    def fit(self) -> Fit:
        """Fit the coefficients to all that was measured, by non-negative least squares.

        Raises:
            ValueError: nothing was measured.
        """
        seen = np.flatnonzero(~np.isnan(self.measured))
        if not len(seen):
            raise ValueError("no group was measured, so there is nothing to fit to")
        columns, seconds = self.columns[seen], self.measured[seen]
        self.coefficients = fit_coefficients(columns, seconds, self.prior)
        self._stale = False
        error = columns @ self.coefficients - seconds
        spread = np.sum((seconds - seconds.mean()) ** 2)
        constant = spread <= 1e-12 * np.sum(seconds**2)
        timed = seconds > 0
        relative = np.abs(error[timed]) / seconds[timed]
        return Fit(
            self.coefficients,
            r2=1.0 if constant else float(1 - np.sum(error**2) / spread),
            relative_error=float(relative.mean()) if timed.any() else 0.0,
            groups=len(seen),
        )

    def predict(self) -> np.ndarray:
        """Cost of each group in seconds, float64 ``[G]``."""
        if self._stale:
            self.fit()
        return np.where(np.isnan(self.measured), self.columns @ self.coefficients, self.measured)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"measured": torch.from_numpy(self.measured.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken.

        Raises:
            ValueError: the state is that of another number of groups.
        """
        measured = state["measured"].numpy().astype(np.float64)
        if measured.shape != self.measured.shape:
            raise ValueError(f"the state has {len(measured)} groups, this model {len(self.measured)}")
        self.measured, self.coefficients = measured.copy(), self.prior.copy()
        self._stale = bool(np.isfinite(measured).any())


def fit_coefficients(columns: np.ndarray, seconds: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Non-negative coefficients of least squared error, float64 ``[K]``.

    Columns are scaled to length 1 first, or sizes of 1e12 beside a column of ones would cost all precision. A weak pull
    to the prior, scaled to the same total, decides what the times leave open: columns that always go together, or that
    are 0.

    Args:
        columns: float ``[n, K]``.
        seconds: float ``[n]``.
        prior: float ``[K]``, not negative.
    """
    size = float(np.linalg.norm(seconds))
    if size == 0:
        return np.zeros_like(prior)
    length = np.linalg.norm(columns, axis=0)
    length = np.where(length > 0, length, 1.0)
    guess = columns @ prior
    square = float(guess @ guess)
    pulled = prior * (float(guess @ seconds) / square if square else 1.0) * length / size
    measured = np.column_stack([columns / length, seconds / size])
    if len(measured) > measured.shape[1]:
        measured = np.asarray(np.linalg.qr(measured, mode="r"))  # the same least squares in K + 1 rows
    table = np.concatenate([measured, RIDGE * np.column_stack([np.eye(len(prior)), pulled])])
    solution, _ = nnls(table[:, :-1], table[:, -1], maxiter=100 * len(prior))
    return solution * size / length
