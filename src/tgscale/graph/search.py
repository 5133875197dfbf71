"""Searching a stream's past: from a time to an event bound, from a bound to a place in a node's list.

The *event bound* of a time ``t`` is the number of events with time strictly below ``t``. Event ids are in time order,
so "strictly before ``t``" and "event id below the bound" are the same thing, ties included.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.data.index import node_blocks
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.parallel import parallel_lock, thread_count

PIECE_ROWS = 1 << 22


@numba.njit(nogil=True, cache=True)
def lower_bound(values, x, lo, hi):
    """First index in ``[lo, hi)`` whose value is not below ``x``; ``hi`` when there is none."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if values[mid] < x:
            lo = mid + 1
        else:
            hi = mid
    return lo


@numba.njit(nogil=True, cache=True)
def lower_bound_near(values, x, first, end, near):
    """As ``lower_bound`` in ``[first, end)``, but searching outwards from ``near`` in doubling steps.

    ``near`` may be any place in ``[first, end]``: it decides how long the search takes, never what it finds.
    """
    step = 1
    lo, hi = near, near
    if near < end and values[near] < x:
        lo, hi = near + 1, near + 1
        while hi < end and values[hi] < x:
            lo = hi + 1
            hi = lo + step
            step *= 2
        hi = min(hi, end)
    else:
        while lo > first and values[lo - 1] >= x:
            hi = lo - 1
            lo = max(lo - step, first)
            step *= 2
    return lower_bound(values, x, lo, hi)


@numba.njit(nogil=True, cache=True)
def _bound_range(time, query, near, bound, start, stop):
    at = 0
    for i in range(start, stop):
        # Without a hint the last answer is one: the roots of a batch have nearly the same time.
        if len(near) > 0:
            at = max(near[i], 0)
        at = lower_bound_near(time, query[i], 0, len(time), at)
        bound[i] = at


@numba.njit(nogil=True, cache=True, parallel=True)
def _bound_parallel(time, query, near, bound, parts):
    for p in numba.prange(parts):
        _bound_range(time, query, near, bound, len(query) * p // parts, len(query) * (p + 1) // parts)


_NO_HINT = np.empty(0, np.int64)


def event_bound(time: np.ndarray, query: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
    """Event bound of each query time (CPU).

    Args:
        time: the stream's times, ``[E]`` int64, non-decreasing.
        query: ``[Q]`` int64, any times in any order.
        near: ``[Q]`` int64 event ids that lie close to the answer (a hint, never part of the answer), or None.

    Returns:
        ``[Q]`` int64, the number of events strictly before each query time.
    """
    bound = np.empty(len(query), np.int64)
    near = _NO_HINT if near is None else near
    parts = thread_count(len(query))
    if parts == 1:
        _bound_range(time, query, near, bound, 0, len(query))
    else:
        with parallel_lock:
            _bound_parallel(time, query, near, bound, parts)
    return bound


@dataclass(frozen=True, eq=False)
class IndexTensors:
    """The T-CSR on a device, with one sorted key so that one ``searchsorted`` finds the past of every root.

    Attributes:
        time: ``[E]`` int64.
        indptr: ``[N + 1]`` int64.
        neighbor: ``[M]``, as narrow as stored.
        key: ``[M]`` int64, ``node * E + event id``, increasing.
    """

    time: Tensor
    indptr: Tensor
    neighbor: Tensor
    key: Tensor

    def place(self, node: Tensor, bound: Tensor) -> Tensor:
        """Index of each node's first event with id ``>= bound``: ``[Q]`` int64 into ``neighbor`` and ``key``."""
        return torch.searchsorted(self.key, node * len(self.time) + bound)


_index_tensors: WeakKeyDictionary[EventStream, dict[torch.device, IndexTensors]] = WeakKeyDictionary()


def index_tensors(stream: EventStream, device: torch.device) -> IndexTensors:
    """The index of a stream on a device; made once per stream and device and shared by all who ask.

    Raises:
        ConfigError: nodes times events exceeds what a 64-bit key holds.
    """
    made = _index_tensors.setdefault(stream, {})
    if device not in made:
        if (stream.num_nodes + 1) * stream.num_events >= 2**63:
            raise ConfigError(
                f"{stream.num_nodes} nodes x {stream.num_events} events do not fit a 64-bit key: use backend 'numba'."
            )
        tcsr = stream.tcsr
        key = torch.empty(len(tcsr.event_id), dtype=torch.int64, device=device)
        for rows, owner in owners(tcsr.indptr):
            key[rows] = torch.from_numpy(owner * stream.num_events + tcsr.event_id[rows]).to(device)
        time, indptr, neighbor = (as_tensor(column, device) for column in (stream.time, tcsr.indptr, tcsr.neighbor))
        made[device] = IndexTensors(time, indptr, neighbor, key)
    return made[device]


def owners(indptr: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """A piece of a CSR's rows at a time, whole nodes each, and the node that owns each row, int64."""
    for first, last in node_blocks(indptr, PIECE_ROWS):
        owner = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        yield slice(int(indptr[first]), int(indptr[last])), owner


def as_tensor(column: np.ndarray, device: torch.device) -> Tensor:
    """A column as a tensor; on CPU it shares the column's memory, memory-mapped and read-only as that may be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column).to(device)


def resolve_backend(backend: str, device: torch.device) -> str:
    """Turn ``"auto"`` into the fast backend of the device, and refuse one that cannot run there."""
    if backend == "auto":
        return "numba" if device.type == "cpu" else "tensor"
    if backend != "tensor" and device.type != "cpu":
        raise ConfigError(f"backend {backend!r} runs on the CPU only, not on {device}: use 'tensor' or 'auto'.")
    return backend


def check_query(device: torch.device, length: int, **columns: Tensor | None) -> None:
    """Refuse query columns that are not integer vectors of one length on ``device``.

    Raises:
        ConfigError: names the column, what it is and what it should be.
    """
    for name, column in columns.items():
        if column is None:
            continue
        check_tensor(name, column)
        if column.dtype not in (torch.int64, torch.int32):
            raise ConfigError(f"{name} is {column.dtype}: give int64.")
        if column.dim() != 1 or column.shape[0] != length:  # len() of a tensor takes microseconds
            raise ConfigError(f"{name} has shape {tuple(column.shape)}: give one dimension of length {length}.")
        if column.device != device:
            raise ConfigError(f"{name} is on {column.device}, the index on {device}: move it there first.")


def check_tensor(name: str, column: object) -> None:
    """Refuse an array, or anything else that is no tensor.

    Raises:
        ConfigError: as said.
    """
    if not isinstance(column, Tensor):
        raise ConfigError(f"{name} is a {type(column).__name__}: give a tensor, such as torch.tensor({name}).")


def check_nodes(num_nodes: int, **columns: Tensor) -> None:
    """Refuse node ids outside ``[0, num_nodes)``. On a GPU this would wait for it, so there indexing itself fails.

    Raises:
        ConfigError: names the column and its range.
    """
    for name, column in columns.items():
        if column.device.type != "cpu" or column.numel() == 0:
            continue
        low, high = (int(x) for x in torch.aminmax(column))
        if low < 0 or high >= num_nodes:
            raise ConfigError(f"{name} runs from {low} to {high}: node ids of this stream lie in [0, {num_nodes}).")
