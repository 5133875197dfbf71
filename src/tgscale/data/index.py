"""Two sorted indices over a stream, built once at import by counting sorts (O(E), no comparisons).

Both answer "what happened before event id x" by binary search inside one node's segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np


@dataclass(frozen=True, eq=False)
class TCSR:
    """Temporal CSR: each node's events in time order. A self-loop stands once in its node's list.

    Attributes:
        indptr: shape ``[N + 1]``, int64; node ``u`` owns ``indptr[u]:indptr[u + 1]``.
        neighbor: the node at the other end, shape ``[M]``, int32 or int64, ``M <= 2 E``.
        event_id: shape ``[M]``, int32 or int64, increasing within a node.
    """

    indptr: np.ndarray
    neighbor: np.ndarray
    event_id: np.ndarray


@dataclass(frozen=True, eq=False)
class PairIndex:
    """Each unordered pair's events, in time order, under the smaller of the two node ids.

    Attributes:
        indptr: shape ``[N + 1]``, int64; the smaller id of the pair owns ``indptr[u]:indptr[u + 1]``.
        partner: the larger id, shape ``[E]``, non-decreasing within a node.
        event_id: shape ``[E]``, increasing within a (node, partner) run.
    """

    indptr: np.ndarray
    partner: np.ndarray
    event_id: np.ndarray


def _narrow(limit: int) -> type[np.signedinteger]:
    return np.int32 if limit < 2**31 else np.int64


@numba.njit(cache=True)
def _fill_tcsr(src, dst, cursor, neighbor, event_id):
    for e in range(len(src)):
        u, v = src[e], dst[e]
        at = cursor[u]
        neighbor[at] = v
        event_id[at] = e
        cursor[u] = at + 1
        if u != v:
            at = cursor[v]
            neighbor[at] = u
            event_id[at] = e
            cursor[v] = at + 1


@numba.njit(cache=True)
def _count_tcsr(src, dst, indptr):
    for e in range(len(src)):
        indptr[src[e] + 1] += 1
        if src[e] != dst[e]:
            indptr[dst[e] + 1] += 1


@numba.njit(cache=True)
def _count_lower(src, dst, indptr):
    for e in range(len(src)):
        indptr[min(src[e], dst[e]) + 1] += 1


@numba.njit(cache=True)
def _count_upper(src, dst, start):
    for e in range(len(src)):
        start[max(src[e], dst[e]) + 1] += 1


@numba.njit(cache=True)
def _order_by_upper(src, dst, cursor, order):
    for e in range(len(src)):
        v = max(src[e], dst[e])
        order[cursor[v]] = e
        cursor[v] += 1


@numba.njit(cache=True)
def _fill_pairs(src, dst, order, cursor, partner, event_id):
    # `order` is sorted by (upper, event); a stable pass over it by the lower id leaves (lower, upper, event).
    for i in range(len(order)):
        e = order[i]
        u, v = min(src[e], dst[e]), max(src[e], dst[e])
        at = cursor[u]
        partner[at] = v
        event_id[at] = e
        cursor[u] = at + 1


def build_tcsr(src: np.ndarray, dst: np.ndarray, num_nodes: int) -> TCSR:
    """Build the T-CSR of events that are already in time order (row number = event id)."""
    indptr = np.zeros(num_nodes + 1, np.int64)
    _count_tcsr(src, dst, indptr)
    np.cumsum(indptr, out=indptr)
    neighbor = np.empty(indptr[-1], _narrow(num_nodes))
    event_id = np.empty(indptr[-1], _narrow(len(src)))
    _fill_tcsr(src, dst, indptr[:-1].copy(), neighbor, event_id)
    return TCSR(indptr, neighbor, event_id)


def build_pair_index(src: np.ndarray, dst: np.ndarray, num_nodes: int) -> PairIndex:
    """Build the pair index of events that are already in time order (row number = event id)."""
    start = np.zeros(num_nodes + 1, np.int64)
    _count_upper(src, dst, start)
    order = np.empty(len(src), _narrow(len(src)))
    _order_by_upper(src, dst, np.cumsum(start)[:-1], order)
    indptr = np.zeros(num_nodes + 1, np.int64)
    _count_lower(src, dst, indptr)
    np.cumsum(indptr, out=indptr)
    partner = np.empty(len(src), _narrow(num_nodes))
    event_id = np.empty(len(src), _narrow(len(src)))
    _fill_pairs(src, dst, order, indptr[:-1].copy(), partner, event_id)
    return PairIndex(indptr, partner, event_id)
