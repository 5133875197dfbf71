"""Newcomers: how often, and when last, did each meet somebody for the first time, or somebody who was all new?"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.nn.pairs.query import Group, PairQuery, arrays, columns_of, kernel_since

_CANDIDATE, _SOURCE, _NEW = (1, 2, 4, 8, 16), (1, 2, 4), (1, 2, 4, 8)
_NAMES = (
    *(f"candidate_first_{k}" for k in _CANDIDATE),
    *(f"candidate_newcomer_{k}" for k in _NEW),
    *(f"source_first_{k}" for k in _SOURCE),
    "candidate_partners",
    "candidate_partner_share",
    "candidate_first_age",
    "candidate_newcomer_share",
    "candidate_newcomer_latest",
    "candidate_newcomer_age",
    "source_partner_share",
    "source_first_age",
)


@numba.njit(nogil=True, cache=True)
def _age(events, event):
    """How many of the latest events came after one."""
    n = 0
    while n < len(events) and events[n] > event:
        n += 1
    return n


@numba.njit(nogil=True, cache=True)
def _kernel(
    scale, event_time, now, u_count, u_event, v_count, v_event, u_firsts, u_first, firsts, first, news, new, out
):
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            row, events = out[i, c], v_event[i, c]
            for s in range(5):
                row[s] = kernel_since(event_time, now[i], first[i, c, s], scale)
            for s in range(4):
                row[5 + s] = kernel_since(event_time, now[i], new[i, c, s], scale)
            row[12] = 0.2 * np.log1p(firsts[i, c])
            row[13] = firsts[i, c] / max(v_count[i, c], 1)
            row[15] = news[i, c] / max(v_count[i, c], 1)
            if firsts[i, c] > 0:
                row[14] = 1 / (1 + _age(events, first[i, c, 0]))
            if news[i, c] > 0:
                row[16] = new[i, c, 0] == events[0]
                row[17] = 1 / (1 + _age(events, new[i, c, 0]))
            if c > 0:
                row[9:12], row[18:20] = out[i, 0, 9:12], out[i, 0, 18:20]
                continue
            for s in range(3):
                row[9 + s] = kernel_since(event_time, now[i], u_first[i, s], scale)
            row[18] = u_firsts[i] / max(u_count[i], 1)
            row[19] = 0.2 * np.log1p(_age(u_event[i], u_first[i, 0])) if u_firsts[i] > 0 else 0.0


def _found(query: PairQuery) -> list[Tensor]:
    """Counts and events of the source's first meetings, the candidates', and the candidates' with newcomers."""
    shape, wide = query.candidate.shape, query.candidate.reshape(-1)
    found = [*query.history.firsts(0, query.source, _SOURCE, query.before)]
    for which, steps in ((0, _CANDIDATE), (1, _NEW)):
        found += [x.unflatten(0, shape) for x in query.history.firsts(which, wide, steps, query.wide_before)]
    return found


def _fast(query: PairQuery) -> Tensor:
    out, u, v = query.empty(len(_NAMES)), query.of_source, query.of_candidate
    columns = (query.clock.time, query.time, u.total, u.event, v.total, v.event, *_found(query), out)
    _kernel(query.scale, *arrays(*columns))
    return out


def _plain(query: PairQuery) -> Tensor:
    u, v = query.of_source, query.of_candidate
    u_firsts, u_first, firsts, first, news, new = _found(query)

    def age(events: Tensor, event: Tensor) -> Tensor:
        return (events > event[..., None]).sum(-1).double()

    def reciprocal(count: Tensor, event: Tensor) -> Tensor:
        return torch.where(count > 0, 1 / (1 + age(v.event, event)), 0.0)

    source = [
        u_firsts.double() / u.total.clamp(min=1),
        torch.where(u_firsts > 0, age(u.event, u_first[:, 0]).log1p() * 0.2, 0.0),
    ]
    return columns_of(
        query,
        *query.since(first).unbind(-1),
        *query.since(new).unbind(-1),
        *query.since(u_first)[:, None].unbind(-1),
        firsts.double().log1p() * 0.2,
        firsts.double() / v.total.clamp(min=1),
        reciprocal(firsts, first[..., 0]),
        news.double() / v.total.clamp(min=1),
        (news > 0) & (new[..., 0] == v.event[..., 0]),
        reciprocal(news, new[..., 0]),
        *(x[:, None] for x in source),
    )


NEWCOMERS = Group(_NAMES, _fast, _plain)
