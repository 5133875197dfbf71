"""Batches of new events in time order, and the rows that are scored before each enters the memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgscale.data.following import Rows

QUERIES = 1 << 10
"""Queries of a step, at most: the state is saved between steps alone."""


@dataclass(frozen=True)
class Step:
    """Rows ``[low, high)`` are scored; then the events ``[start, stop)`` of the stream enter the memory."""

    start: int
    stop: int
    low: int
    high: int


def steps_of_events(spans: list[tuple[int, int]], most: int | None = None) -> list[Step]:
    """Each new event is scored in its batch, as in an evaluation.

    Args:
        spans: the batches of new events, as event ids of the stream.
        most: rows of a step, at most, where a batch may be cut.
    """
    first = spans[0][0]
    steps = [Step(start, stop, start - first, stop - first) for start, stop in spans]
    return steps if most is None else [part for step in steps for part in _cut(step, most)]


def steps_of_queries(
    spans: list[tuple[int, int]], time: np.ndarray, queries: Rows, most: int | None = None
) -> list[Step]:
    """A query is answered before the batch that holds the first event not before it; after all events, if none is.

    Args:
        spans: the batches of new events, as event ids of the stream; may be empty.
        time: of all events of the stream.
        queries: in time order, none older than the event before the first batch.
        most: queries of a step, at most; ``QUERIES`` unless given.
    """
    before = np.searchsorted(time, queries.time)
    starts = np.array([start for start, _ in spans], np.int64)
    batch = np.maximum(np.searchsorted(starts, before, side="right") - 1, 0)
    batch[before == len(time)] = len(spans)
    low = np.searchsorted(batch, np.arange(len(spans) + 1)).tolist()
    steps = [Step(*span, low[i], low[i + 1]) for i, span in enumerate(spans)]
    steps.append(Step(len(time), len(time), low[-1], len(queries.time)))
    return [part for step in steps for part in _cut(step, min(most or QUERIES, QUERIES))]


def _cut(step: Step, most: int) -> list[Step]:
    """The step in steps of at most ``most`` rows; the events enter the memory after the last of them."""
    lows = range(step.low, step.high - most, most)
    first = [Step(step.start, step.start, low, low + most) for low in lows]
    return [*first, Step(step.start, step.stop, step.low + most * len(lows), step.high)]
