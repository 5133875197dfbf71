"""Two sorted indices over a stream, built once at import by counting sorts (O(E), no comparisons).

Both answer "what happened before event id x" by binary search inside one node's segment.
"""

from __future__ import annotations

from collections.abc import Callable
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
def _fill_pairs(tcsr_indptr, neighbor, tcsr_event_id, cursor, partner, event_id):
    # Nodes are visited in order, so each lower id receives its partners in order, and their events in order.
    for v in range(len(tcsr_indptr) - 1):
        for i in range(tcsr_indptr[v], tcsr_indptr[v + 1]):
            u = neighbor[i]
            if u <= v:
                at = cursor[u]
                partner[at] = v
                event_id[at] = tcsr_event_id[i]
                cursor[u] = at + 1


Empty = Callable[[str, type[np.signedinteger], tuple[int, ...]], np.ndarray]
"""Makes the array for a named column; the store gives memory-mapped files."""


def _in_memory(name: str, dtype: type[np.signedinteger], shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, dtype)


def build_tcsr(src: np.ndarray, dst: np.ndarray, num_nodes: int, empty: Empty = _in_memory) -> TCSR:
    """Build the T-CSR of events that are already in time order (row number = event id).

    Args:
        src, dst: node ids, shape ``[E]``, in ``[0, num_nodes)``.
        num_nodes: number of nodes ``N``.
        empty: makes the arrays named ``indptr``, ``neighbor`` and ``event_id``; what it makes is filled.
    """
    indptr = empty("indptr", np.int64, (num_nodes + 1,))
    indptr[:] = 0
    _count_tcsr(src, dst, indptr)
    np.cumsum(indptr, out=indptr)
    neighbor = empty("neighbor", _narrow(num_nodes), (int(indptr[-1]),))
    event_id = empty("event_id", _narrow(len(src)), (int(indptr[-1]),))
    _fill_tcsr(src, dst, np.array(indptr[:-1]), neighbor, event_id)
    return TCSR(indptr, neighbor, event_id)


def build_pair_index(src: np.ndarray, dst: np.ndarray, num_nodes: int) -> PairIndex:
    """Build the pair index of events that are already in time order (row number = event id)."""
    return pair_index_of(build_tcsr(src, dst, num_nodes), src, dst)


def pair_index_of(tcsr: TCSR, src: np.ndarray, dst: np.ndarray, empty: Empty = _in_memory) -> PairIndex:
    """Build the pair index of events whose T-CSR is there already; needs no more memory than the result.

    Args:
        tcsr: T-CSR of the same events.
        src, dst: node ids, shape ``[E]``.
        empty: makes the arrays named ``indptr``, ``partner`` and ``event_id``; what it makes is filled.
    """
    indptr = empty("indptr", np.int64, (len(tcsr.indptr),))
    indptr[:] = 0
    _count_lower(src, dst, indptr)
    np.cumsum(indptr, out=indptr)
    partner = empty("partner", _narrow(len(tcsr.indptr) - 1), (len(src),))
    event_id = empty("event_id", _narrow(len(src)), (len(src),))
    _fill_pairs(tcsr.indptr, tcsr.neighbor, tcsr.event_id, np.array(indptr[:-1]), partner, event_id)
    return PairIndex(indptr, partner, event_id)
