"""The timeline of a run: the spans of all its processes in one file, on one clock, sorted into kinds of work.

The file is in the Trace Event Format, which Perfetto and chrome://tracing open. A process has a lane for each of its
threads of work; spans of a lane lie one after another or within each other, and never overlap otherwise.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tgscale.data.files import write_atomically
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace

ROUNDS = 16
"""Exchanges from which the distance of two clocks is told."""

ROUNDING, GAP = 0.2, 2
"""Nanoseconds. Perfetto makes whole nanoseconds of the microseconds of a time and of a duration, each for itself, and
drops an event that then ends after the one around it or after the start of the next. So times are a little late, lest
they lose one, and an event ends a little early, the earlier the deeper it lies."""

KINDS: dict[str, tuple[str, ...]] = {
    "graph": ("graph", "sample", "embedding"),
    "nn": ("nn", "forward", "memory updater", "decoder", "replay", "device step"),
    "backward": ("backward",),
    "optimizer": ("optimizer",),
    "memory": ("ask for memory", "write memory", "serve read", "apply write"),
    "data": ("slice", "build batch"),
    "other": ("validation", "checkpoint"),
    "exchange": ("all-reduce", "exchange rows", "gather"),
    "wait": ("wait for batch", "wait for trainers", "wait for workers", "wait for work", "read memory"),
}
"""Kind of work -> names of spans: graph operators, dense operators, and what surrounds them."""

_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
_CHROME = {
    "graph": "terrible",
    "nn": "thread_state_running",
    "backward": "rail_response",
    "optimizer": "good",
    "memory": "yellow",
    "data": "generic_work",
    "exchange": "vsync_highlight_color",
    "wait": "thread_state_sleeping",
}


def kind_of(name: str) -> str:
    """The kind of work that a span's name stands for; ``"other"`` for one that is not known."""
    return _KIND_OF.get(name, "other")


@dataclass(frozen=True)
class Clock:
    """How far a process's ``perf_counter`` is ahead of rank 0's, in nanoseconds, told at two moments.

    Between two machines this changes, some microseconds per second; between processes of one machine it is 0.

    Attributes:
        first, last: (reading of this process's clock, how far it is ahead).
    """

    first: tuple[int, float] = (0, 0.0)
    last: tuple[int, float] = (0, 0.0)

    def ahead(self, reading: int) -> float:
        """How far this process's clock is ahead when it shows ``reading``."""
        (start, before), (stop, after) = self.first, self.last
        if stop <= start:
            return before
        return before + (after - before) * (reading - start) / (stop - start)


class Recorder:
    """Brings the spans of all processes of a run together, on rank 0's clock. All ranks make and use it together.

    Args:
        trace: of this process; nothing is asked of the others unless it records.
        ranks: all processes.
    """

    def __init__(self, trace: Trace, ranks: Ranks) -> None:
        self.trace, self.ranks = trace, ranks
        self._first = read_clock(ranks) if trace.record else (0, 0.0)

    def gather(self, name: str, more: Iterable[tuple[str, Trace]] = ()) -> list[tuple[str, list[dict[str, Any]]]]:
        """Name and events of every process, for :func:`write_timeline`; empty unless the trace records.

        Args:
            name: of this process.
            more: name and spans of further processes of this machine that this one answers for.
        """
        if not self.trace.record:
            return []
        clock = Clock(self._first, read_clock(self.ranks))
        wall = self.ranks.broadcast_object(self.trace.wall)
        own = [(each, trace.events(clock.ahead, wall)) for each, trace in ((name, self.trace), *more)]
        everybody = self.ranks.gather_objects(own)
        return [each[0] for each in everybody] + [process for each in everybody for process in each[1:]]


def wait_for_trainers(trace: Trace, ranks: Ranks) -> None:
    """Where a timeline is recorded, let all ranks meet, so that waiting and exchanging are told apart in it."""
    if trace.record and ranks.world > 1:
        with trace.span("wait for trainers"):
            ranks.sum(torch.zeros(1))


def read_clock(ranks: Ranks) -> tuple[int, float]:
    """A reading of this process's clock, and how far it is ahead of rank 0's. All ranks call this together.

    Nobody leaves a barrier before everybody has entered it. So the difference of two clocks lies between bounds, which
    some rounds make narrow; the middle is taken, which is off by no more than the shortest barrier lasts.
    """
    if ranks.world == 1:
        return time.perf_counter_ns(), 0.0
    stamps = []
    for _ in range(ROUNDS):
        entered = time.perf_counter_ns()
        ranks.barrier()
        stamps.append((entered, time.perf_counter_ns()))
    everybody = ranks.gather_objects((_clock_name(), stamps))
    (first, origin), (own, mine) = everybody[0], everybody[ranks.rank]
    return stamps[-1][1], 0.0 if own == first else clock_ahead(mine, origin)


def clock_ahead(mine: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> float:
    """How far one clock is ahead of another, in nanoseconds.

    Args:
        mine, other: of the same barriers, when each entered and left them, by its own clock.
    """
    most = min(left - entered for (_, left), (entered, _) in zip(mine, other, strict=True))
    least = max(entered - left for (entered, _), (_, left) in zip(mine, other, strict=True))
    return (most + least) / 2


def _clock_name() -> str:
    """What processes have in common whose ``perf_counter`` is one clock: the machine, since it was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import platform

        return platform.node()


def write_timeline(path: Path, processes: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
    """Write a timeline in the Trace Event Format. All or nothing.

    Args:
        path: the file to write, JSON.
        processes: name and :meth:`~tgscale.train.trace.Trace.events` of each, whose times are of one clock; they are
            shown in this order. In the file they are microseconds from the first event.
    """
    first = min((event["ts"] for _, events in processes for event in events), default=0)
    shown: list[dict[str, Any]] = []
    numbers = itertools.count(len(processes))
    for pid, (name, events) in enumerate(processes):
        shown.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}})
        shown.append({"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}})
        # A lane's number is that of no other lane and of no process: Perfetto takes 0 for the process's own number.
        lanes = {lane: next(numbers) for lane in dict.fromkeys(event["tid"] for event in events)}
        for place, (lane, tid) in enumerate(lanes.items()):
            names = {"pid": pid, "tid": tid, "args": {"name": lane}}
            shown.append({"ph": "M", "name": "thread_name", **names})
            shown.append({"ph": "M", "name": "thread_sort_index", **names, "args": {"sort_index": place}})
        ends: dict[str, list[int]] = {lane: [] for lane in lanes}
        # In order of their start, the outer first. From 0, not from 1970: viewers read times as float.
        for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
            placed = {**event, **_kind(event), "pid": pid, "tid": lanes[event["tid"]]}
            placed["ts"] = (event["ts"] - first + ROUNDING) / 1000
            if event["ph"] == "X":
                placed["dur"] = max(0, event["dur"] - GAP * _depth(ends[event["tid"]], event)) / 1000
            else:
                del placed["dur"]
            shown.append(placed)
    began = {"began": first / 1e9}
    write_atomically(path, json.dumps({"traceEvents": shown, "displayTimeUnit": "ms", "otherData": began}))


def _depth(ends: list[int], event: dict[str, Any]) -> int:
    """How many events of a lane an event lies within, itself included; ``ends`` are those of the ones around it."""
    while ends and ends[-1] <= event["ts"]:
        ends.pop()
    ends.append(event["ts"] + event["dur"])
    return len(ends)


def _kind(event: dict[str, Any]) -> dict[str, str]:
    """The event's kind as its category, and the colour that chrome://tracing is to give it."""
    kind = kind_of(event["name"])
    return {"cat": kind, **({"cname": _CHROME[kind]} if kind in _CHROME else {})}
