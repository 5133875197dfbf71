"""The training loop on snapshot groups: plan an epoch, train each step's groups where they belong, step the weights."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from tgscale.snapshot.assign import plan_epoch
from tgscale.snapshot.balance import Balance, Step
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors import Executor
from tgscale.train.distributed import Ranks
from tgscale.train.gradients import GradientBuffer
from tgscale.train.interrupt import Interrupt
from tgscale.train.progress import Progress
from tgscale.train.rates import warm_up_and_cosine
from tgscale.train.timeline import wait_for_trainers
from tgscale.train.trace import Trace


class SnapshotLoop:
    """Steps of training on this rank, which all ranks take together.

    With partition ``blad`` or ``group-count`` each group of a step belongs to one rank; with ``snapshot`` or ``vertex``
    all ranks work on each group. Gradients are summed once per step either way.

    Args:
        engine: model and data.
        executor: who works on this rank's groups.
        ranks: the processes of the run.
        trace: where spans go.

    Attributes:
        interrupt: looked at before each step, where there is one.
        iteration: steps taken; epoch: epochs begun and not ended; at: steps taken of it.
    """

    def __init__(self, engine: SnapshotEngine, executor: Executor, ranks: Ranks, trace: Trace | None = None) -> None:
        config = engine.config
        self.engine, self.executor, self.ranks, self.trace = engine, executor, ranks, trace or Trace()
        self.shares_groups = config.partition in ("snapshot", "vertex")
        self.costs = engine.cost_model()
        self.gradients = GradientBuffer(engine.modules)
        train = config.train
        self.optimizer = torch.optim.AdamW(engine.modules.parameters(), lr=train.lr, weight_decay=train.weight_decay)
        steps = train.epochs * self.steps_per_epoch
        factor = warm_up_and_cosine if train.schedule == "cosine" else lambda done: 1.0
        self.scheduler = LambdaLR(self.optimizer, lambda step: factor(step / steps))
        self.interrupt: Interrupt | None = None
        self.iteration = self.epoch = self.at = 0
        self.plan: list[Step] = []
        self.notes: tuple[str, ...] = ()
        self._times: dict[int, float] = {}
        self._loss = 0.0
        self._items = 0
        self._busy: list[float] = []
        self._waited: list[float] = []

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.engine.groups) // self.engine.config.groups_per_step)

    @property
    def ended(self) -> bool:
        """Whether the epoch's steps have all been taken."""
        return bool(self.plan) and self.at == len(self.plan)

    def begin_epoch(self) -> None:
        """Decide which groups share each step, and who trains them; the same on all ranks."""
        config, ranks = self.engine.config, self.ranks
        plan = None
        with ranks.together():
            if ranks.is_first:
                devices = 1 if self.shares_groups else ranks.world
                policy = "count" if self.shares_groups else config.policy
                costs = self.costs.predict()
                plan = plan_epoch(costs, devices, config.groups_per_step, policy, config.seed % 2**40, self.epoch)
        plan = ranks.broadcast_object(plan)
        self.plan, self.notes, self.at = list(plan), plan.notes, 0

    def run(self, steps: int, progress: Progress | None = None) -> None:
        """Take some steps of the epoch, fewer where the interrupt asks to stop."""
        for _ in range(steps):
            if self.interrupt and self.interrupt.asked:
                return
            groups = self.step()
            if progress:
                progress.advance(groups)

    def step(self) -> int:
        """One step; the number of groups that all ranks together have trained."""
        step = self.plan[self.at]
        mine = step[0] if self.shares_groups else step[self.ranks.rank]
        items = sum(self.engine.items(int(g)) for groups in step for g in groups)
        began = time.perf_counter()
        self.gradients.clear()
        outcome = self.executor.run([int(g) for g in mine], self.epoch, 1 / max(items, 1), self.gradients.flat)
        busy = time.perf_counter() - began
        waiting = time.perf_counter()
        wait_for_trainers(self.trace, self.ranks)
        with self.trace.span("all-reduce"):
            stop = self.gradients.reduce(self.ranks, stop=bool(self.interrupt and self.interrupt.noted))
        if self.interrupt:
            self.interrupt.hear(stop)
        self._waited.append(time.perf_counter() - waiting)
        with self.trace.span("optimizer"):
            self.optimizer.step()
            self.scheduler.step()
        self._times.update({each.group: each.seconds for each in outcome.times})
        self._busy.append(busy)
        self._loss += outcome.loss
        self._items += items
        self.at += 1
        self.iteration += 1
        return sum(len(groups) for groups in step)

    def end_epoch(self) -> dict[str, Any]:
        """What the epoch showed: loss, and how even the ranks' work was. Costs are refreshed by measured times."""
        gathered = self.ranks.gather_objects((self._loss, self._times, self._busy, self._waited))
        if self.engine.config.costs == "measured" and not self.shares_groups:
            times: dict[int, float] = {}
            for _, of_rank, _, _ in gathered:
                times.update(of_rank)
            ids = np.array(sorted(times), np.int64)
            self.costs.update(ids, np.array([times[int(g)] for g in ids]))
        self._average_statistics()
        balance = Balance(np.array([busy for _, _, busy, _ in gathered]).T)
        shown = {
            "loss": sum(loss for loss, *_ in gathered) / max(self._items, 1),
            "imbalance": balance.imbalance,
            "sync_wait_seconds": balance.sync_wait,
            "step_seconds": float(np.mean([sum(pair) for pair in zip(self._busy, self._waited, strict=True)])),
        }
        self._times, self._busy, self._waited, self._loss, self._items = {}, [], [], 0.0, 0
        self.epoch += 1
        self.plan = []
        return shown

    def _average_statistics(self) -> None:
        """Let all ranks have the mean of their running statistics, which each has gathered from its own groups."""
        if self.ranks.world > 1 and not self.shares_groups:
            for buffer in self.engine.modules.buffers():
                if buffer.is_floating_point():
                    self.ranks.sum(buffer)
                    buffer /= self.ranks.world

    def shared_state(self) -> dict[str, Any]:
        """What is equal on all ranks: weights, optimiser, costs, and where the epoch stands."""
        return {
            "iteration": self.iteration,
            "epoch": self.epoch,
            "at": self.at if self.plan else 0,
            "plan": [[torch.from_numpy(groups) for groups in step] for step in self.plan],
            "modules": self.engine.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "costs": self.costs.state_dict(),
        }

    def own_state(self) -> dict[str, Any]:
        """What this rank alone knows of the epoch so far."""
        return {
            "times": self._times,
            "busy": self._busy,
            "waited": self._waited,
            "loss": self._loss,
            "items": self._items,
        }

    def load(self, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Go back to where both states were taken."""
        self.iteration, self.epoch, self.at = shared["iteration"], shared["epoch"], shared["at"]
        self.plan = [[groups.numpy() for groups in step] for step in shared["plan"]]
        self.engine.modules.load_state_dict(shared["modules"])
        self.optimizer.load_state_dict(shared["optimizer"])
        self.scheduler.load_state_dict(shared["scheduler"])
        self.costs.load_state_dict(shared["costs"])
        self._times, self._busy, self._waited = dict(own["times"]), list(own["busy"]), list(own["waited"])
        self._loss, self._items = own["loss"], own["items"]
