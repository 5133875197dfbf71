"""How many events the node memory captures at each batch size (DistTGL, section 3.1).

A node keeps one mail per batch: that of its last event. So of all (node, event) incidences, those survive that are the
last of their node in their batch, and there are as many of them as distinct pairs (node, batch). The rest never reaches
the memory. It only depends on the data, so it can be counted before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from tgscale.data.files import scanning
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError

BUSY_SHARE = 0.01  # of the nodes that have events, the busiest


@dataclass(frozen=True)
class CapturedCurve:
    """What the memory captures of the training events, at some batch sizes.

    An incidence is an event at one of its nodes; a self-loop is one incidence, of its one node.

    Attributes:
        batch_sizes: ascending.
        incidences: (node, event) pairs of all training events.
        survivors: how many of them the memory captures at each batch size.
        busy_nodes: how many nodes count as busy: the busiest 1 % of those with training events, rounded up; of equally
            busy ones at the border, those with the lower ids.
        busy_incidences, busy_survivors: the same for these nodes alone.
    """

    batch_sizes: tuple[int, ...]
    incidences: int
    survivors: tuple[int, ...]
    busy_nodes: int
    busy_incidences: int
    busy_survivors: tuple[int, ...]

    @property
    def missing(self) -> tuple[float, ...]:
        """Share of all incidences that is lost, at each batch size."""
        return tuple(1 - kept / self.incidences for kept in self.survivors)

    @property
    def missing_busy(self) -> tuple[float, ...]:
        """Share of the busy nodes' incidences that is lost, at each batch size."""
        return tuple(1 - kept / self.busy_incidences for kept in self.busy_survivors)

    def largest(self, max_missing: float, max_missing_busy: float) -> int | None:
        """The largest batch size that loses no more than these shares, and no smaller one of the curve does.

        The smaller ones count because the curve may dip: a larger batch whose borders fall luckily can lose less, and a
        size that rests on such luck is not taken. None when the smallest size already loses more.
        """
        best = None
        for size, missing, busy in zip(self.batch_sizes, self.missing, self.missing_busy, strict=True):
            if missing > max_missing or busy > max_missing_busy:
                break
            best = size
        return best


def captured_curve(stream: EventStream, events: int, batch_sizes: Iterable[int]) -> CapturedCurve:
    """Count what the memory captures of the first ``events`` events.

    One pass over the T-CSR for all sizes; the T-CSR may be memory-mapped, and memory grows by 16 bytes per node.

    Args:
        stream: the events.
        events: how many of them, from the start, as ``split.train``; batches begin at event 0.
        batch_sizes: events per (global) batch; duplicates count once.

    Raises:
        ConfigError: no events, no batch size, or one below 1.
    """
    sizes = tuple(sorted(set(batch_sizes)))
    if not 0 < events <= stream.num_events:
        raise ConfigError(f"{events} events are to be counted: give 1 to {stream.num_events}.")
    if not sizes or sizes[0] < 1:
        raise ConfigError(f"batch sizes are {list(sizes)}: give at least one, and each 1 or more.")
    tcsr = stream.tcsr
    counts = np.empty(stream.num_nodes, np.int64)
    with scanning(tcsr.event_id):
        _count_events(tcsr.indptr, tcsr.event_id, events, counts)
        busy = _busiest(counts)
        survivors, busy_survivors = _count_survivors(
            tcsr.indptr, tcsr.event_id, counts, busy, np.array(sizes, dtype=np.int64)
        )
    return CapturedCurve(
        batch_sizes=sizes,
        incidences=int(counts.sum()),
        survivors=_ints(survivors),
        busy_nodes=int(busy.sum()),
        busy_incidences=int(counts[busy].sum()),
        busy_survivors=_ints(busy_survivors),
    )


def captured_of_run(stream: EventStream, events: int, batch_size: int, trainers: int) -> dict[str, Any]:
    """The curve around a run's own batch, as plain values for its result.

    Args:
        stream: the events.
        events: how many of them are trained on, from the start.
        batch_size: events per local batch.
        trainers: local batches in a global one.

    Returns:
        ``batch_sizes``, ``missing`` and ``missing_busy`` (shares of the incidences that the memory misses, at each),
        ``busy_nodes``, and the run's ``local_batch`` and ``global_batch``.
    """
    local, whole = min(batch_size, events), min(batch_size * trainers, events)
    doubling = (25 << power for power in range(40))
    sizes = [size for size in doubling if size <= max(min(events, 16 * whole), 25)]
    curve = captured_curve(stream, events, [*sizes, local, whole])
    return {
        "batch_sizes": list(curve.batch_sizes),
        "missing": list(curve.missing),
        "missing_busy": list(curve.missing_busy),
        "busy_nodes": curve.busy_nodes,
        "local_batch": local,
        "global_batch": whole,
    }


def _busiest(counts: np.ndarray) -> np.ndarray:
    """Mask ``[N]`` of the busy nodes."""
    wanted = math.ceil(BUSY_SHARE * np.count_nonzero(counts))
    border = np.partition(counts, -wanted)[-wanted]
    busy = counts > border
    busy[np.flatnonzero(counts == border)[: wanted - np.count_nonzero(busy)]] = True
    return busy


def _ints(values: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


@numba.njit(cache=True)
def _count_events(indptr, event_id, events, counts):
    """Events below ``events`` of each node: a binary search in its segment."""
    for node in range(len(counts)):
        low, high = indptr[node], indptr[node + 1]
        while low < high:
            middle = (low + high) // 2
            if event_id[middle] < events:
                low = middle + 1
            else:
                high = middle
        counts[node] = low - indptr[node]


@numba.njit(cache=True)
def _count_survivors(indptr, event_id, counts, busy, sizes):
    """Distinct (node, event // size) pairs of all nodes and of the busy ones, for each size."""
    total = np.zeros((2, len(sizes)), np.int64)
    end = np.empty(len(sizes), np.int64)
    for node in range(len(counts)):
        end[:] = 0  # where the batch of the node's latest event ends
        kind = 1 if busy[node] else 0
        for at in range(indptr[node], indptr[node] + counts[node]):
            event = event_id[at]
            for s in range(len(sizes)):
                if event >= end[s]:
                    total[kind, s] += 1
                    end[s] = (event // sizes[s] + 1) * sizes[s]
    return total[0] + total[1], total[1]
