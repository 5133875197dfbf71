"""First times: of each node, the events in which it met a partner it had not met, and those that brought a newcomer.

Both are parts of the node's list in the T-CSR. Whether an event is a first time depends on events before it alone (of
equal times the lower event id came first), so "how many before t" tells nothing of the future.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from tgscale.data.stream import EventStream
from tgscale.graph.search import owners


@dataclass(frozen=True, eq=False)
class FirstEvents:
    """Some of each node's events, in order.

    Attributes:
        indptr: ``[N + 1]``, int64; node ``u`` owns ``indptr[u]:indptr[u + 1]``.
        event_id: as narrow as in the T-CSR, increasing within a node.
    """

    indptr: np.ndarray
    event_id: np.ndarray


_made: WeakKeyDictionary[EventStream, tuple[FirstEvents, FirstEvents]] = WeakKeyDictionary()


def first_events(stream: EventStream) -> tuple[FirstEvents, FirstEvents]:
    """Each node's first meetings, and its meetings with newcomers; made once per stream.

    Returns:
        The events that are the first of their pair, in either direction; and those that are the first ever of the node
        at the other end. A self-loop counts as a meeting with itself.
    """
    if stream not in _made:
        first = _first_of_pair(stream)
        tcsr = stream.tcsr
        seen = np.diff(tcsr.indptr) > 0
        debut = np.full(stream.num_nodes, -1, np.int64)  # each node's first event
        debut[seen] = tcsr.event_id[tcsr.indptr[:-1][seen]]
        _made[stream] = (
            _part(stream, lambda rows: first[tcsr.event_id[rows]]),
            _part(stream, lambda rows: debut[tcsr.neighbor[rows]] == tcsr.event_id[rows]),
        )
    return _made[stream]


def _first_of_pair(stream: EventStream) -> np.ndarray:
    """Mask ``[E]`` of the events before which their pair had none."""
    index, first = stream.pairs, np.zeros(stream.num_events, bool)
    for rows, owner in owners(index.indptr):
        partner = index.partner[rows]
        starts = np.ones(len(partner), bool)
        starts[1:] = (partner[1:] != partner[:-1]) | (owner[1:] != owner[:-1])
        first[index.event_id[rows][starts]] = True
    return first


def _part(stream: EventStream, chosen: Callable[[slice], np.ndarray]) -> FirstEvents:
    """The rows of the T-CSR that are chosen, a piece at a time."""
    tcsr = stream.tcsr
    count, kept = np.zeros(stream.num_nodes + 1, np.int64), [tcsr.event_id[:0]]
    for rows, owner in owners(tcsr.indptr):
        keep = chosen(rows)
        if len(owner):
            low, high = int(owner[0]), int(owner[-1])
            count[low + 1 : high + 2] += np.bincount(owner[keep] - low, minlength=high - low + 1)
        kept.append(tcsr.event_id[rows][keep])
    return FirstEvents(np.cumsum(count), np.concatenate(kept))
