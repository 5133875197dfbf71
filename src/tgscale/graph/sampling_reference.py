"""What neighbor sampling means, in plain NumPy. The fast paths give these answers, bit for bit."""

from __future__ import annotations

import numpy as np

from tgscale.data.stream import EventStream
from tgscale.graph.hashing import draw_below


def past_places(stream: EventStream, node: int, time: int, window: int | None) -> np.ndarray:
    """Places in the T-CSR of the node's events with ``time - window <= event time < time``, oldest first."""
    places = np.arange(stream.tcsr.indptr[node], stream.tcsr.indptr[node + 1])
    when = stream.time[stream.tcsr.event_id[places]]
    past = when < time
    if window is not None:
        past &= when >= time - window
    return places[past]


def floyd(n: int, k: int, seed: int, node: int, time: int) -> list[int]:
    """``k`` distinct numbers below ``n > k``, each set equally likely (Floyd's algorithm), largest first."""
    chosen: list[int] = []
    for slot in range(k):
        last = n - k + slot
        pick = draw_below(last + 1, seed, node, time, slot)
        chosen.append(last if pick in chosen else pick)
    return sorted(chosen, reverse=True)


def sample_one_hop(
    stream: EventStream, node: np.ndarray, time: np.ndarray, k: int, strategy: str, window: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbors, event ids and event times, each ``[R, k]`` int64, of roots ``[R]``."""
    out_node = np.zeros((len(node), k), np.int64)
    out_event = np.full((len(node), k), -1, np.int64)
    out_time = np.zeros((len(node), k), np.int64)
    for root, (u, t) in enumerate(zip(node.tolist(), time.tolist(), strict=True)):
        places = past_places(stream, u, t, window)
        if strategy == "recent" or len(places) <= k:
            places = places[::-1][:k]
        else:
            places = places[floyd(len(places), k, seed, u, t)]
        event = stream.tcsr.event_id[places]
        out_node[root, : len(places)] = stream.tcsr.neighbor[places]
        out_event[root, : len(places)] = event
        out_time[root, : len(places)] = stream.time[event]
    return out_node, out_event, out_time
