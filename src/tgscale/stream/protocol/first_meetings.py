"""The distinct directed pairs of a stream and when each first met, ordered in the two ways that negatives need."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream


class FirstMeetings:
    """Pairs ``(src, dst)`` of a stream, numbered in the order of their first events.

    Built once, in O(E log E); a batch then asks by binary search. All tensors are int64.

    Args:
        stream: the events.
        device: where the tensors lie.

    Attributes:
        pair: number of each event's pair, ``[E]``.
        first: first event of each pair, ascending, ``[P]``.
        src, dst: its ends, ``[P]``.
        by_source: pair numbers ordered by (source, first event), ``[P]``.
        place: place of each pair in :attr:`by_source`, ``[P]``.
    """

    def __init__(self, stream: EventStream, device: torch.device | str = "cpu") -> None:
        src, dst = np.asarray(stream.src, np.int64), np.asarray(stream.dst, np.int64)
        _, first, pair = np.unique(src * stream.num_nodes + dst, return_index=True, return_inverse=True)
        order = np.argsort(first)
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        first = first[order]
        by_source = np.argsort(src[first], kind="stable")
        place = np.empty_like(by_source)
        place[by_source] = np.arange(len(by_source))

        def on_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(device)

        self.pair, self.first = on_device(number[pair]), on_device(first)
        self.src, self.dst = on_device(src[first]), on_device(dst[first])
        self.by_source, self.place = on_device(by_source), on_device(place)
        self._num_events = stream.num_events
        # Ascending: one search finds how many partners a source had before an event.
        self._key = on_device(src[first][by_source] * (stream.num_events + 1) + first[by_source])

    def partners_before(self, source: Tensor, event: Tensor) -> Tensor:
        """Where in :attr:`by_source` the partners end a source met before an event, ``[B]``; 0: where they begin."""
        return torch.searchsorted(self._key, source * (self._num_events + 1) + event)
