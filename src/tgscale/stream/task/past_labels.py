"""The latest earlier events of the same pair, or of the same node, strictly before an event's own time."""

from __future__ import annotations

import torch
from torch import Tensor


class PastEvents:
    """For each event, the events before it that have the same key, such as the same source.

    One sort when it is made; a query is a few gathers, on CPU and GPU alike.

    Args:
        key: of each event in time order, ``[E]``, int64.
        time: of each event, ``[E]``, int64.
        device: where queries come from.
        known: mask of the events that may be found, ``[E]``; None for all.
    """

    def __init__(
        self, key: Tensor, time: Tensor, device: torch.device | str = "cpu", known: Tensor | None = None
    ) -> None:
        order = torch.argsort(key, stable=True)  # by key; within a key by event id, so by time
        sorted_key, sorted_time = key[order], time[order]
        begins = torch.ones(len(key), dtype=torch.bool, device=key.device)
        begins[1:] = sorted_key[1:] != sorted_key[:-1]
        steps = begins.clone()
        steps[1:] |= sorted_time[1:] != sorted_time[:-1]
        found = torch.ones_like(begins) if known is None else known[order]
        place = found.cumsum(0) - found.long()  # in the order of those that may be found
        narrow = torch.int32 if len(key) < 2**31 else torch.int64
        self._order = order[found].to(device, narrow)
        order = order.to(device)
        self._first, self._end = torch.empty((2, len(key)), dtype=narrow, device=device)
        # Where the key's events begin, and where those of the event's own time do: the past lies between.
        self._first[order] = torch.where(begins, place, 0).cummax(0).values.to(device, narrow)
        self._end[order] = torch.where(steps, place, 0).cummax(0).values.to(device, narrow)

    def latest(self, event: Tensor, count: int) -> Tensor:
        """The latest ``count`` events of each event's past, newest first, ``[B, count]``, int64; -1 where there are
        fewer.

        Args:
            event: ids, ``[B]``, int64.
        """
        first, end = self._first[event].long(), self._end[event].long()
        place = end[:, None] - 1 - torch.arange(count, device=event.device)
        return torch.where(place >= first[:, None], self._order[place.clamp(min=0)].long(), -1)
