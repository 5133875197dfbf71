"""Two workers in one process: two CUDA streams, or on a CPU two threads.

Aggregations, fused recurrences and products let go of Python's lock, so threads work side by side.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import torch
from torch import Tensor

from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.base import GroupTime, StepOutcome
from tgscale.snapshot.executors.halves import Worker, add_slots, add_waits, refuse_statistics
from tgscale.snapshot.executors.queue import ReadyQueue
from tgscale.train.trace import Trace

WORKERS = 2


class StreamsExecutor:
    """Two threads that share the model, each with a CUDA stream of its own where there is a GPU.

    Raises:
        ConfigError: a model whose groups must go in one order.
    """

    name = "streams"

    def __init__(self, engine: SnapshotEngine, trace: Trace) -> None:
        refuse_statistics(engine, self.name)
        self.engine, self.trace = engine, trace
        for operator in engine.plan.operators:
            engine.data.adjacency(operator)  # made when first asked for, which two threads might do at once
        self.workers = [Worker(number, engine, trace) for number in range(WORKERS)]
        cuda = engine.device.type == "cuda"
        self.streams = [torch.cuda.Stream(engine.device) if cuda else None for _ in range(WORKERS)]
        self.pool = ThreadPoolExecutor(WORKERS, "worker")
        self._lock = threading.Lock()

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        queue, stop = ReadyQueue(groups, WORKERS), threading.Event()
        for stream in self.streams:
            if stream is not None:  # weights are as the last step left them
                stream.wait_stream(torch.cuda.current_stream(self.engine.device))
        slots: dict[int, Tensor] = {}
        losses: dict[int, float] = {}
        times: list[GroupTime] = []

        def work(worker: Worker) -> None:
            try:
                with self._on_stream(worker.number):
                    while not stop.is_set():
                        with self._lock:
                            task = queue.next(worker.number)
                        if task is None:
                            return
                        done = worker.do(task, epoch, scale, partial(slots.__setitem__, task.group))
                        if done:
                            losses[task.group] = done[0]
                            times.append(done[1])
            except BaseException:
                stop.set()  # the other one ends after its half
                raise

        began = time.perf_counter()
        with self.trace.span("wait for workers"):
            futures = [self.pool.submit(work, worker) for worker in self.workers]
            wait(futures)  # also when one has failed: the other one is not to work on into the next step
        add_waits(self.trace, WORKERS, times, began)
        for worker in self.workers:
            worker.forget()
        for future in futures:
            future.result()
        self._join(slots)
        add_slots(gradient, slots)
        return StepOutcome(sum(losses[group] for group in sorted(losses)), times)

    def close(self) -> None:
        self.pool.shutdown()

    @contextlib.contextmanager
    def _on_stream(self, number: int) -> Iterator[None]:
        stream = self.streams[number]
        if stream is None:
            yield
            return
        with torch.cuda.stream(stream):
            yield

    def _join(self, slots: dict[int, Tensor]) -> None:
        """Let the current stream wait for both, and the allocator know that it reads what they made."""
        for stream in self.streams:
            if stream is not None:
                current = torch.cuda.current_stream(self.engine.device)
                current.wait_stream(stream)
                for slot in slots.values():
                    slot.record_stream(current)
