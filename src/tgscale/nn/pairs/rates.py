"""Rates: when was the 2nd, 4th, 8th ... latest event? Bursts at every scale, with no unit of time to choose.

And whether the pair is due: ``exp(-|log(1 + gap) - log(1 + usual gap)|)``, where the usual gap is the mean one between
its latest meetings.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.nn.pairs.query import MEETINGS, Group, PairQuery, arrays, columns_of, kernel_since

_BACK = (2, 4, 8, 16, 32)
_ENDS = tuple(f"{end}_{k}th" for end in ("candidate", "source") for k in _BACK)
_NAMES = (*_ENDS, "pair_2nd", "pair_4th", "pair_due")


@numba.njit(nogil=True, cache=True)
def _kernel(scale, event_time, now, of_source, of_candidate, meetings, out):
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            row, met = out[i, c], meetings[i, c]
            for s in range(5):
                k = (2 << s) - 1
                row[s] = kernel_since(event_time, now[i], of_candidate[i, c, k], scale)
                if c == 0:
                    row[5 + s] = kernel_since(event_time, now[i], of_source[i, k], scale)
                else:
                    row[5 + s] = out[i, 0, 5 + s]
            row[10] = kernel_since(event_time, now[i], met[1], scale)
            row[11] = kernel_since(event_time, now[i], met[3], scale)
            if met[1] >= 0:
                n = 2
                while n < len(met) and met[n] >= 0:
                    n += 1
                last = event_time[met[0]]
                usual = (last - event_time[met[n - 1]]) / (n - 1)
                row[12] = np.exp(-abs(np.log1p(now[i] - last) - np.log1p(usual)))


def _fast(query: PairQuery) -> Tensor:
    out = query.empty(len(_NAMES))
    columns = (query.clock.time, query.time, query.of_source.event, query.of_candidate.event, query.meetings, out)
    _kernel(query.scale, *arrays(*columns))
    return out


def _plain(query: PairQuery) -> Tensor:
    back, met = [k - 1 for k in _BACK], query.meetings
    candidate = [query.since(query.of_candidate.event[..., k]) for k in back]
    source = [query.since(query.of_source.event[:, None, k]) for k in back]
    n = (met >= 0).sum(-1)
    time = query.clock.time[met.clamp(min=0)]
    last, oldest = time[..., 0], time.gather(-1, (n - 1).clamp(0, MEETINGS - 1)[..., None])[..., 0]
    usual = (last - oldest).double() / (n - 1).clamp(min=1)
    due = (-((query.time[:, None] - last).double().log1p() - usual.log1p()).abs()).exp()
    pair = [query.since(met[..., 1]), query.since(met[..., 3]), torch.where(n > 1, due, 0.0)]
    return columns_of(query, *candidate, *source, *pair)


RATES = Group(_NAMES, _fast, _plain)
