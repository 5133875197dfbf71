"""One worker: groups one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.base import GroupTime, StepOutcome
from tgscale.snapshot.placement import LocalPlacement
from tgscale.train.trace import Trace


class SerialExecutor:
    """Trains groups one after another; works with every placement.

    Gradients are summed in the order of the groups' numbers, whatever order they ran in, so that all executors give the
    same bits.
    """

    name = "serial"

    def __init__(self, engine: SnapshotEngine, trace: Trace) -> None:
        self.engine, self.trace = engine, trace
        self._apart = trace.record and isinstance(engine.placement, LocalPlacement)
        self.parameters = list(engine.modules.parameters())

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        slots, losses, times = {}, {}, []
        for group in groups:
            began = time.perf_counter()
            loss = self._forward(group, epoch)
            with self.trace.span("backward"):
                slots[group] = flat_gradient(loss * scale, self.parameters)
            losses[group] = loss.detach()
            times.append(GroupTime(group, 0, time.perf_counter() - began))
        for group in sorted(slots):
            gradient += slots[group]
        return StepOutcome(sum(float(losses[group]) for group in sorted(losses)), times)

    def _forward(self, group: int, epoch: int) -> Tensor:
        """The loss of a group; where a timeline is recorded, in the halves that it shows apart."""
        if not self._apart:
            with self.trace.span("forward"):
                return self.engine.loss(group, epoch)
        with self.trace.span("graph", group=group):
            ahead = self.engine.ahead(group, epoch)
        with self.trace.span("nn", group=group):
            return self.engine.finish(ahead)

    def close(self) -> None:
        pass


def flat_gradient(loss: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor:
    """The gradient of a loss in one piece, zeros for what it does not depend on."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(parameters, found, strict=True)]
    return torch.cat([part.reshape(-1) for part in parts])
