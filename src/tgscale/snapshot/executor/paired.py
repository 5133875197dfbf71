"""Two workers on one device, told what to do by the trainer, which does nothing else meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executor.base import GroupTime, StepOutcome, draw
from tgscale.snapshot.executor.queue import ReadyQueue
from tgscale.snapshot.executor.slots import Slots
from tgscale.snapshot.executor.worker import Command
from tgscale.snapshot.placement import LocalPlacement
from tgscale.train.trace import Trace

WORKERS = 2


class PairedExecutor:
    """What threads and processes have in common. Groups go out one phase at a time, by :class:`.queue.ReadyQueue`.

    Args:
        engine: model and data.
        trace: where spans go.

    Raises:
        ConfigError: the engine's groups do not lie in one process.
    """

    name = "paired"

    def __init__(self, engine: SnapshotEngine, trace: Trace | None = None) -> None:
        if not isinstance(engine.placement, LocalPlacement):
            raise ConfigError(
                f"executor {self.name} trains two groups at a time, and the partition splits each over all devices: "
                "use executor serial."
            )
        self.engine, self.trace = engine, trace or Trace()
        self.slots = Slots(engine.modules, engine.config.groups_per_step)
        # A second group's draws and statistics would come between those of the first.
        self.prepare = not engine.stochastic and not self.slots.has_statistics

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        counts = [count.clone() for count in self.slots.counts]
        self.slots.begin()
        queue = ReadyQueue(groups, WORKERS, self.prepare)
        slot_of = {group: slot for slot, group in enumerate(groups)}
        for worker in range(WORKERS):
            self.send(worker, ("begin", epoch, scale))
        working = sum(self._tell(worker, queue, slot_of) for worker in range(WORKERS))
        while working:
            worker, _ = self.receive()
            working -= not self._tell(worker, queue, slot_of)
        times = self._times()
        draw(times, self.trace)
        return StepOutcome(self.slots.settle(groups, counts, gradient), times)

    def _tell(self, worker: int, queue: ReadyQueue, slot_of: dict[int, int]) -> bool:
        """Tell an idle worker what to do next; whether there is something."""
        kind, group, other = queue.next(worker)
        if kind == "rest":
            return False
        if kind == "take over":
            self.send(other, ("drop", group))
        self.send(worker, ("finish", group, slot_of[group]) if kind == "finish" else ("ahead", group))
        return True

    def _times(self) -> list[GroupTime]:
        for worker in range(WORKERS):
            self.send(worker, ("end",))
        found = dict(self.receive() for _ in range(WORKERS))
        return [time for worker in range(WORKERS) for time in found[worker]]

    def send(self, worker: int, command: Command) -> None:
        """Give a worker a command. It answers ``ahead``, ``finish`` and ``end``."""
        raise NotImplementedError

    def receive(self) -> tuple[int, Any]:
        """Wait for an answer: of whom, and what :meth:`.worker.Worker.obey` gave.

        Raises:
            RunError: a worker has died, or failed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let workers go."""
        raise NotImplementedError


ANSWERED = ("ahead", "finish", "end")
"""Commands that a worker answers."""
