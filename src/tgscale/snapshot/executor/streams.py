"""Two workers in one process: threads, each with a CUDA stream of its own on a GPU.

Kernels and products run without Python's lock, so two threads use two cores, and two streams share a GPU. Weights and
slots are made once and stay, and each group's tensors live and die on one stream, so no memory is handed from one
stream to another: what is left to do is to let the streams wait for the weights' update and the update for them.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executor.base import StepOutcome
from tgscale.snapshot.executor.paired import ANSWERED, WORKERS, PairedExecutor
from tgscale.snapshot.executor.worker import Command, Worker
from tgscale.train.environment import set_threads
from tgscale.train.trace import Trace


class StreamExecutor(PairedExecutor):
    """Trains groups by two threads.

    Args:
        engine: model and data.
        trace: where spans go.

    Raises:
        ConfigError: a model that cannot be trained by threads: one that draws random numbers, whose generator they
            would share, or keeps running statistics, which a forward changes.
    """

    name = "streams"

    def __init__(self, engine: SnapshotEngine, trace: Trace | None = None) -> None:
        super().__init__(engine, trace)
        if not self.prepare:
            raise ConfigError(
                f"executor streams runs two groups at a time through one {engine.config.model}, which has dropout or "
                "batch norm: their draws and statistics would mix. Use executor serial or processes."
            )
        for operator in engine.plan.operators:
            engine.data.adjacency(operator)  # made when first asked for, which two threads might do at once
        self._cuda = engine.device.type == "cuda"
        self._streams = [torch.cuda.Stream(engine.device) for _ in range(WORKERS)] if self._cuda else []
        self._commands: list[queue.SimpleQueue[Command | None]] = [queue.SimpleQueue() for _ in range(WORKERS)]
        self._answers: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
        self._pending = 0
        threads = torch.get_num_threads()
        self._threads = [
            threading.Thread(target=self._work, args=(number, threads), name=f"worker {number}", daemon=True)
            for number in range(WORKERS)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        self.slots.reserve(len(groups))
        for stream in self._streams:
            stream.wait_stream(torch.cuda.current_stream(self.engine.device))
        return super().run(groups, epoch, scale, gradient)

    def send(self, worker: int, command: Command) -> None:
        self._pending += command[0] in ANSWERED
        self._commands[worker].put(command)

    def receive(self) -> tuple[int, Any]:
        worker, answer, error = self._answers.get()
        self._pending -= 1
        if error is not None:
            while self._pending:  # the other one shall not work on into what comes next
                self._answers.get()
                self._pending -= 1
            raise error
        return worker, answer

    def _work(self, number: int, threads: int) -> None:
        """A thread's life. On a GPU its streams have ended when it answers ``end``, since it reads their clocks."""
        set_threads(threads)
        with contextlib.ExitStack() as stack:
            if self._cuda:
                torch.cuda.set_device(self.engine.device)
                stack.enter_context(torch.cuda.stream(self._streams[number]))
            worker = Worker(number, self.engine, self.slots)
            while (command := self._commands[number].get()) is not None:
                answer, error = None, None
                try:
                    answer = worker.obey(command)
                    if self._cuda and command[0] == "end":
                        self._streams[number].synchronize()
                except BaseException as caught:
                    error = caught
                if command[0] in ANSWERED or error is not None:
                    self._answers.put((number, answer, error))

    def close(self) -> None:
        for commands in self._commands:
            commands.put(None)
        for thread in self._threads:
            thread.join()
