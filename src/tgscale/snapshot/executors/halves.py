"""One worker's part of a step: it does halves of groups as it is told, and notes times, losses and gradients."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.snapshot.engine import Ahead, SnapshotEngine
from tgscale.snapshot.executors.base import GroupTime
from tgscale.snapshot.executors.queue import AHEAD, Task
from tgscale.snapshot.executors.serial import flat_gradient
from tgscale.train.trace import Trace

Done = tuple[float, GroupTime]
"""Loss and times of a group."""


class Worker:
    """Does halves of groups.

    Args:
        number: of this worker.
        engine: model and data.
        trace: where its spans go, in a lane of its own.
    """

    def __init__(self, number: int, engine: SnapshotEngine, trace: Trace) -> None:
        self.number, self.engine, self.trace = number, engine, trace
        self.parameters = list(engine.modules.parameters())
        self._held: dict[int, tuple[Ahead, float, list[tuple[str, float, float]]]] = {}

    def do(self, task: Task, epoch: int, scale: float, store: Callable[[Tensor], Any]) -> Done | None:
        """Do half of a group. The second half gives the group's loss and times.

        Args:
            task: which half of which group.
            epoch, scale: as for an executor's ``run``.
            store: takes the group's gradient.
        """
        if task.half == AHEAD:
            with self._phase("graph") as began:
                ahead = self.engine.ahead(task.group, epoch)
            phases = [("graph", began, time.perf_counter())]
            self._held[task.group] = (ahead, phases[0][2] - began, phases)
            return None
        ahead, seconds, phases = self._held.pop(task.group)
        with self._phase("nn") as began:
            loss = self.engine.finish(ahead)
        between = time.perf_counter()
        with self._phase("backward"):
            store(flat_gradient(loss * scale, self.parameters))
        end = time.perf_counter()
        phases += [("nn", began, between), ("backward", between, end)]
        return float(loss.detach()), GroupTime(task.group, self.number, seconds + end - began, phases)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[float]:
        began = time.perf_counter()
        with self.trace.span(name, lane=f"worker {self.number}"):
            yield began
            if self.engine.device.type == "cuda":  # a phase lasts as long as its kernels, not as their launch
                torch.cuda.current_stream(self.engine.device).synchronize()

    def forget(self) -> None:
        """Let go of groups that were begun and not ended."""
        self._held.clear()


def add_waits(trace: Trace, workers: int, times: Iterable[GroupTime], began: float) -> None:
    """Count, for each worker of a step that is over, the time in which it had nothing to do.

    Args:
        trace: where it goes, in the worker's lane.
        workers: how many there are.
        times: of the step's groups.
        began: when the step did, in seconds of ``time.perf_counter``; it ends now.
    """
    phases: dict[int, list[tuple[float, float]]] = {worker: [] for worker in range(workers)}
    for each in times:
        phases[each.worker] += [(start, stop) for _, start, stop in each.phases]
    now = time.perf_counter()
    for worker, busy in phases.items():
        free = began
        for start, stop in [*sorted(busy), (now, now)]:
            if start > free:
                trace.add("wait for work", f"worker {worker}", free, start)
            free = max(free, stop)


def refuse_statistics(engine: SnapshotEngine, name: str) -> None:
    """Refuse a model that gathers statistics group by group, whose order two workers would not keep.

    Raises:
        ConfigError: as said.
    """
    if any(True for _ in engine.modules.buffers()) or engine.stochastic:
        raise ConfigError(
            f"executor {name} and {engine.config.model}: its batch statistics and dropout go group by group, in one "
            "order: use executor serial."
        )


def add_slots(gradient: Tensor, slots: dict[int, Tensor]) -> None:
    """Sum the groups' gradients in the order of their numbers, whoever made them."""
    for group in sorted(slots):
        gradient += slots[group]
