"""Habits: does this source stay with its latest partner, or move on? Does the candidate see one partner, or many?"""

from __future__ import annotations

import numba
from torch import Tensor

from tgscale.nn.pairs.query import WINDOW, Group, PairQuery, arrays, columns_of

_NAMES = ("source_stays", "source_stay_share", "source_distinct", "candidate_stay_share")


@numba.njit(nogil=True, cache=True)
def _stays(partner):
    """Events among the latest whose partner is that of the event before, and how many events there are."""
    n, stays = 0, 0
    while n < len(partner) and partner[n] >= 0:
        stays += n > 0 and partner[n] == partner[n - 1]
        n += 1
    return stays, n


@numba.njit(nogil=True, cache=True)
def _kernel(of_source, of_candidate, out):
    for i in range(out.shape[0]):
        stays, n = _stays(of_source[i])
        distinct = 0
        for j in range(n):
            new = 1
            for earlier in range(j):
                if of_source[i, earlier] == of_source[i, j]:
                    new = 0
                    break
            distinct += new
        for c in range(out.shape[1]):
            row = out[i, c]
            row[0] = stays / len(of_source[i])
            row[1] = stays / max(n - 1, 1)
            row[2] = distinct / len(of_source[i])
            stays_v, n_v = _stays(of_candidate[i, c])
            row[3] = stays_v / max(n_v - 1, 1)


def _fast(query: PairQuery) -> Tensor:
    out = query.empty(len(_NAMES))
    _kernel(*arrays(query.of_source.partner, query.of_candidate.partner, out))
    return out


def _count_stays(partner: Tensor) -> tuple[Tensor, Tensor]:
    real = partner >= 0
    stays = (real[..., 1:] & (partner[..., 1:] == partner[..., :-1])).sum(-1).double()
    return stays, stays / (real.sum(-1) - 1).clamp(min=1)


def first_places(partner: Tensor) -> Tensor:
    """Mask ``[B, WINDOW]``: is this the latest event with its partner?"""
    same = partner[:, :, None] == partner[:, None, :]
    return (partner >= 0) & ~same.tril(-1).any(-1)


def _plain(query: PairQuery) -> Tensor:
    partner = query.of_source.partner
    stays, share = _count_stays(partner)
    distinct = first_places(partner).sum(-1).double() / WINDOW
    source = [x[:, None] for x in (stays / WINDOW, share, distinct)]
    return columns_of(query, *source, _count_stays(query.of_candidate.partner)[1])


HABITS = Group(_NAMES, _fast, _plain)
