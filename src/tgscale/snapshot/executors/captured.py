"""One worker whose groups are captured once, as CUDA graphs, and replayed: one launch per group, not per kernel.

A group has the same shapes in each epoch, and its data lie where they lie; only the weights change, in place. So each
group's step, forward and backward, is recorded at its first use. On a CPU the same step runs as it is, into the same
tensors that stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.nn.program import AGGREGATE
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.base import GroupTime, StepOutcome
from tgscale.snapshot.executors.halves import refuse_statistics
from tgscale.snapshot.executors.serial import flat_gradient
from tgscale.snapshot.fuse import SELF
from tgscale.train.trace import Trace

_WARM_UP = 3


class CapturedExecutor:
    """Trains groups one after another, each recorded at its first use; same sums in the same order as ``serial``.

    Raises:
        ConfigError: what differs from replay to replay (draws, batch statistics), or is laid out by the host in
            between (on a GPU, aggregations that are not kept for the run).
    """

    name = "graph"

    def __init__(self, engine: SnapshotEngine, trace: Trace) -> None:
        _refuse(engine)
        self.engine, self.trace = engine, trace
        self.parameters = list(engine.modules.parameters())
        like = self.parameters[0]
        self.scale, self.loss = like.new_ones(()), like.new_zeros(())
        self.gradient = like.new_zeros(sum(p.numel() for p in self.parameters))
        self.steps: dict[int, Callable[[], None]] = {}
        self.pool: Any = None

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        slots, losses, times = {}, {}, []
        self.scale.fill_(scale)
        for group in groups:
            began = time.perf_counter()
            if group not in self.steps:
                self.steps[group] = self._record(group)
            with self.trace.span("replay"):
                self.steps[group]()
            slots[group], losses[group] = self.gradient.clone(), self.loss.clone()
            times.append(GroupTime(group, 0, time.perf_counter() - began))
        for group in sorted(slots):
            gradient += slots[group]
        return StepOutcome(sum(float(losses[group]) for group in sorted(losses)), times)

    def close(self) -> None:
        self.steps.clear()

    def step(self, group: int) -> None:
        """Loss and gradient of a group into the tensors that stay. Nothing is drawn, so the epoch plays no part."""
        loss = self.engine.loss(group, 0)
        self.loss.copy_(loss.detach())
        self.gradient.copy_(flat_gradient(loss * self.scale, self.parameters))

    def _record(self, group: int) -> Callable[[], None]:
        if self.engine.device.type != "cuda":
            return lambda: self.step(group)
        side = torch.cuda.Stream(self.engine.device)
        side.wait_stream(torch.cuda.current_stream(self.engine.device))
        with torch.cuda.stream(side):  # libraries and allocator settle before anything is recorded
            for _ in range(_WARM_UP):
                self.step(group)
        torch.cuda.current_stream(self.engine.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            self.step(group)
        self.pool = graph.pool()  # groups run one at a time, so they share what they need in between
        return graph.replay


def _refuse(engine: SnapshotEngine) -> None:
    refuse_statistics(engine, CapturedExecutor.name)
    if engine.task.all_nodes:
        raise ConfigError(
            f"executor graph and {engine.task.name}: each epoch draws other edges, and a captured step is always the "
            "same: use executor serial."
        )
    stages = engine.plan.stages
    ran = [*stages.ahead, *stages.scans, *stages.loop, *stages.after]
    aggregates = any(node.op == AGGREGATE or (node.op == "scan" and node.attrs[1] != (SELF,)) for node in ran)
    if engine.device.type == "cuda" and aggregates:
        raise ConfigError(
            f"executor graph and {engine.config.model}: its plan aggregates in each group, which the host lays out "
            "anew: keep the first layer (--plan.cache), or use executor serial."
        )
