"""A worker: trains groups phase by phase, as it is told. A thread, a process or the trainer itself may be one."""

from __future__ import annotations

from typing import Any

from tgscale.snapshot.engine import Ahead, SnapshotEngine
from tgscale.snapshot.executor.base import GroupTime
from tgscale.snapshot.executor.clock import Clock, Mark
from tgscale.snapshot.executor.slots import Slots

Command = tuple[Any, ...]
"""``("begin", epoch, scale)``, ``("ahead", group)``, ``("finish", group, slot)``, ``("drop", group)`` or ``("end",)``."""


class Worker:
    """Trains groups of an engine into slots.

    Args:
        number: of this worker.
        engine: model and data.
        slots: where gradients go.
    """

    def __init__(self, number: int, engine: SnapshotEngine, slots: Slots) -> None:
        self.number, self.engine, self.slots = number, engine, slots
        self._clock = Clock(engine.device)
        self._epoch, self._scale = 0, 1.0
        self._ready: dict[int, Ahead] = {}
        self._marks: dict[int, list[tuple[str, Mark, Mark]]] = {}

    def obey(self, command: Command) -> Any:
        """Do what a command says; what it gives, for ``end`` the times of the groups."""
        return getattr(self, command[0])(*command[1:])

    def begin(self, epoch: int, scale: float) -> None:
        """A step begins. ``scale``: of its losses."""
        self._epoch, self._scale = epoch, scale
        self._ready.clear()
        self._marks.clear()

    def ahead(self, group: int) -> None:
        """What comes before the recurrence of a group: the graph phase."""
        start = self._clock.mark()
        self.slots.reset()
        self._ready[group] = self.engine.ahead(group, self._epoch)
        self._marks[group] = [("graph", start, self._clock.mark())]

    def finish(self, group: int, slot: int) -> None:
        """The rest of a group that is ahead."""
        start = self._clock.mark()
        loss = self.engine.finish(self._ready.pop(group))
        between = self._clock.mark()
        self.slots.fill(slot, loss, self._scale)
        self._marks[group] += [("nn", start, between), ("backward", between, self._clock.mark())]

    def drop(self, group: int) -> None:
        """Forget a group that is ahead; another worker trains it."""
        del self._ready[group], self._marks[group]

    def whole(self, group: int, slot: int) -> None:
        """A group from beginning to end, wherever it lies."""
        start = self._clock.mark()
        self.slots.reset()
        loss = self.engine.loss(group, self._epoch)
        between = self._clock.mark()
        self.slots.fill(slot, loss, self._scale)
        self._marks[group] = [("forward", start, between), ("backward", between, self._clock.mark())]

    def end(self) -> list[GroupTime]:
        """The step is over; when each group was trained."""
        seconds = self._clock.seconds
        times = []
        for group, marks in self._marks.items():
            phases = [(name, seconds(start), seconds(stop)) for name, start, stop in marks]
            times.append(GroupTime(group, self.number, sum(stop - start for _, start, stop in phases), phases))
        return times
