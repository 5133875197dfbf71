"""Two sorted indices over a stream, built once at import by counting sorts (O(E), no comparisons).

Both answer "what happened before event id x" by binary search inside one node's segment.

Large indices are filled a block of nodes at a time, each in a pass over all events, so that writes scatter over no more
than a block and the pages of memory-mapped columns can be let go in between: what is resident does not grow with E.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numba
import numpy as np

from tgscale.data.files import release_pages

BLOCK_ROWS = 1 << 26
PIECE_EVENTS = 1 << 24


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


def narrow(limit: int) -> type[np.signedinteger]:
    """The narrowest of the stored integer types that holds numbers below ``limit``."""
    return np.int32 if limit < 2**31 else np.int64


@numba.njit(cache=True)
def _fill_tcsr(src, dst, first_event, first, last, cursor, neighbor, event_id):
    """Rows of the nodes ``[first, last)`` from a piece of the events."""
    for e in range(len(src)):
        u, v = src[e], dst[e]
        if first <= u < last:
            at = cursor[u]
            neighbor[at] = v
            event_id[at] = first_event + e
            cursor[u] = at + 1
        if first <= v < last and u != v:
            at = cursor[v]
            neighbor[at] = u
            event_id[at] = first_event + e
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
def _fill_pairs(tcsr_indptr, neighbor, tcsr_event_id, start, stop, first, last, cursor, partner, event_id):
    """Rows of the lower ids ``[first, last)`` from the lists of the nodes ``[start, stop)``."""
    # Nodes are visited in order, so each lower id receives its partners in order, and their events in order.
    for v in range(start, stop):
        for i in range(tcsr_indptr[v], tcsr_indptr[v + 1]):
            u = neighbor[i]
            if first <= u < last and u <= v:
                at = cursor[u]
                partner[at] = v
                event_id[at] = tcsr_event_id[i]
                cursor[u] = at + 1


def _pieces(src: np.ndarray, dst: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First event, sources and destinations of consecutive pieces, whose pages are let go afterwards."""
    for first in range(0, len(src), PIECE_EVENTS):
        yield first, src[first : first + PIECE_EVENTS], dst[first : first + PIECE_EVENTS]
        release_pages(src, dst)


def node_blocks(indptr: np.ndarray, rows: int) -> Iterator[tuple[int, int]]:
    """Consecutive runs ``[first, last)`` of nodes that own no more than so many rows, or are a single node."""
    first, nodes = 0, len(indptr) - 1
    while first < nodes:
        last = int(np.searchsorted(indptr, indptr[first] + rows, side="right")) - 1
        yield first, (last := min(max(last, first + 1), nodes))
        first = last


Empty = Callable[[str, type[np.signedinteger], tuple[int, ...]], np.ndarray]
"""Makes the array for a named column; the store gives memory-mapped files."""


def in_memory(name: str, dtype: type[np.signedinteger], shape: tuple[int, ...]) -> np.ndarray:
    """An array of the program's own."""
    return np.empty(shape, dtype)


def build_tcsr(src: np.ndarray, dst: np.ndarray, num_nodes: int, empty: Empty = in_memory) -> TCSR:
    """Build the T-CSR of events that are already in time order (row number = event id).

    Args:
        src, dst: node ids, shape ``[E]``, in ``[0, num_nodes)``.
        num_nodes: number of nodes ``N``.
        empty: makes the arrays named ``indptr``, ``neighbor`` and ``event_id``; what it makes is filled.
    """
    indptr = empty("indptr", np.int64, (num_nodes + 1,))
    indptr[:] = 0
    for _, sources, destinations in _pieces(src, dst):
        _count_tcsr(sources, destinations, indptr)
    np.cumsum(indptr, out=indptr)
    neighbor = empty("neighbor", narrow(num_nodes), (int(indptr[-1]),))
    event_id = empty("event_id", narrow(len(src)), (int(indptr[-1]),))
    cursor = np.array(indptr[:-1])
    for first, last in node_blocks(indptr, BLOCK_ROWS):
        for first_event, sources, destinations in _pieces(src, dst):
            _fill_tcsr(sources, destinations, first_event, first, last, cursor, neighbor, event_id)
        release_pages(neighbor, event_id)
    return TCSR(indptr, neighbor, event_id)


def build_pair_index(src: np.ndarray, dst: np.ndarray, num_nodes: int) -> PairIndex:
    """Build the pair index of events ``[E]`` that are already in time order (row number = event id)."""
    return pair_index_of(build_tcsr(src, dst, num_nodes), src, dst)


def pair_index_of(tcsr: TCSR, src: np.ndarray, dst: np.ndarray, empty: Empty = in_memory) -> PairIndex:
    """Build the pair index of events whose T-CSR is there already; needs no more memory than the result.

    Args:
        tcsr: T-CSR of the same events.
        src, dst: node ids, shape ``[E]``.
        empty: makes the arrays named ``indptr``, ``partner`` and ``event_id``; what it makes is filled.
    """
    indptr = empty("indptr", np.int64, (len(tcsr.indptr),))
    indptr[:] = 0
    for _, sources, destinations in _pieces(src, dst):
        _count_lower(sources, destinations, indptr)
    np.cumsum(indptr, out=indptr)
    partner = empty("partner", narrow(len(tcsr.indptr) - 1), (len(src),))
    event_id = empty("event_id", narrow(len(src)), (len(src),))
    cursor = np.array(indptr[:-1])
    for first, last in node_blocks(indptr, BLOCK_ROWS):
        for start, stop in node_blocks(tcsr.indptr, BLOCK_ROWS):
            lists = (tcsr.indptr, tcsr.neighbor, tcsr.event_id, start, stop)
            _fill_pairs(*lists, first, last, cursor, partner, event_id)
            release_pages(tcsr.neighbor, tcsr.event_id)
        release_pages(partner, event_id)
    return PairIndex(indptr, partner, event_id)
