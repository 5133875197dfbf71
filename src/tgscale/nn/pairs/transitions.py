"""Transitions: what came next, for others and for the source itself, after the partner that the source met last?

Each is a list of places to which the same step has led, with weights that decay with its age; a candidate gets the sum
of the weights of those that are it. The lists are made once per source, however many candidates there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.graph.history import History
from tgscale.graph.search import lower_bound
from tgscale.nn.pairs.query import WINDOW, Group, PairQuery, arrays, columns_of

_DECAY, _OWN_DECAY = 0.9, 0.8
_OTHERS, _HOP = 16, 8  # latest others who met the partner, and the latest partners of each
_NAMES = ("others_next", "others_next_recent", "own_next", "own_next_recent", "others_next_second", "others_partners")


class _Lists(NamedTuple):
    """Nodes that a step led to, latest first, -1 for none; ``[B, L]`` each.

    Attributes:
        others: next partner of those who met the source's latest partner, ``L = WINDOW``.
        own: what the source met next after earlier meetings with it, ``WINDOW``.
        second: as ``others``, of the source's latest partner but one.
        around: latest partners of the latest others, ``_OTHERS * _HOP``.
    """

    others: Tensor
    own: Tensor
    second: Tensor
    around: Tensor


@numba.njit(nogil=True, cache=True)
def _add(candidate, node, weight, column, out):
    """Give a weight to the candidates that are the node."""
    for c in range(len(candidate)):
        if candidate[c] == node:
            out[c, column] += weight


@numba.njit(nogil=True, cache=True)
def _others(indptr, neighbor, event_id, u, before, partner, candidate, even, decayed, out):
    """Add up whom others who met a partner lately met next; ``even`` and ``decayed`` are columns, -1 for none."""
    first, weight = indptr[partner], 1.0
    end = lower_bound(event_id, before, first, indptr[partner + 1])
    for at in range(end - 1, max(end - 1 - WINDOW, first - 1), -1):
        w = neighbor[at]
        if w != u:
            after = lower_bound(event_id, event_id[at] + 1, indptr[w], indptr[w + 1])
            if after < indptr[w + 1] and event_id[after] < before:
                if even >= 0:
                    _add(candidate, neighbor[after], 1.0, even, out)
                _add(candidate, neighbor[after], weight, decayed, out)
        weight *= _DECAY


@numba.njit(nogil=True, cache=True)
def _around(indptr, neighbor, event_id, u, before, partner, candidate, column, out):
    """Add up the latest partners of those who met a partner lately."""
    first = indptr[partner]
    end = lower_bound(event_id, before, first, indptr[partner + 1])
    for j in range(min(_OTHERS, end - first)):
        w = neighbor[end - 1 - j]
        if w == u:
            continue
        last = lower_bound(event_id, before, indptr[w], indptr[w + 1])
        for q in range(min(_HOP, last - indptr[w])):
            if neighbor[last - 1 - q] != partner:
                _add(candidate, neighbor[last - 1 - q], 1 / (1 + j), column, out)


@numba.njit(nogil=True, cache=True)
def _kernel(indptr, neighbor, event_id, source, before, mine, candidate, out):
    total = np.empty((out.shape[1], 6))
    for i in range(out.shape[0]):
        u, latest, second = source[i], mine[i, 0], -1
        if latest < 0:
            continue
        total[:] = 0
        weight = 1.0
        for j in range(1, WINDOW):
            if mine[i, j] < 0:
                break
            weight *= _OWN_DECAY
            if mine[i, j] == latest:
                _add(candidate[i], mine[i, j - 1], 1.0, 2, total)
                _add(candidate[i], mine[i, j - 1], weight, 3, total)
            elif second < 0:
                second = mine[i, j]
        _others(indptr, neighbor, event_id, u, before[i], latest, candidate[i], 0, 1, total)
        _around(indptr, neighbor, event_id, u, before[i], latest, candidate[i], 5, total)
        if second >= 0:
            _others(indptr, neighbor, event_id, u, before[i], second, candidate[i], -1, 4, total)
        for c in range(out.shape[1]):
            for f in range(6):
                out[i, c, f] = total[c, f] if f == 3 else 0.5 * np.log1p(total[c, f])


def _fast(query: PairQuery) -> Tensor:
    out, tcsr = query.empty(len(_NAMES)), query.history.stream.tcsr
    columns = (query.source, query.before, query.of_source.partner, query.candidate, out)
    _kernel(tcsr.indptr, tcsr.neighbor, tcsr.event_id, *arrays(*columns))
    return out


def _lists(query: PairQuery) -> _Lists:
    history, source, before, u = query.history, query.source, query.before, query.of_source
    latest = u.partner[:, 0]
    other = (u.partner >= 0) & (u.partner != latest[:, None])
    place = torch.where(other, torch.arange(WINDOW, device=source.device), WINDOW - 1).amin(-1, keepdim=True)
    second = torch.where(other.any(-1), u.partner.gather(-1, place)[:, 0], -1)
    came_back = torch.zeros_like(other)
    came_back[:, 1:] = (u.partner[:, 1:] == latest[:, None]) & (u.partner[:, 1:] >= 0)
    own = torch.where(came_back, u.partner.roll(1, -1), -1)
    met, event = _met(history, latest, before)
    around = history.recent(met[:, :_OTHERS].clamp(min=0).reshape(-1), _HOP, before.repeat_interleave(_OTHERS))[1]
    around = around.view(-1, _OTHERS, _HOP)
    others = met[:, :_OTHERS, None]
    around = torch.where((others >= 0) & (others != source[:, None, None]), around, -1)
    around = torch.where(around == latest[:, None, None], -1, around).flatten(1)
    nexts = [_next_of(query, *pair) for pair in ((met, event), _met(history, second, before))]
    return _Lists(nexts[0], own, nexts[1], around)


def _met(history: History, partner: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Latest others of a partner (-1 for none) and the events in which they met, ``[B, WINDOW]``."""
    _, node, event = history.recent(partner.clamp(min=0), WINDOW, before)
    return torch.where(partner[:, None] >= 0, node, -1), event


def _next_of(query: PairQuery, partner: Tensor, event: Tensor) -> Tensor:
    """Whom each of some others, ``[B, WINDOW]``, met next after an event, if that was before the query; else -1."""
    bound = query.before.repeat_interleave(WINDOW)
    found = query.history.following(partner.clamp(min=0).flatten(), event.flatten(), bound)
    return torch.where((partner >= 0) & (partner != query.source[:, None]), found.view_as(partner), -1)


def _weights(device: torch.device) -> list[Tensor]:
    place = torch.arange(WINDOW, dtype=torch.float64, device=device)
    even, decayed, own = torch.ones_like(place), _DECAY**place, _OWN_DECAY**place
    around = 1 / (1 + torch.arange(_OTHERS, dtype=torch.float64, device=device)).repeat_interleave(_HOP)
    return [even, decayed, even, own, decayed, around]


def _plain(query: PairQuery) -> Tensor:
    others, own, second, around = _lists(query)
    lists = (others, others, own, own, second, around)
    sums = [
        ((nodes[:, None, :] == query.candidate[..., None]) * weight).sum(-1)
        for nodes, weight in zip(lists, _weights(query.candidate.device), strict=True)
    ]
    scaled = [x if name == "own_next_recent" else 0.5 * x.log1p() for x, name in zip(sums, _NAMES, strict=True)]
    return columns_of(query, *scaled)


TRANSITIONS = Group(_NAMES, _fast, _plain)
