"""Whole edges as negatives, as in DyGLib: pairs that have met before, but do not meet in this batch.

After ``NegativeEdgeSampler`` of DyGLib (Yu et al. 2023, after Poursafaei et al. 2022, "Towards better evaluation for
dynamic link prediction"), for the batch whose first and last events have the times ``t0`` and ``t1``:

- historical: the distinct pairs of all events with time <= t0;
- inductive: those of them whose first event is later than the last event before the evaluated part;
- less the pairs of all events with ``t0 <= time <= t1``;
- as many as the batch has events, without replacement; where there are fewer, all of them, after random pairs of any
  source and any destination of the stream that are none of the batch's.

A negative edge has a source of its own, and the time of the event that it stands beside.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tgscale.data.stream import EventStream, mark_nodes
from tgscale.graph.hashing import mix_tensor, seed_key_tensor
from tgscale.graph.permutation import LeftOut, permuted
from tgscale.stream.protocol.first_meetings import FirstMeetings
from tgscale.stream.protocol.negatives import Drawn, Negatives

Kind = Literal["historical", "inductive"]


class EdgeNegatives(Negatives):
    """One negative edge per event.

    Args:
        stream: the events.
        meetings: its pairs.
        kind: ``"historical"`` or ``"inductive"``.
        part_start: first event of the evaluated part, at least 1.
        seed: of the draws.
        device: where draws are made.
    """

    count, by_batch = 1, True

    def __init__(
        self,
        stream: EventStream,
        meetings: FirstMeetings,
        kind: Kind,
        part_start: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._stream, self._meetings, self._kind = stream, meetings, kind
        self._seed = seed_key_tensor(seed, torch.device(device))
        self._sources = torch.from_numpy(np.flatnonzero(mark_nodes(stream.num_nodes, stream.src))).to(device)
        self._destinations = torch.from_numpy(stream.destinations).to(device)
        observed = self._event_after(stream.time[part_start - 1]) if kind == "inductive" else 0
        self._oldest = self._pairs_before(observed)

    def _event_after(self, time: int) -> int:
        """First event that is later than a time."""
        return int(np.searchsorted(self._stream.time, time, side="right"))

    def _pairs_before(self, event: int) -> int:
        """How many pairs have met before an event; pairs are numbered in that order."""
        return int(torch.searchsorted(self._meetings.first, event))

    def draw(self, event: Tensor) -> Drawn:
        meetings, time, number = self._meetings, self._stream.time, len(event)
        start, stop = int(event[0]), int(event[-1]) + 1
        begins = int(np.searchsorted(time, time[start]))
        known = max(self._pairs_before(self._event_after(time[start])) - self._oldest, 0)
        now = meetings.pair[begins : self._event_after(time[stop - 1])] - self._oldest
        pool, drawn = self._choose(known, now[(now >= 0) & (now < known)], number, start, stream=0)
        source, destination = meetings.src[drawn + self._oldest], meetings.dst[drawn + self._oldest]
        if pool < number:
            row, column = self._random(event, number - pool)
            source, destination = torch.cat([row, source]), torch.cat([column, destination])
        return Drawn(destination[:, None], source[:, None])

    def _choose(self, size: int, left_out: Tensor, number: int, start: int, stream: int) -> tuple[int, Tensor]:
        """How many of ``range(size)`` are not left out, and at most ``number`` of those, drawn without replacement."""
        device = self._seed.device
        out = LeftOut(torch.zeros_like(left_out), left_out, 1, max(size, 1))
        free = size - int(out.count)
        key = mix_tensor(mix_tensor(self._seed ^ start) ^ stream)[None]
        chosen = permuted(key, torch.tensor([free], device=device), min(number, free))
        return free, out.step_over(chosen)[0]

    def _random(self, event: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Pairs of any source and destination, but none of the batch's."""
        meetings, width, start = self._meetings, len(self._destinations), int(event[0])
        pair = meetings.pair[start : start + len(event)]
        row = torch.searchsorted(self._sources, meetings.src[pair])
        cell = row * width + torch.searchsorted(self._destinations, meetings.dst[pair])
        free, drawn = self._choose(len(self._sources) * width, cell, number, start, stream=1)
        if 0 < free < number:  # as there: with replacement
            again = mix_tensor(mix_tensor(self._seed ^ start) ^ 2 ^ torch.arange(number, device=drawn.device))
            drawn = drawn[(again & 0x7FFFFFFFFFFFFFFF) % free]
        elif not free:  # the batch holds every pair there is; DyGLib ends here
            drawn = cell[torch.arange(number, device=cell.device) % len(cell)]
        return self._sources[drawn // width], self._destinations[drawn % width]

    def describe(self) -> dict[str, Any]:
        return {
            "draw": self._kind,
            "population": "edges of any source",
            "population_size": len(self._meetings.first),
            "exclude_own": True,
        }
