"""Neighbor sampling on the CPU: one compiled loop over roots, split among threads."""

from __future__ import annotations

import numba
import numpy as np

from tgscale.data.stream import EventStream
from tgscale.graph.hashing import draw_numba, key_numba
from tgscale.graph.parallel import parallel_lock, thread_count
from tgscale.graph.search import event_bound, lower_bound

_NO_WINDOW = np.empty(0, np.int64)


@numba.njit(nogil=True, cache=True)
def _choose_uniform(key, n, chosen):
    """Floyd's algorithm; keeps ``chosen`` sorted, largest first, while it fills."""
    k = len(chosen)
    for slot in range(k):
        last = n - k + slot
        pick = draw_numba(key, slot) % (last + 1)
        at = 0
        while at < slot and chosen[at] > pick:
            at += 1
        if at < slot and chosen[at] == pick:
            pick, at = last, 0  # every earlier choice is below `last`
        for move in range(slot, at, -1):
            chosen[move] = chosen[move - 1]
        chosen[at] = pick


@numba.njit(nogil=True, cache=True)
def _sample_range(
    indptr, neighbor, event_id, time, node, root_time, before, after, uniform, seed_key,
    out_node, out_event, out_time, start, stop,
):  # fmt: skip
    k = out_node.shape[1]
    chosen = np.empty(k, np.int64)
    for i in range(start, stop):
        first, end = indptr[node[i]], indptr[node[i] + 1]
        end = lower_bound(event_id, before[i], first, end)
        if len(after) > 0:
            first = lower_bound(event_id, after[i], first, end)
        n = end - first
        scattered = uniform and n > k
        if scattered:
            _choose_uniform(key_numba(seed_key, node[i], root_time[i]), n, chosen)
        for slot in range(min(n, k)):
            place = first + chosen[slot] if scattered else end - 1 - slot
            event = event_id[place]
            out_node[i, slot] = neighbor[place]
            out_event[i, slot] = event
            out_time[i, slot] = time[event]
        for slot in range(min(n, k), k):
            out_node[i, slot] = 0
            out_event[i, slot] = -1
            out_time[i, slot] = 0


@numba.njit(nogil=True, cache=True, parallel=True)
def _sample_parallel(
    indptr, neighbor, event_id, time, node, root_time, before, after, uniform, seed_key,
    out_node, out_event, out_time, parts,
):  # fmt: skip
    for p in numba.prange(parts):
        _sample_range(
            indptr, neighbor, event_id, time, node, root_time, before, after, uniform, seed_key,
            out_node, out_event, out_time, len(node) * p // parts, len(node) * (p + 1) // parts,
        )  # fmt: skip


def sample_one_hop(
    stream: EventStream,
    node: np.ndarray,
    root_time: np.ndarray,
    before: np.ndarray,
    window: int | None,
    uniform: bool,
    seed_key: np.uint64,
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Fill ``out`` (node, event, time, each ``[R, k]`` int64) for roots ``[R]`` with event bounds ``before``."""
    after = _NO_WINDOW if window is None else event_bound(stream.time, root_time - window, before)
    tcsr = stream.tcsr
    arguments = (tcsr.indptr, tcsr.neighbor, tcsr.event_id, stream.time, node, root_time, before, after)
    parts = thread_count(len(node))
    if parts == 1:
        _sample_range(*arguments, uniform, seed_key, *out, 0, len(node))
    else:
        with parallel_lock:
            _sample_parallel(*arguments, uniform, seed_key, *out, parts)
