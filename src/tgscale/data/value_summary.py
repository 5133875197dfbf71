"""What the values of a stream's columns are like: edge features, classes by name, events that stand there twice."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tgscale.data.store import read_meta
from tgscale.data.stream import MARK_EVENTS, EventStream

FEATURE_EVENTS = 1_000_000
"""At most so many events, the first ones, are looked at for what their features are like."""
CHUNK_VALUES = 1 << 20


def describe_features(stream: EventStream) -> dict[str, Any] | None:
    """What each edge feature is like over the first :data:`FEATURE_EVENTS` events; None where there are none."""
    table = stream.edge_features
    if table is None or not table.shape[1]:
        return None
    rows, width = min(len(table), FEATURE_EVENTS), table.shape[1]
    low, high, total = np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width)
    zeros, finite = np.zeros(width, np.int64), np.zeros(width, np.int64)
    step = max(1, CHUNK_VALUES // width)
    for at in range(0, rows, step):
        values = np.asarray(table[at : min(at + step, rows)], np.float64)
        usable = np.isfinite(values)
        low = np.minimum(low, np.where(usable, values, np.inf).min(axis=0))
        high = np.maximum(high, np.where(usable, values, -np.inf).max(axis=0))
        total += np.where(usable, values, 0).sum(axis=0)
        zeros += np.count_nonzero(values == 0, axis=0)
        finite += np.count_nonzero(usable, axis=0)
    each = [
        {
            "name": name,
            "min": float(low[i]) if finite[i] else None,
            "mean": float(total[i] / finite[i]) if finite[i] else None,
            "max": float(high[i]) if finite[i] else None,
            "zeros": int(zeros[i]),
            "not_finite": int(rows - finite[i]),
        }
        for i, name in enumerate(_feature_names(stream, width))
    ]
    return {"events": rows, "of": len(table), "each": each}


def _feature_names(stream: EventStream, width: int) -> list[str]:
    """Names of the source's columns, where each is one feature; else ``f0, f1, ..``."""
    source = (read_meta(stream.path).get("source") if stream.path else None) or {}
    names = (source.get("columns") or {}).get("edge_features") or []
    return list(names) if len(names) == width else [f"f{i}" for i in range(width)]


def count_classes(stream: EventStream) -> dict[str, dict[str, int]]:
    """For each column whose classes have names, how many events or nodes are of each."""
    counts = {}
    for column, names in stream.classes.items():
        values = getattr(stream, column)
        if values is None:
            continue
        found = np.zeros(len(names), np.int64)
        for at in range(0, len(values), MARK_EVENTS):
            part = np.asarray(values[at : at + MARK_EVENTS])
            if part.ndim == 2:
                found += part.sum(axis=0, dtype=np.int64)
            else:
                found += np.bincount(part[part >= 0], minlength=len(names))
        counts[column] = dict(zip(names, found.tolist(), strict=True))
    return counts


def count_duplicates(stream: EventStream) -> int:
    """Events that have source, destination and time of an earlier row."""
    index = stream.pairs
    return int(_count_duplicates(index.indptr, index.partner, index.event_id, stream.src, stream.time))


@numba.njit(cache=True)
def _count_duplicates(indptr, partner, event_id, src, time):
    duplicates = 0
    for u in range(len(indptr) - 1):
        ahead, back = 0, 0  # events of this pair and time, one way and the other
        for i in range(indptr[u], indptr[u + 1]):
            if i == indptr[u] or partner[i] != partner[i - 1] or time[event_id[i]] != time[event_id[i - 1]]:
                ahead, back = 0, 0
            if src[event_id[i]] == u:
                duplicates += ahead > 0
                ahead += 1
            else:
                duplicates += back > 0
                back += 1
    return duplicates
