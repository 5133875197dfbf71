"""Ranks: which place has the candidate among the source's latest partners, by recency and by frequency?"""

from __future__ import annotations

import numba
import torch
from torch import Tensor

from tgscale.nn.pairs.habits import first_places
from tgscale.nn.pairs.query import WINDOW, Group, PairQuery, arrays, columns_of

_DECAY = 0.8
_NAMES = ("recency_rank", "share", "decayed", "frequency_rank", "share_back", "decayed_back")


@numba.njit(nogil=True, cache=True)
def _count(partner, wanted):
    """How often a partner stands in a list, and the same with weights that decay with the place."""
    n, decayed, weight = 0, 0.0, 1.0
    for j in range(len(partner)):
        if partner[j] == wanted:
            n += 1
            decayed += weight
        weight *= _DECAY
    return n, decayed


@numba.njit(nogil=True, cache=True)
def _kernel(source, candidate, u_partner, v_partner, out):
    window = u_partner.shape[1]
    for i in range(out.shape[0]):
        partner = u_partner[i]
        for c in range(out.shape[1]):
            row = out[i, c]
            n, decayed = _count(partner, candidate[i, c])
            if n > 0:
                rank, more = 1, 0
                for j in range(window):
                    if partner[j] == candidate[i, c]:
                        break
                    new = 1
                    for earlier in range(j):
                        if partner[earlier] == partner[j]:
                            new = 0
                            break
                    rank += new
                for j in range(window):
                    if partner[j] >= 0 and _count(partner, partner[j])[0] > n:
                        more += 1
                row[0], row[1], row[2], row[3] = 1 / rank, n / window, 0.2 * decayed, 1 / (1 + more)
            n, decayed = _count(v_partner[i, c], source[i])
            row[4], row[5] = n / window, 0.2 * decayed


def _fast(query: PairQuery) -> Tensor:
    out = query.empty(len(_NAMES))
    columns = (query.source, query.candidate, query.of_source.partner, query.of_candidate.partner, out)
    _kernel(*arrays(*columns))
    return out


def _plain(query: PairQuery) -> Tensor:
    partner, device = query.of_source.partner, query.candidate.device
    place = torch.arange(WINDOW, device=device)
    weight = _DECAY ** place.double()
    here = partner[:, None, :] == query.candidate[..., None]  # [B, C, WINDOW]
    back = query.of_candidate.partner == query.source[:, None, None]
    n = here.sum(-1)
    first = torch.where(here, place, WINDOW).amin(-1)
    rank = 1 + ((place < first[..., None]) & first_places(partner)[:, None, :]).sum(-1)
    often = (partner[:, :, None] == partner[:, None, :]).sum(-1).masked_fill(partner < 0, 0)
    more = (often[:, None, :] > n[..., None]).sum(-1)
    met = n > 0
    return columns_of(
        query,
        torch.where(met, 1 / rank.double(), 0.0),
        n.double() / WINDOW,
        0.2 * (here * weight).sum(-1),
        torch.where(met, 1 / (1.0 + more.double()), 0.0),
        back.sum(-1).double() / WINDOW,
        0.2 * (back * weight).sum(-1),
    )


RANKS = Group(_NAMES, _fast, _plain)
