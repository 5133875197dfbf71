"""Phase: does the hour, or the weekday, fit? Mean of ``cos(2 pi gap / period)`` over latest events.

Only where the stream's time has a unit of time; zeros elsewhere.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.nn.pairs.query import Group, PairQuery, arrays, columns_of

_NAMES = ("candidate_day", "candidate_week", "pair_day", "pair_week", "source_day", "day_sin", "day_cos")


@numba.njit(nogil=True, cache=True)
def _fit(event_time, now, events, period):
    """Mean cosine of the phases of some events, relative to now; 0 where there is none."""
    n, total = 0, 0.0
    while n < len(events) and events[n] >= 0:
        total += np.cos(2 * np.pi * ((now - event_time[events[n]]) % period) / period)
        n += 1
    return total / max(n, 1)


@numba.njit(nogil=True, cache=True)
def _kernel(day, event_time, now, u_event, v_event, meetings, out):
    for i in range(out.shape[0]):
        t = now[i]
        source, angle = _fit(event_time, t, u_event[i], day), 2 * np.pi * (t % day) / day
        for c in range(out.shape[1]):
            row = out[i, c]
            row[0] = _fit(event_time, t, v_event[i, c], day)
            row[1] = _fit(event_time, t, v_event[i, c], 7 * day)
            row[2] = _fit(event_time, t, meetings[i, c], day)
            row[3] = _fit(event_time, t, meetings[i, c], 7 * day)
            row[4], row[5], row[6] = source, np.sin(angle), np.cos(angle)


def _fast(query: PairQuery) -> Tensor:
    out = query.empty(len(_NAMES))
    if query.clock.day:
        columns = (query.clock.time, query.time, query.of_source.event, query.of_candidate.event, query.meetings, out)
        _kernel(query.clock.day, *arrays(*columns))
    return out


def _plain(query: PairQuery) -> Tensor:
    day = query.clock.day
    if not day:
        return query.candidate.new_zeros(*query.candidate.shape, len(_NAMES), dtype=torch.float32)

    def angle(gap: Tensor, period: int) -> Tensor:
        return (gap % period).double() * (2 * math.pi / period)

    def fit(event: Tensor, period: int) -> Tensor:
        now = query.time.reshape(-1, *[1] * (event.dim() - 1))
        cosine = angle(now - query.clock.time[event.clamp(min=0)], period).cos()
        real = event >= 0
        return torch.where(real, cosine, 0.0).sum(-1) / real.sum(-1).clamp(min=1)

    now = angle(query.time, day)[:, None]
    return columns_of(
        query,
        *(fit(event, p) for event in (query.of_candidate.event, query.meetings) for p in (day, 7 * day)),
        fit(query.of_source.event, day)[:, None],
        now.sin(),
        now.cos(),
    )


PHASE = Group(_NAMES, _fast, _plain)
