"""What all groups of pair features start from: the latest events of both ends, and of the pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.graph.history import History

WINDOW = 32
"""Latest events of a node that are looked at."""
MEETINGS = 8
"""Latest events of a pair that are looked at."""
NEVER = 1.2
"""Scaled time since an event that there is not: a bit longer than the stream."""


class Recent(NamedTuple):
    """The latest events of some nodes, latest first.

    Attributes:
        total: of all events before the query, ``[...]``.
        partner: the node at the other end, ``[..., WINDOW]``, -1 where there is none.
        event: ids, ``[..., WINDOW]``, -1 where there is none.
    """

    total: Tensor
    partner: Tensor
    event: Tensor


@dataclass(frozen=True, eq=False)
class Clock:
    """What events' times and ends are, on the device.

    Attributes:
        time: ``[E]``, int64; src: ``[E]``.
        day: length of a day in the stream's time unit, 0 where that is not a unit of time.
    """

    time: Tensor
    src: Tensor
    day: int


class PairQuery:
    """Sources, their candidates and query times, with what is found of them; each part is looked up when first used.

    Args:
        history: answers with events strictly before the query.
        clock: times and sources of events.
        scale: of ``log1p`` of a time difference.
        source: ``[B]``; candidate: ``[B, C]``; time: ``[B]``; before: event bounds of the times, ``[B]``.
    """

    def __init__(
        self,
        history: History,
        clock: Clock,
        scale: float,
        source: Tensor,
        candidate: Tensor,
        time: Tensor,
        before: Tensor,
    ) -> None:
        self.history, self.clock, self.scale = history, clock, scale
        self.source, self.candidate, self.time, self.before = source, candidate, time, before
        self.wide_before = before[:, None].expand_as(candidate).reshape(-1)

    @cached_property
    def of_source(self) -> Recent:
        """The source's latest events, ``[B, WINDOW]``."""
        return Recent(*self.history.recent(self.source, WINDOW, self.before))

    @cached_property
    def of_candidate(self) -> Recent:
        """The candidates' latest events, ``[B, C, WINDOW]``."""
        found = self.history.recent(self.candidate.reshape(-1), WINDOW, self.wide_before)
        return Recent(*(x.unflatten(0, self.candidate.shape) for x in found))

    @cached_property
    def meetings(self) -> Tensor:
        """The pairs' latest events, ``[B, C, MEETINGS]``, -1 where there is none."""
        source = self.source[:, None].expand_as(self.candidate).reshape(-1)
        found = self.history.meetings(source, self.candidate.reshape(-1), MEETINGS, self.wide_before)
        return found.unflatten(0, self.candidate.shape)

    def since(self, event: Tensor) -> Tensor:
        """Log-scaled time from each event to the query, ``[B, ...]`` float64; ``NEVER`` where there is no event."""
        time = self.time.reshape(-1, *[1] * (event.dim() - 1))
        gap = (time - self.clock.time[event.clamp(min=0)]).double().log1p() * self.scale
        return torch.where(event >= 0, gap, NEVER)

    def empty(self, columns: int) -> Tensor:
        """Room for features, ``[B, C, columns]`` zeros."""
        return torch.zeros(*self.candidate.shape, columns)


class Group(NamedTuple):
    """A group of pair features. Both ways compute in float64 and round once, so they give the same float32.

    Attributes:
        names: of its columns.
        fast: ``[B, C, len(names)]`` of a query, by a kernel on the CPU.
        plain: the same in tensors of fixed shapes, on any device.
    """

    names: tuple[str, ...]
    fast: Callable[[PairQuery], Tensor]
    plain: Callable[[PairQuery], Tensor]


def arrays(*columns: Tensor) -> list[np.ndarray]:
    """Tensors for a kernel."""
    return [column.contiguous().numpy() for column in columns]


def columns_of(query: PairQuery, *columns: Tensor) -> Tensor:
    """Columns ``[B, C]``, or ``[B, 1]`` where all candidates share them, side by side: float32."""
    return torch.stack([column.float().expand_as(query.candidate) for column in columns], dim=-1)


@numba.njit(nogil=True, cache=True)
def kernel_since(event_time, now, event, scale):
    """``PairQuery.since`` of one event."""
    return np.log1p(now - event_time[event]) * scale if event >= 0 else 1.2
