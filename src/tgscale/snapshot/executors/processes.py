"""Two workers in two processes, as BLAD has them: weights and gradients in shared memory, words through pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from tgscale.data.snapshot_store import open_snapshots
from tgscale.errors import RunError
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.base import GroupTime, StepOutcome
from tgscale.snapshot.executors.halves import Worker, add_slots, add_waits, refuse_statistics
from tgscale.snapshot.executors.queue import ReadyQueue
from tgscale.train.environment import keep_freed_memory, set_threads
from tgscale.train.trace import Trace

WORKERS = 2


class ProcessesExecutor:
    """Two processes, each with the data, the model and half of the groups of a step.

    The weights lie in shared memory: what this process's optimiser does to them, the workers see. Each group's gradient
    goes into a slot of shared memory. Workers say when they are free and are told what to do next; nobody polls. They
    end when this process does, however that ends. On a GPU both work on it; with NVIDIA's MPS at the same time, without
    it in turns.

    Args:
        engine: whose configuration the workers build theirs from; its parameters move to shared memory.
        trace: where spans go.

    Raises:
        ConfigError: a model whose groups must go in one order.
        RunError: a worker could not be started.
    """

    name = "processes"

    def __init__(self, engine: SnapshotEngine, trace: Trace) -> None:
        refuse_statistics(engine, self.name)
        parameters = list(engine.modules.parameters())
        most = engine.config.groups_per_step
        weights = torch.zeros(sum(map(_room, parameters)), dtype=parameters[0].dtype, device=engine.device)
        weights.share_memory_()
        _alias(parameters, weights, fill=True)
        size = sum(p.numel() for p in parameters)
        self.slots = torch.zeros(most, size, dtype=weights.dtype, device=weights.device).share_memory_()
        self.trace = trace
        context = mp.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        try:
            for number in range(WORKERS):
                here, there = context.Pipe()
                self.pipes.append(here)
                arguments = (number, engine.config, str(engine.device), weights, self.slots, there)
                process = context.Process(target=_serve, args=arguments, name=f"worker {number}", daemon=True)
                process.start()
                self.processes.append(process)
                there.close()
            for number in range(WORKERS):
                self._receive(number)
        except BaseException:
            self.close()
            raise

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        queue = ReadyQueue(groups, WORKERS)
        slot_of = {group: slot for slot, group in enumerate(groups)}
        losses: dict[int, float] = {}
        times: list[GroupTime] = []
        busy, began = set(range(WORKERS)), time.perf_counter()
        for number in busy:
            self._send(number, ("step", epoch, scale))
        with self.trace.span("wait for workers"):
            while busy:
                for pipe in wait([self.pipes[number] for number in busy]):
                    number = self.pipes.index(pipe)  # type: ignore[arg-type]
                    done = self._receive(number)
                    if done:
                        losses[done[1].group] = done[0]
                        times.append(done[1])
                    task = queue.next(number)
                    self._send(number, task and (task, slot_of[task.group]))
                    if task is None:
                        busy.remove(number)
        self._take_spans(times, began)
        add_slots(gradient, {group: self.slots[slot] for group, slot in slot_of.items()})
        return StepOutcome(sum(losses[group] for group in sorted(losses)), times)

    def close(self) -> None:
        """Let the workers end, and wait for them."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()

    def _take_spans(self, times: list[GroupTime], began: float) -> None:
        add_waits(self.trace, WORKERS, times, began)
        for each in times:
            for name, start, stop in each.phases:
                self.trace.add(name, f"worker {each.worker}", start, stop)

    def _send(self, number: int, message: Any) -> None:
        with self._said(number):
            self.pipes[number].send(message)

    def _receive(self, number: int) -> Any:
        with self._said(number):
            kind, content = self.pipes[number].recv()
        if kind == "failed":
            raise RunError(f"worker {number} has failed: {content}")
        return content

    @contextlib.contextmanager
    def _said(self, number: int) -> Iterator[None]:
        """Say in words that a worker is gone."""
        try:
            yield
        except (EOFError, OSError):
            process = self.processes[number]
            process.join(timeout=10)
            code = process.exitcode
            how = (
                f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"has ended (exit code {code})"
            )
            raise RunError(
                f"worker {number} (process {process.pid}) {how}. Checkpoints are as they were: go on with --resume."
            ) from None


def _room(parameter: nn.Parameter) -> int:
    """Elements that a parameter takes in shared memory: it begins at a multiple of 64 bytes, as elsewhere."""
    return -(-parameter.numel() // 16) * 16


def _alias(parameters: list[nn.Parameter], shared: Tensor, fill: bool = False) -> None:
    """Let parameters be views of one piece of memory; ``fill`` it with what they are first."""
    for p, part in zip(parameters, shared.split([_room(p) for p in parameters]), strict=True):
        view = part[: p.numel()].view_as(p)
        if fill:
            view.copy_(p.detach())
        p.data = view


def _serve(
    number: int,
    config: SnapshotConfig,
    device: str,
    weights: Tensor,
    slots: Tensor,
    pipe: Connection,
) -> None:
    """A worker process: builds its engine, and does halves of groups until the pipe closes."""
    os.setpgrp()  # Ctrl-C, and what torchrun sends to stop, are for the one who started this
    try:
        set_threads(config.threads)
        keep_freed_memory()
        engine = SnapshotEngine(config, open_snapshots(config.data), device, weights.dtype)
        _alias(list(engine.modules.parameters()), weights)
        worker = Worker(number, engine, Trace())
        pipe.send(("ready", None))
        while True:
            _, epoch, scale = pipe.recv()
            pipe.send(("free", None))
            while (order := pipe.recv()) is not None:
                task, slot = order
                done = worker.do(task, epoch, scale, slots[slot].copy_)
                if slots.is_cuda:
                    torch.cuda.synchronize()  # before the other process reads the slot
                pipe.send(("free", done))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the one who started this is gone, or has no more to do
    except BaseException as error:
        with contextlib.suppress(OSError):
            pipe.send(("failed", f"{type(error).__name__}: {error}"))
