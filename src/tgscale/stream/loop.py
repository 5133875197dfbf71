"""The training loop: the trainers of this process, walked through the schedule, one iteration after another.

A process holds one trainer of a real launch, or all trainers of an emulated one; both run what stands here.
One iteration:

1. trainers that take a new batch receive the memory rows that they asked for;
2. each trainer scores its batch, and those that took it now hand over what it leaves in the memory;
3. they ask for the rows of their next batch, which come while the gradients are made and exchanged;
4. gradients, weighted by events, are summed over all trainers; the optimiser steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tgscale.data.store import fingerprint
from tgscale.graph.unique import Compactor
from tgscale.memory.group import GroupMemory, LocalGroupMemory, NoGroupMemory, Write
from tgscale.memory.local import LocalMemory, MemoryRows, NoMemory, empty_rows
from tgscale.models.stream_model import ONE_HOP
from tgscale.stream.batch import Batch
from tgscale.stream.batch_cache import BatchCache
from tgscale.stream.engine import StreamEngine
from tgscale.stream.pipeline import Pipeline
from tgscale.stream.schedule import Schedule, Task
from tgscale.train.distributed import Ranks
from tgscale.train.gradients import GradientBuffer
from tgscale.train.interrupt import Interrupt
from tgscale.train.progress import Progress
from tgscale.train.timeline import wait_for_trainers
from tgscale.train.trace import Trace


@dataclass
class Work:
    """A batch that a trainer keeps for j iterations.

    Attributes:
        position: at which it was taken.
        batches: one per negative set.
        nodes: distinct nodes of all of them, ``[U]``.
        slots: rows of ``nodes`` that are the nodes of each batch; None where there is one batch alone.
        rows: their state as it was when the batch began, once it was read.
    """

    position: int
    batches: list[Batch]
    nodes: Tensor
    slots: list[Tensor] | None
    rows: MemoryRows | None = None

    def rows_of(self, negative_set: int) -> MemoryRows:
        """The state of one batch's nodes, ``[U]`` of its block."""
        assert self.rows is not None
        if self.slots is None:
            return self.rows
        slot = self.slots[negative_set]
        return MemoryRows(*(column[slot] for column in vars(self.rows).values()))


class TrainingLoop:
    """Walks some trainers through a schedule.

    Args:
        engine: model, batches and device.
        schedule: what is done when.
        memories: trainer -> the memory copy of its group, as it sees it. Its keys are the trainers of this process.
        ranks: all processes of the run.
        trace: where times are kept.

    Attributes:
        iteration: the next one.
        interrupt: looked at before each iteration, where there is one.
        steps, rows_read, rows_written: iterations since this was made, and rows of the memory that they took.
    """

    def __init__(
        self,
        engine: StreamEngine,
        schedule: Schedule,
        memories: dict[int, GroupMemory],
        ranks: Ranks | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.engine, self.schedule, self.memories = engine, schedule, memories
        self.ranks, self.trace = ranks or Ranks(), trace or Trace()
        self.trainers = sorted(memories)
        self.optimizers = engine.optimizers()
        self.schedulers = engine.schedulers(self.optimizers, schedule.iterations)
        self.gradients = GradientBuffer(engine.model, engine.sparse_parameters())
        self.interrupt: Interrupt | None = None
        self.iteration = 0
        self.steps = self.rows_read = self.rows_written = 0
        self._kept: dict[int, Work | None] = dict.fromkeys(self.trainers)
        self._upcoming: dict[int, Work | None] = dict.fromkeys(self.trainers)
        self._lane = "pipeline" if engine.config.pipeline.depth else None
        self._pipeline: Pipeline[tuple[int, int], Work] | None = None
        # Of its own: batches are made ahead while the engine's builder may be evaluating.
        on_host = engine.config.pipeline.sample_on == "host" and engine.device.type != "cpu"
        self._builder = engine.make_builder(torch.device("cpu")) if on_host else engine.builder.clone()
        self._builder.slice_features = False  # what is cached has no features in it
        self._compactor = Compactor(engine.stream.num_nodes, engine.device)
        self.cache = make_cache(engine)
        self._loss = torch.zeros((), dtype=torch.float64, device=engine.device)
        self._loss_events = 0

    @classmethod
    def in_process(cls, engine: StreamEngine, trace: Trace | None = None) -> TrainingLoop:
        """All trainers of the configured layout in this process, one after another."""
        schedule = Schedule.of(engine.config, engine.split.train)
        return cls(engine, schedule, local_memories(engine), trace=trace)

    def run(self, until: int, progress: Progress | None = None) -> None:
        """Go on to iteration ``until``, or until the interrupt asks to stop."""
        self.engine.train_mode()
        if self._pipeline is None:
            self._start()
        while self.iteration < until and not (self.interrupt and self.interrupt.asked):
            events = self.schedule.events(self.iteration)
            self.step()
            if progress:
                progress.advance(events)

    def step(self) -> None:
        """One iteration."""
        t, schedule, trace = self.iteration, self.schedule, self.trace
        tasks = {trainer: schedule.task(t, trainer) for trainer in self.trainers}
        for trainer, task in tasks.items():  # all read before any writes
            if task and task.writes:
                self._take(trainer, task)
        self.gradients.clear()
        total = schedule.events(t)
        for trainer, task in tasks.items():
            loss, write = self._forward(trainer, task) if task else (None, None)
            self._commit(trainer, write)
            if loss is not None:
                with trace.span("backward", self._lane_of(trainer)):
                    events = len(self._work(trainer).batches[0].event)
                    (loss * (events / total)).backward()
                    self._loss += loss.detach() * events
        wait_for_trainers(trace, self.ranks)
        with trace.span("all-reduce"):
            stop = self.gradients.reduce(self.ranks, stop=bool(self.interrupt and self.interrupt.noted))
        if self.interrupt:
            self.interrupt.hear(stop)
        with trace.span("optimizer"):
            for optimizer in self.optimizers:
                optimizer.step()
            for scheduler in self.schedulers:
                scheduler.step()
        self._loss_events += total
        self.iteration += 1
        self.steps += 1

    def mean_loss(self) -> float:
        """Mean loss per event, over all trainers, since this was last asked for."""
        total, events = self._loss.clone(), self._loss_events
        self.ranks.sum(total)
        self._loss.zero_()
        self._loss_events = 0
        return float(total) / max(events, 1)

    def memory_of(self, group: int) -> dict[str, Tensor] | None:
        """State of a memory copy as the next iteration finds it; None where its first trainer is in another process."""
        leader = group * self.schedule.layout.group_size
        if leader not in self.memories:
            return None
        self.memories[leader].wait(min(self.iteration, self.schedule.positions))
        return self.memories[leader].state_dict()

    def state_dict(self) -> dict[str, Any]:
        """What this process alone knows: memory copies, the rows that kept batches stand on, sums.

        Weights, optimisers and learning rates are equal everywhere; see :meth:`shared_state`.
        """
        copies = {}
        for group in self._groups():
            alive = self.iteration < self.schedule.positions and not self.schedule.resets(group, self.iteration)
            final = group == 0 and self.iteration >= self.schedule.positions
            state = self.memory_of(group) if alive or final else None
            if state is not None:
                copies[group] = state
        kept = {
            trainer: {"position": work.position, "rows": vars(work.rows)}
            for trainer, work in self._kept.items()
            if work and self.iteration < work.position + self.schedule.layout.epoch
        }
        return {"memory": copies, "kept": kept, "loss": float(self._loss), "loss_events": self._loss_events}

    def shared_state(self) -> dict[str, Any]:
        """What is equal on all ranks."""
        return {
            "iteration": self.iteration,
            "model": self.engine.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        }

    def load(self, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Go back to where :meth:`shared_state` and :meth:`state_dict` were taken; before the first :meth:`run`."""
        self.iteration = shared["iteration"]
        self.engine.model.load_state_dict(shared["model"])
        for optimizer, saved in zip(self.optimizers, shared["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, shared["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self._loss.fill_(own["loss"])
        self._loss_events = own["loss_events"]
        for trainer, kept in own["kept"].items():
            work = self._make((kept["position"], trainer))
            work.rows = MemoryRows(**{name: column.to(self.engine.device) for name, column in kept["rows"].items()})
            self._kept[trainer] = work
        self.place_memory(own["memory"])

    def replay(self) -> None:
        """Let each copy that starts inside the stream see the part before it, with the weights as they are."""
        size = self.schedule.layout.minibatch * self.schedule.batch_size
        copies = {}
        self.engine.model.eval()
        for group in self._groups():
            if group:
                self.engine.memory.reset()
                first, stop = self.schedule.start(group - 1) * size, self.schedule.start(group) * size
                for event in range(first, stop, size):
                    self.engine.advance(event, event + size)
                copies[group] = self.engine.memory.state_dict()
        self.place_memory(copies)

    def place_memory(self, copies: dict[int, dict[str, Tensor]]) -> None:
        """Fill memory copies before the first iteration; all ranks call it, each with the copies that it leads."""
        position = min(self.iteration, self.schedule.positions)
        for group in range(self.schedule.layout.memory):
            memory = self.memories.get(group * self.schedule.layout.group_size)
            if memory:
                memory.load_state_dict(copies.get(group) or memory.state_dict(), position)
        self.ranks.barrier()

    def close(self) -> None:
        """Stop making batches ahead, and leave the memory copies."""
        if self._pipeline:
            self._pipeline.close()
        for memory in self.memories.values():
            memory.close()

    def _groups(self) -> list[int]:
        """Memory groups of the trainers of this process."""
        return sorted({trainer // self.schedule.layout.group_size for trainer in self.trainers})

    def _start(self) -> None:
        depth = self.engine.config.pipeline.depth
        # One thread: kernels that are entered from two threads at once must not start threads of their own.
        self._pipeline = Pipeline(self._make, self._items(), depth, self.trace, threads=1)
        j = self.schedule.layout.epoch
        for position in range(self.iteration, self.iteration + j):
            for trainer in self._row(position):
                self._ask(trainer, position)

    def _row(self, position: int) -> list[int]:
        """Trainers of this process whose turn it is at a position."""
        layout = self.schedule.layout
        return [trainer for trainer in self.trainers if layout.place(trainer)[1] == position % layout.epoch]

    def _items(self) -> Iterator[tuple[int, int]]:
        for position in range(self.iteration, self.schedule.positions):
            for trainer in self._row(position):
                if self.schedule.task(position, trainer):
                    yield position, trainer

    def _make(self, item: tuple[int, int]) -> Work:
        position, trainer = item
        batches = [self._batch(position + s, trainer) for s in range(self.schedule.layout.epoch)]
        if len(batches) == 1:
            return Work(position, batches, batches[0].block.nodes, None)
        nodes, slot = self._compactor(torch.cat([batch.block.nodes for batch in batches]))
        slots = slot.split([len(batch.block.nodes) for batch in batches])
        return Work(position, batches, nodes, list(slots))

    def _batch(self, iteration: int, trainer: int) -> Batch:
        task = self.schedule.task(iteration, trainer)
        assert task is not None
        if self.cache is None:
            batch = self._sample(task.batch, task.traversal)
        else:
            batch = self.cache.get_or_make(task.batch, task.traversal % self.cache.sets, self._sample)
        with self.trace.span("slice", self._lane):
            if self.engine.builder.slice_features:
                batch = self._builder.slice(batch)
            if self.engine.device.type == "cuda" and not batch.event.is_cuda:
                batch = batch.pin_memory().to(self.engine.device)
        return batch

    def _sample(self, batch: int, traversal: int) -> Batch:
        config = self.engine.config
        seed = config.seed * 1_000_003 + traversal
        negatives = self.engine.task.negatives(config.train.negatives)
        self._builder.sampler.seed = seed
        with self.trace.span("sample", self._lane):
            return self._builder.range(*self.schedule.range(batch), negatives, seed=seed + 1)

    def _ask(self, trainer: int, position: int) -> None:
        """Get the trainer's batch at a position, and ask for the memory of its nodes."""
        task = self.schedule.task(position, trainer)
        if task is None:
            self._upcoming[trainer] = None
            return
        assert self._pipeline is not None
        work = self._upcoming[trainer] = self._pipeline.next(self._lane_of(trainer))
        assert work.position == position
        if task.reads:
            self.rows_read += len(work.nodes)
            with self.trace.span("ask for memory", self._lane_of(trainer)):
                self.memories[trainer].request(position, work.nodes)

    def _take(self, trainer: int, task: Task) -> None:
        work = self._upcoming[trainer]
        assert work is not None
        with self.trace.span("read memory", self._lane_of(trainer)):
            work.rows = self.memories[trainer].receive() if task.reads else self._no_memory(len(work.nodes))
        self._kept[trainer] = work

    def _no_memory(self, count: int) -> MemoryRows:
        memory = self.engine.memory
        return empty_rows(count, memory.shape, self.engine.device, memory.state.memory.dtype)

    def _forward(self, trainer: int, task: Task) -> tuple[Tensor, Write | None]:
        work = self._work(trainer)
        with self.trace.span("forward", self._lane_of(trainer), iteration=self.iteration, batch=task.batch):
            self.engine.seed(self.iteration, trainer)
            batch = work.batches[task.negative_set]
            logits, write = self.engine.forward(work.rows_of(task.negative_set), batch)
            return self.engine.task.loss(logits, batch), write if task.writes else None

    def _commit(self, trainer: int, write: Write | None) -> None:
        """Hand over what was written, and ask for what is needed next."""
        t, schedule = self.iteration, self.schedule
        if t >= schedule.positions:
            return
        self.rows_written += len(write.nodes) if write else 0
        _, row, group = schedule.layout.place(trainer)
        with self.trace.span("write memory", self._lane_of(trainer)):
            self.memories[trainer].commit(t, write, schedule.writers(group, t), schedule.resets(group, t))
        if t % schedule.layout.epoch == row:
            self._ask(trainer, t + schedule.layout.epoch)

    def _lane_of(self, trainer: int) -> str:
        """Row of the timeline: one of this process, or one of each trainer where it emulates several."""
        return "trainer" if len(self.trainers) == 1 else f"trainer {trainer}"

    def _work(self, trainer: int) -> Work:
        work = self._kept[trainer]
        assert work is not None
        return work


def empty_copy(engine: StreamEngine) -> LocalMemory:
    """A memory copy of the engine's size and type, on its device."""
    memory = engine.memory
    return LocalMemory(len(memory.state.memory), memory.shape, engine.device, memory.state.memory.dtype)


def make_cache(engine: StreamEngine) -> BatchCache | None:
    """The cache of batches that the configuration asks for."""
    config = engine.config
    if config.pipeline.cache is None:
        return None
    key = {
        "data": fingerprint(config.data),
        "device": engine.device.type,
        "events": engine.split.train,
        "batch_size": config.train.batch_size,
        "negatives": engine.task.negatives(config.train.negatives),
        "population": config.eval.drawn_from,
        "pairs": config.model.pair_encoding and list(config.model.pair_groups),
        "sampling": dataclasses.asdict(config.sampling),
        "seed": config.seed,
    }
    needs = engine.builder.needs
    if needs != ONE_HOP:  # so that batches of before are found
        key["needs"] = list(needs)
    return BatchCache(config.pipeline.cache, key, config.pipeline.cache_sets)


def local_memories(engine: StreamEngine) -> dict[int, GroupMemory]:
    """Empty memory copies of all trainers of the configured layout, in this process."""
    layout = engine.config.run_layout
    if isinstance(engine.memory, NoMemory):
        return {trainer: NoGroupMemory(engine.memory) for trainer in range(layout.world)}
    memories: dict[int, GroupMemory] = {}
    for group in range(layout.memory):
        copy = empty_copy(engine)
        members = (LocalGroupMemory(copy) for _ in range(layout.group_size))
        memories.update(enumerate(members, group * layout.group_size))
    return memories
