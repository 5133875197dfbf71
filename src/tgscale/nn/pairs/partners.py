"""Partners in common: do the candidate's latest partners know the source, or those whom the source knows?

Common partners are two hops away, weighted by rarity (Adamic and Adar 2003) and by how lately both met them. In a graph
of two sides there are none, so three hops are looked at, too: the candidate's partners' latest partners that are the
source's.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.graph.search import lower_bound
from tgscale.nn.pairs.habits import first_places
from tgscale.nn.pairs.query import WINDOW, Group, PairQuery, arrays, columns_of

_HOP = 8  # latest partners of a partner
_LAST = 4  # latest partners whose experience is told
_SLOTS = 128  # of the table of the source's partners, a power of two
_NAMES = (
    "common",
    "common_rare",
    "common_recent",
    "near",
    "near_rank",
    "near_recent",
    "near_best",
    "partner_events",
    "partners_events",
    "partner_stays",
)


@numba.njit(nogil=True, cache=True)
def _slot(key, node):
    """Where a node stands in the table, or would stand."""
    at = (node * 0x9E3779B1 >> 7) & (_SLOTS - 1)
    while key[at] >= 0 and key[at] != node:
        at = (at + 1) & (_SLOTS - 1)
    return at


@numba.njit(nogil=True, cache=True)
def _fill(key, rank, partner):
    """Table of the source's partners: node -> 1 for the latest partner, 2 for the one before it, and so on."""
    key[:] = -1
    found = 0
    for j in range(len(partner)):
        if partner[j] < 0:
            break
        at = _slot(key, partner[j])
        if key[at] < 0:
            found += 1
            key[at], rank[at] = partner[j], found


@numba.njit(nogil=True, cache=True)
def _near(neighbor, end, hops, v, key, rank):
    """Partners of the source among a partner's latest: is there one; sums by rank, and by rank and place; the best."""
    hit, by_rank, by_place, best = 0, 0.0, 0.0, 0.0
    for q in range(hops):
        x = neighbor[end - 1 - q]
        if x != v:
            at = _slot(key, x)
            if key[at] >= 0:
                hit = 1
                value = 1 / (rank[at] * (1 + q))
                by_rank += 1 / (1 + rank[at])
                by_place += value
                best = max(best, value)
    return hit, by_rank, by_place, best


@numba.njit(nogil=True, cache=True)
def _kernel(indptr, neighbor, event_id, source, candidate, before, u_partner, v_partner, out):
    key, rank = np.empty(_SLOTS, np.int64), np.empty(_SLOTS, np.int64)
    for i in range(out.shape[0]):
        _fill(key, rank, u_partner[i])
        for c in range(out.shape[1]):
            row, v, last, before_w = out[i, c], candidate[i, c], 0, -1
            common, rare, recent, near, near_rank, near_recent, best, events = 0, 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0
            size, at, hit, by_rank, by_place, nearest = 0, 0, 0, 0.0, 0.0, 0.0
            for j in range(v_partner.shape[2]):
                w = v_partner[i, c, j]
                if w < 0:
                    break
                if w != before_w:  # the same partner often stands several times in a row
                    first = indptr[w]
                    end = lower_bound(event_id, before[i], first, indptr[w + 1])
                    size, at, before_w = end - first, _slot(key, w), w
                    hit, by_rank, by_place, nearest = _near(neighbor, end, min(_HOP, size), v, key, rank)
                    if j == 0:
                        row[9] = neighbor[end - 1] == v
                if j < _LAST:
                    last = j + 1
                    events += 0.2 * np.log1p(size)
                    if j == 0:
                        row[7] = events
                if w == source[i]:
                    continue
                if key[at] >= 0 and w != v:
                    common += 1
                    rare += 1 / np.log1p(size + 1)
                    recent += 1 / (rank[at] * (1 + j))
                near += hit
                near_rank += by_rank
                near_recent += by_place / (1 + j)
                best = max(best, nearest / (1 + j))
            row[0], row[1], row[2] = 0.3 * np.log1p(common), 0.5 * np.log1p(rare), 0.5 * np.log1p(recent)
            row[3], row[4], row[5] = 0.3 * np.log1p(near), 0.3 * np.log1p(near_rank), 0.5 * np.log1p(near_recent)
            row[6], row[8] = best, events / max(last, 1)


def _fast(query: PairQuery) -> Tensor:
    out, tcsr, v = query.empty(len(_NAMES)), query.history.stream.tcsr, query.of_candidate
    columns = (query.source, query.candidate, query.before, query.of_source.partner, v.partner, out)
    _kernel(tcsr.indptr, tcsr.neighbor, tcsr.event_id, *arrays(*columns))
    return out


def _ranks(partner: Tensor, wanted: Tensor) -> Tensor:
    """Recency rank, from 1, of nodes ``[B, L]`` among the partners ``[B, WINDOW]`` of a source; 0 for strangers."""
    first = first_places(partner)
    order = torch.where(first, partner, torch.iinfo(torch.int64).max).sort(dim=-1)
    rank = first.cumsum(-1).gather(-1, order.indices)
    at = torch.searchsorted(order.values, wanted.contiguous()).clamp(max=WINDOW - 1)
    return torch.where(order.values.gather(-1, at) == wanted, rank.gather(-1, at), 0)


def _plain(query: PairQuery) -> Tensor:
    history, v = query.history, query.of_candidate
    B, device = len(query.candidate), query.candidate.device
    w = v.partner  # [B, C, WINDOW]
    real = w >= 0
    node = w.clamp(min=0).reshape(-1)
    bound = query.before[:, None, None].expand_as(w).reshape(-1)
    count, hop, _ = history.recent(node, _HOP, bound)
    count, hop = count.view_as(w), hop.view(*w.shape, _HOP)
    candidate, source = query.candidate[..., None], query.source[:, None, None]
    place = torch.arange(1, WINDOW + 1, device=device)
    log = torch.log1p

    rank = _ranks(query.of_source.partner, w.reshape(B, -1)).view_as(w)
    common = real & (rank > 0) & (w != source) & (w != candidate)
    rare = torch.where(common, 1 / log(count.double() + 1), 0.0).sum(-1)
    recent = torch.where(common, 1 / (rank * place).clamp(min=1).double(), 0.0).sum(-1)

    hop_rank = _ranks(query.of_source.partner, hop.reshape(B, -1)).view_as(hop)
    near = (real & (w != source))[..., None] & (hop >= 0) & (hop_rank > 0) & (hop != candidate[..., None])
    near_rank = torch.where(near, 1 / (1.0 + hop_rank.double()), 0.0).sum((-2, -1))
    weight = (hop_rank * place[:, None] * place[:_HOP]).clamp(min=1).double()
    value = torch.where(near, 1 / weight, 0.0)

    events = torch.where(real, 0.2 * log(count.double()), 0.0)[..., :_LAST]
    return columns_of(
        query,
        0.3 * log(common.sum(-1).double()),
        0.5 * log(rare),
        0.5 * log(recent),
        0.3 * log(near.any(-1).sum(-1).double()),
        0.3 * log(near_rank),
        0.5 * log(value.sum((-2, -1))),
        value.amax((-2, -1)),
        events[..., 0],
        events.sum(-1) / real[..., :_LAST].sum(-1).clamp(min=1),
        real[..., 0] & (hop[..., 0, 0] == query.candidate),
    )


PARTNERS = Group(_NAMES, _fast, _plain)
