"""Where the time goes: named spans, summed always, and drawn as a timeline when asked for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

MOST_SPANS = 100_000
"""Spans that one trace keeps when recording, some 30 MB; later ones are only summed, and the timeline says so."""


class Trace:
    """Where the time goes: named spans of this process, always summed, kept one by one only when recording.

    Sums of :meth:`totals` are inclusive: a span within a span counts in both. Those of :meth:`own` leave out what lies
    within, so they add up. Spans may be entered from several threads; each belongs to a lane, a row of the timeline.

    Args:
        record: keep each span for :meth:`events`, at most ``MOST_SPANS`` of them.
        synchronize: called when a span ends, if recording. A GPU works behind the program's back;
            ``torch.cuda.synchronize`` here makes a span last as long as its work, and the whole run somewhat longer.
    """

    def __init__(self, record: bool = False, synchronize: Callable[[], None] | None = None) -> None:
        self.record = record
        self._synchronize = synchronize if record else None
        self._lock = threading.Lock()
        self._totals: dict[str, list[int]] = {}
        self._own: dict[str, dict[str, int]] = {}
        self._within = threading.local()
        self._spans: list[tuple[str, str, int, int, dict[str, Any]]] = []
        self._cut = 0
        self.wall = time.time_ns() - time.perf_counter_ns()

    def span(self, name: str, lane: str | None = None, **args: Any) -> Span:
        """A context manager whose time is counted under ``name``.

        Args:
            name: what is done.
            lane: row of the timeline; that of the span around it unless given, or ``"trainer"``.
            args: shown in the timeline.
        """
        return Span(self, name, lane, args)

    def totals(self) -> dict[str, tuple[float, int]]:
        """Seconds and number of the spans that have ended since the last reset, by name."""
        with self._lock:
            return {name: (nanoseconds / 1e9, count) for name, (nanoseconds, count) in self._totals.items()}

    def own(self, lane: str = "trainer") -> dict[str, float]:
        """Seconds of the spans of a lane since the last reset, by name, without the spans within them.

        ``"trainer"`` also means the lanes ``"trainer 0"``, ``"trainer 1"``, ... of one process, summed up.
        """
        sums: dict[str, float] = {}
        with self._lock:
            for each, of_lane in self._own.items():
                if each == lane or each.startswith(f"{lane} "):
                    for name, nanoseconds in of_lane.items():
                        sums[name] = sums.get(name, 0.0) + nanoseconds / 1e9
        return sums

    def events(self, ahead: Callable[[int], float] | None = None, wall: int | None = None) -> list[dict[str, Any]]:
        """The recorded spans for :func:`~tgscale.train.timeline.write_timeline`, with the lane's name as ``tid``.

        Times are whole nanoseconds of the wall clock, so that the processes of a run line up.

        Args:
            ahead: how many nanoseconds this process's ``perf_counter_ns`` is ahead of the clock that ``wall`` belongs
                to, by its reading; its own unless given.
            wall: what to add to that clock for the wall clock's nanoseconds.
        """
        wall = self.wall if wall is None else wall
        with self._lock:
            spans, cut = list(self._spans), self._cut
        events: list[dict[str, Any]] = []
        for name, lane, began, took, args in spans:
            start = began + wall - (round(ahead(began)) if ahead else 0)
            when = {"ts": start, "dur": took}
            events.append({"ph": "X", "name": name, "pid": os.getpid(), "tid": lane, **when, "args": args})
        if cut:
            last = events[-1]
            name, end = f"cut: {cut:,} later spans were not kept", last["ts"] + last["dur"]
            events.append({**last, "ph": "i", "s": "p", "name": name, "ts": end, "dur": 0, "args": {}})
        return events

    def add(self, name: str, lane: str, began: float, ended: float, **args: Any) -> None:
        """Count a span that is over, also one of another process of this machine.

        Args:
            name, lane, args: as of :meth:`span`.
            began, ended: seconds of ``time.perf_counter``.
        """
        took = round((ended - began) * 1e9)
        self._count(name, lane, round(began * 1e9), took, took, args)

    def _open(self, lane: str | None) -> None:
        stack = self._stack()
        stack.append([0, lane or (stack[-1][1] if stack else "trainer")])

    def _add(self, name: str, began: int, args: dict[str, Any]) -> None:
        if self._synchronize:
            self._synchronize()
        took, stack = time.perf_counter_ns() - began, self._stack()
        inside, lane = stack.pop()
        if stack:
            stack[-1][0] += took
        self._count(name, lane, began, took, took - inside, args)

    def _stack(self) -> list[list[Any]]:
        """Of each open span of this thread the nanoseconds that lie within it, and its lane; the innermost last."""
        if not hasattr(self._within, "stack"):
            self._within.stack = []
        return self._within.stack

    def _count(self, name: str, lane: str, began: int, took: int, own: int, args: dict[str, Any]) -> None:
        with self._lock:
            of_lane = self._own.setdefault(lane, {})
            of_lane[name] = of_lane.get(name, 0) + own
            total = self._totals.get(name)
            if total is None:
                total = self._totals[name] = [0, 0]
            total[0] += took
            total[1] += 1
            if self.record:
                if len(self._spans) < MOST_SPANS:
                    self._spans.append((name, lane, began, took, args))
                else:
                    self._cut += 1


class Span:
    """One span of a :class:`Trace`; counts from ``with`` to the end of its body, however that ends."""

    __slots__ = ("_args", "_began", "_lane", "_name", "_trace")

    def __init__(self, trace: Trace, name: str, lane: str | None, args: dict[str, Any]) -> None:
        self._trace, self._name, self._lane, self._args = trace, name, lane, args

    def __enter__(self) -> None:
        self._trace._open(self._lane)
        self._began = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trace._add(self._name, self._began, self._args)


class Row(NamedTuple):
    """One name of a trace, summed up.

    Attributes:
        name: of the spans.
        seconds: all of them together.
        share: of the wall time; inclusive, so shares of nested spans add up to more than 1.
        each: seconds per span: per iteration, for what occurs once in each.
    """

    name: str
    seconds: float
    share: float
    each: float


def summarize(totals: Mapping[str, tuple[float, int]], wall_seconds: float) -> list[Row]:
    """The totals of a trace as rows of a table, the longest first.

    Args:
        totals: what :meth:`Trace.totals` gave.
        wall_seconds: how long all of it took.
    """
    rows = [
        Row(name, seconds, seconds / wall_seconds if wall_seconds > 0 else 0.0, seconds / count)
        for name, (seconds, count) in totals.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)
