"""One worker: groups one after another."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executor.base import StepOutcome, draw
from tgscale.snapshot.executor.slots import Slots
from tgscale.snapshot.executor.worker import Worker
from tgscale.snapshot.placement import LocalPlacement
from tgscale.train.trace import Trace


class SerialExecutor:
    """Trains groups one after another; works with every placement.

    Args:
        engine: model and data.
        trace: where spans go.
    """

    name = "serial"

    def __init__(self, engine: SnapshotEngine, trace: Trace | None = None) -> None:
        self.engine, self.trace = engine, trace or Trace()
        self.slots = Slots(engine.modules, engine.config.groups_per_step)
        self.worker = Worker(0, engine, self.slots)

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        worker, slots = self.worker, self.slots
        slots.reserve(len(groups))
        counts = [count.clone() for count in slots.counts]
        slots.begin()
        worker.begin(epoch, scale)
        for slot, group in enumerate(groups):
            if isinstance(self.engine.placement, LocalPlacement):
                worker.ahead(group)
                worker.finish(group, slot)
            else:
                worker.whole(group, slot)
        times = worker.end()
        draw(times, self.trace)
        return StepOutcome(slots.settle(groups, counts, gradient), times)

    def close(self) -> None:
        pass
