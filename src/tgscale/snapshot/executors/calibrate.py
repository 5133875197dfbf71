"""Which executor is the fastest here: a few groups by each, timed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tgscale.errors import ConfigError, RunError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.base import Executor
from tgscale.snapshot.executors.captured import CapturedExecutor
from tgscale.snapshot.executors.processes import ProcessesExecutor
from tgscale.snapshot.executors.serial import SerialExecutor
from tgscale.snapshot.executors.streams import StreamsExecutor
from tgscale.train.trace import Trace

Make = Callable[[SnapshotEngine, Trace], Executor]
EXECUTORS: dict[str, Make] = {
    "serial": SerialExecutor,
    "streams": StreamsExecutor,
    "processes": ProcessesExecutor,
    "graph": CapturedExecutor,
}
MOST_GROUPS, ROUNDS = 6, 2
WORTH_THREADS, WORTH_PROCESSES = 5.0, 60.0
"""Seconds that a run must be expected to take before it is worth while to try another executor."""
MARGIN = 1.03
"""By how much two workers must be faster to be taken."""


@dataclass(frozen=True)
class Choice:
    """What was measured.

    Attributes:
        name: of the fastest.
        seconds: for the same groups, by executor; empty where there was nothing to choose.
        why: in words.
    """

    name: str
    seconds: dict[str, float]
    why: str


def choose_executor(engine: SnapshotEngine, devices: int, local_devices: int) -> Choice:
    """Time executors on a few groups; weights stay as they are.

    Args:
        engine: model and data.
        devices: that share the groups of a step.
        local_devices: of them, on this machine.
    """
    config = engine.config
    if config.partition in ("snapshot", "vertex") and devices > 1:
        return Choice("serial", {}, "all devices work on one group at a time")
    share = config.groups_per_step // devices
    if share < 2:
        return Choice("serial", {}, "a device has one group in a step")
    if engine.device.type == "cpu" and _cores() < 2 * local_devices * config.threads:
        return Choice("serial", {}, "there is no second core for a second worker")
    groups = [int(g) for g in torch.linspace(0, len(engine.groups) - 1, min(MOST_GROUPS, share, len(engine.groups)))]
    seconds = {"serial": _time(SerialExecutor, engine, groups)}
    whole = seconds["serial"] / len(groups) * len(engine.groups) * config.train.epochs / devices
    for name, worth in (("streams", WORTH_THREADS), ("processes", WORTH_PROCESSES)):
        if whole >= worth:
            try:
                seconds[name] = _time(EXECUTORS[name], engine, groups)
            except ConfigError as error:
                return Choice("serial", seconds, str(error))
            except RunError:  # workers cannot be started here, such as from a script without a main guard
                break
    if len(seconds) == 1:
        return Choice("serial", seconds, f"one worker, as {_why_alone(whole)}")
    best = min(seconds, key=lambda name: seconds[name] * (1 if name == "serial" else MARGIN))
    took = ", ".join(f"{name} {each:.3f}" for name, each in seconds.items())
    faster = f"{seconds['serial'] / seconds[best]:.2f} times as fast as one worker" if best != "serial" else "fastest"
    return Choice(best, seconds, f"{faster}; seconds for {len(groups)} groups: {took}")


def _why_alone(whole: float) -> str:
    """Why no other executor was tried, or could be, for a training of so many seconds."""
    if whole >= WORTH_THREADS:
        return "others could not be started here"
    return f"training takes about {whole:.1f} s, too little for trying others to pay"


def _time(make: Make, engine: SnapshotEngine, groups: list[int]) -> float:
    """Seconds for some groups, the best of some rounds, after one that warms up."""
    executor = make(engine, Trace())
    gradient = torch.zeros(sum(p.numel() for p in engine.modules.parameters()), device=engine.device)
    took = []
    buffers = {name: buffer.clone() for name, buffer in engine.modules.named_buffers()}
    try:
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            executor.run(groups, 0, 1.0, gradient)
            if engine.device.type == "cuda":
                torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
    finally:
        executor.close()
        for name, buffer in engine.modules.named_buffers():
            buffer.copy_(buffers[name])
    return min(took[1:])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(choice: Choice, quiet: bool) -> None:
    """Tell which executor was chosen, and why."""
    if not quiet and choice.seconds:
        print(f"executor: {choice.name}, {choice.why}", file=sys.stderr)
