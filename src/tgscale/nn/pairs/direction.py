"""Direction: who turned to whom? A message asks for an answer, and some nodes only ever receive."""

from __future__ import annotations

import numba
import torch
from torch import Tensor

from tgscale.nn.pairs.query import NEVER, WINDOW, Group, PairQuery, arrays, columns_of, kernel_since

_SENT = 16
_NAMES = (
    "pair_last_sent",
    "pair_received_share",
    "candidate_last_received",
    "candidate_since_received",
    "candidate_received",
    "candidate_receives",
    "source_last_sent",
    "source_sent",
    "reply",
)


@numba.njit(nogil=True, cache=True)
def _kernel(scale, event_time, src, now, source, candidate, u_partner, u_event, v_event, meetings, out):
    for i in range(out.shape[0]):
        u, sent, last_sent = source[i], 0, 0
        for j in range(_SENT):
            sent += u_event[i, j] >= 0 and src[u_event[i, j]] == u
        if u_event[i, 0] >= 0:
            last_sent = 1 if src[u_event[i, 0]] == u else -1
        for c in range(out.shape[1]):
            row, v, met, events = out[i, c], candidate[i, c], meetings[i, c], v_event[i, c]
            n, received = 0, 0
            while n < len(met) and met[n] >= 0:
                received += src[met[n]] == v
                n += 1
            if n > 0:
                row[0] = 1 if src[met[0]] == u else -1
                row[1] = received / n
            n, received, latest = 0, 0, -1
            while n < len(events) and events[n] >= 0:
                if src[events[n]] != v:
                    received += 1
                    if latest < 0:
                        latest = events[n]
                n += 1
            if n > 0:
                row[2] = 1 if src[events[0]] != v else -1
            row[3] = kernel_since(event_time, now[i], latest, scale)
            row[4] = received / len(events)
            row[5] = received > 0
            row[6] = last_sent
            row[7] = sent / _SENT
            row[8] = u_partner[i, 0] == v and src[u_event[i, 0]] == v


def _fast(query: PairQuery) -> Tensor:
    out, u = query.empty(len(_NAMES)), query.of_source
    ends = (query.clock.time, query.clock.src, query.time, query.source, query.candidate)
    events = (u.partner, u.event, query.of_candidate.event, query.meetings)
    _kernel(query.scale, *arrays(*ends, *events, out))
    return out


def _plain(query: PairQuery) -> Tensor:
    u, events, met, src = query.of_source, query.of_candidate.event, query.meetings, query.clock.src
    source, candidate = query.source[:, None], query.candidate[..., None]

    def sign(yes: Tensor, real: Tensor) -> Tensor:
        return torch.where(real, yes.double() * 2 - 1, 0.0)

    by_source, by_pair, by_candidate = (src[x.clamp(min=0)] for x in (u.event, met, events))
    sent = (u.event >= 0) & (by_source == source)
    met_received = (met >= 0) & (by_pair == candidate)
    received = (events >= 0) & (by_candidate != candidate)
    latest = torch.where(received, events, -1).amax(-1)
    return columns_of(
        query,
        sign(by_pair[..., 0] == source, met[..., 0] >= 0),
        met_received.sum(-1).double() / (met >= 0).sum(-1).clamp(min=1),
        sign(received[..., 0], events[..., 0] >= 0),
        torch.where(latest >= 0, query.since(latest), NEVER),
        received.sum(-1).double() / WINDOW,
        received.any(-1),
        sign(sent[:, :1], u.event[:, :1] >= 0),
        sent[:, :_SENT].sum(-1, keepdim=True).double() / _SENT,
        (u.partner[:, :1] == query.candidate) & (by_source[:, :1] == query.candidate),
    )


DIRECTION = Group(_NAMES, _fast, _plain)
