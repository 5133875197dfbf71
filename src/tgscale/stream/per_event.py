"""What each scored event of a run came to, kept beside its result: where in the stream the model is good or bad."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tgscale.data.files import write_atomically
from tgscale.data.stream import EventStream
from tgscale.stream.scores import Scores

TEST_SCORES = "test_scores.npz"
MOST_EVENTS = 2_000_000
"""Events that are kept, some 20 MB; of a longer part every n-th one is."""


def degrees_before(src: np.ndarray, dst: np.ndarray, first: int, last: int, num_nodes: int) -> np.ndarray:
    """How many events with a lower id each endpoint of the events ``first .. last - 1`` takes part in.

    A self-loop is one event of its node. Takes one pass over the events before ``last``.

    Args:
        src, dst: endpoints of all events, in time order, ``[E]``.
        first, last: a run of events.
        num_nodes: N; takes 8 bytes each.

    Returns:
        ``[last - first, 2]``, int64: of the source and of the destination.
    """
    before = np.zeros(num_nodes, np.int64)
    for start in range(0, first, 1 << 22):
        s, d = src[start : min(start + (1 << 22), first)], dst[start : min(start + (1 << 22), first)]
        before += np.bincount(s, minlength=num_nodes) + np.bincount(d[d != s], minlength=num_nodes)
    ends = np.stack([src[first:last], dst[first:last]], axis=1).astype(np.int64)
    node = ends.ravel()
    counts = np.ones(len(node), np.int64)
    counts[1::2] = ends[:, 0] != ends[:, 1]
    order = np.argsort(node, kind="stable")
    earlier = np.cumsum(counts[order]) - counts[order]
    begins = np.r_[True, node[order][1:] != node[order][:-1]] if len(node) else np.zeros(0, bool)
    within = np.empty(len(node), np.int64)
    within[order] = earlier - np.maximum.accumulate(np.where(begins, earlier, 0))
    degree = (before[node] + within).reshape(-1, 2)
    loops = counts[1::2] == 0
    degree[loops, 1] = degree[loops, 0]
    return degree


def save_test_scores(
    run: Path, stream: EventStream, first: int, new: np.ndarray, scores: Scores, rules: Mapping[str, Scores]
) -> None:
    """Write ``test_scores.npz`` of a run directory, all at once.

    It holds ``event`` (id), ``rank`` of the true destination (1 is best, ties counting half), ``source_degree`` and
    ``destination_degree`` (events before this one), ``new_node`` (no training event touches one of the two), and
    ``rank_NAME`` for each rule; all of the same length.

    Args:
        run: the directory.
        stream: the events.
        first: id of the first scored event.
        new: mask of the scored events that touch a new node, ``[B]``.
        scores: of the model.
        rules: of each rule, on the same events.
    """
    last = first + len(scores.reciprocal_rank)
    kept = slice(None, None, -(-(last - first) // MOST_EVENTS) or 1)
    degree = degrees_before(stream.src, stream.dst, first, last, stream.num_nodes)[kept]
    columns: dict[str, np.ndarray] = {
        "event": np.arange(first, last)[kept],
        "rank": _ranks(scores)[kept],
        "source_degree": degree[:, 0],
        "destination_degree": degree[:, 1],
        "new_node": np.asarray(new, bool)[kept],
        **{f"rank_{name}": _ranks(each)[kept] for name, each in rules.items()},
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **columns)
    write_atomically(run / TEST_SCORES, buffer.getvalue())


def _ranks(scores: Scores) -> np.ndarray:
    """Multiples of one half, which float32 holds exactly up to 8 million."""
    return np.round(2 / scores.reciprocal_rank.numpy()).astype(np.float32) / 2
