"""Neighbor sampling on the CPU: one compiled loop over roots, split among threads."""

from __future__ import annotations

import numba
import numpy as np

from tgscale.data.stream import EventStream
from tgscale.graph.hashing import draw_below_numba, key_numba
from tgscale.graph.parallel import parallel_lock, thread_count
from tgscale.graph.search import event_bound, lower_bound, lower_bound_near

_NO_WINDOW = np.empty(0, np.int64)


@numba.njit(nogil=True, cache=True)
def _choose_uniform(key, n, drawn, chosen):
    """Floyd's algorithm into ``drawn``, then ``chosen`` largest first.

    Both inner loops run to their end without a branch: for a handful of slots that beats stopping early by far.
    """
    k = len(drawn)
    for slot in range(k):
        last = n - k + slot
        pick = draw_below_numba(last + 1, key, slot)
        taken = False
        for earlier in range(slot):
            taken |= drawn[earlier] == pick
        drawn[slot] = last if taken else pick
    for slot in range(k):
        larger = 0
        for other in range(k):
            larger += drawn[other] > drawn[slot]
        chosen[larger] = drawn[slot]


@numba.njit(nogil=True, cache=True)
def _sample_range(
    indptr, neighbor, event_id, time, cursor, node, root_time, before, after, uniform, seed_key,
    out_node, out_event, out_time, start, stop,
):  # fmt: skip
    # Places and slots are unsigned, because Numba tests a signed index for "counts from the end" at every access.
    u64 = np.uint64
    k = out_node.shape[1]
    drawn, chosen = np.empty(k, np.int64), np.empty(k, np.int64)
    for i in range(start, stop):
        root = node[i]
        first = indptr[root]
        end = lower_bound_near(event_id, before[i], first, indptr[root + 1], cursor[root])
        cursor[root] = end
        if len(after) > 0:
            first = lower_bound(event_id, after[i], first, end)
        n = end - first
        scattered = uniform and n > k
        if scattered:
            _choose_uniform(key_numba(seed_key, root, root_time[i]), n, drawn, chosen)
        row, found = u64(i), u64(min(n, k))
        for slot in range(found):
            place = u64(first + chosen[slot]) if scattered else u64(end - 1) - slot
            event = event_id[place]
            out_node[row, slot] = neighbor[place]
            out_event[row, slot] = event
            out_time[row, slot] = time[u64(event)]
        for slot in range(found, u64(k)):
            out_node[row, slot] = 0
            out_event[row, slot] = -1
            out_time[row, slot] = 0


@numba.njit(nogil=True, cache=True, parallel=True)
def _sample_parallel(
    indptr, neighbor, event_id, time, cursor, node, root_time, before, after, uniform, seed_key,
    out_node, out_event, out_time, parts,
):  # fmt: skip
    for p in numba.prange(parts):
        _sample_range(
            indptr, neighbor, event_id, time, cursor, node, root_time, before, after, uniform, seed_key,
            out_node, out_event, out_time, len(node) * p // parts, len(node) * (p + 1) // parts,
        )  # fmt: skip


def sample_one_hop(
    stream: EventStream,
    cursor: np.ndarray,
    node: np.ndarray,
    root_time: np.ndarray,
    before: np.ndarray,
    window: int | None,
    uniform: bool,
    seed_key: np.uint64,
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Fill ``out`` (node, event, time, each ``[R, k]`` int64) for roots ``[R]`` with event bounds ``before``.

    ``cursor`` (``[N]`` int64) is where each node's last search ended: the next one starts there, since a sweep moves
    forward in time. It is a hint alone; two threads may overwrite each other's.
    """
    after = _NO_WINDOW if window is None else event_bound(stream.time, root_time - window, before)
    tcsr = stream.tcsr
    arguments = (tcsr.indptr, tcsr.neighbor, tcsr.event_id, stream.time, cursor, node, root_time, before, after)
    parts = thread_count(len(node))
    if parts == 1:
        _sample_range(*arguments, uniform, seed_key, *out, 0, len(node))
    else:
        with parallel_lock:
            _sample_parallel(*arguments, uniform, seed_key, *out, parts)
