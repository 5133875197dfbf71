"""Destinations that the event's own source has met as negatives, and others to fill up: TGB's ``hist_rnd`` and its kin.

After ``NegativeEdgeGenerator`` of py-tgb (Huang et al. 2023, "Temporal graph benchmark"), for an event (s, d, t):

- known: the distinct destinations that s met in the training part (historical), or that it first met after that part
  and strictly before t (inductive);
- of those that s does not meet at t, at most ``share`` of the wanted number, without replacement;
- the rest, without replacement, from the population, less what s met before the end of the period that ``known``
  comes from, and less what it meets at t. A small population gives fewer negatives than wanted.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream
from tgscale.graph.hashing import mix_tensor, seed_key_tensor
from tgscale.graph.permutation import LeftOut, permuted, ragged
from tgscale.stream.protocol.first_meetings import FirstMeetings
from tgscale.stream.protocol.negatives import Drawn, Negatives


class SourceNegatives(Negatives):
    """Negatives with the event's own source.

    Args:
        stream: the events.
        meetings: its pairs.
        population: nodes to fill up from, sorted, ``[P]``, int64; a superset of all destinations.
        population_name: for the result.
        kind: ``"historical"`` or ``"inductive"``.
        train: end of the training part.
        count: negatives per event, at most.
        share: of the count that known destinations may take, in [0, 1].
        seed: of the draws.
    """

    def __init__(
        self,
        stream: EventStream,
        meetings: FirstMeetings,
        population: Tensor,
        population_name: str,
        kind: Literal["historical", "inductive"],
        train: int,
        count: int,
        share: float,
        seed: int,
    ) -> None:
        self._stream, self._meetings, self._kind, self._train = stream, meetings, kind, train
        self._population, self._population_name = population, population_name
        self.count, self._known, self._share = count, int(count * share), share
        self._seed = seed_key_tensor(seed, population.device)
        src = np.asarray(stream.src, np.int64)
        order = np.lexsort((np.arange(len(src)), stream.time, src))
        self._by_time = torch.from_numpy(order).to(population.device)
        changed = np.diff(src[order], prepend=-1).astype(bool) | np.diff(stream.time[order], prepend=-1).astype(bool)
        self._run = torch.from_numpy(np.append(np.flatnonzero(changed), len(src))).to(population.device)
        run_of = np.empty(len(src), np.int64)
        run_of[order] = np.cumsum(changed) - 1
        self._run_of = torch.from_numpy(run_of).to(population.device)

    def draw(self, event: Tensor) -> Drawn:
        meetings, rows, count = self._meetings, len(event), self.count
        source = meetings.src[meetings.pair[event]]
        own_first = meetings.partners_before(source, torch.zeros_like(event))
        before_training_ends = meetings.partners_before(source, torch.full_like(event, self._train))
        start, stop = own_first, before_training_ends
        if self._kind == "inductive":
            time = self._stream.time
            bound = torch.from_numpy(np.searchsorted(time, time[event.cpu().numpy()])).to(event.device)
            start, stop = before_training_ends, meetings.partners_before(source, bound)
            stop = torch.maximum(start, stop)
        row, run = ragged(self._run[self._run_of[event]], self._run[self._run_of[event] + 1])
        present = meetings.pair[self._by_time[run]]  # what the source meets at this very time, the event itself too
        key = mix_tensor(self._seed ^ event)
        known = self._draw_known(key, start, stop, row, meetings.place[present])
        wanted = count - (known >= 0).sum(1)
        met_row, met = ragged(own_first, stop)
        away = LeftOut(
            torch.cat([met_row, row]),
            torch.searchsorted(self._population, meetings.dst[torch.cat([meetings.by_source[met], present])]),
            rows,
            len(self._population),
        )
        other = away.step_over(permuted(mix_tensor(key), len(self._population) - away.count, count))
        other = torch.where(torch.arange(count, device=event.device) < wanted[:, None], other, -1)
        node = torch.cat(
            [meetings.dst[meetings.by_source[known.clamp(min=0)]], self._population[other.clamp(min=0)]], dim=1
        )
        there = torch.cat([known >= 0, other >= 0], dim=1)
        order = torch.argsort((~there).byte(), dim=1, stable=True)[:, :count]  # gaps to the end
        return Drawn(node.gather(1, order), there=there.gather(1, order))

    def _draw_known(self, key: Tensor, start: Tensor, stop: Tensor, row: Tensor, place: Tensor) -> Tensor:
        """Places in ``by_source`` of known destinations, ``[B, known]``; -1 where there are no more."""
        inside = (place >= start[row]) & (place < stop[row])
        width = max(int((stop - start).max()), 1)
        out = LeftOut(row[inside], (place - start[row])[inside], len(start), width)
        chosen = out.step_over(permuted(key, stop - start - out.count, self._known))
        return torch.where(chosen < 0, chosen, chosen + start[:, None])

    def describe(self) -> dict[str, Any]:
        return {
            "draw": self._kind,
            "known_share": self._share,
            "population": self._population_name,
            "population_size": len(self._population),
            "exclude_own": True,
        }
