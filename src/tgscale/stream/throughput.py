"""How fast a device trains at each local batch size, measured, and from which size on it is busy.

A profile is a file, so it can be made on the machine that will train, and planned with anywhere.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgscale.data.files import write_atomically
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.nn.decoder import link_loss
from tgscale.stream.config import TaskConfig, TrainConfig, replace
from tgscale.stream.engine import StreamEngine
from tgscale.train.environment import describe_environment

SATURATED = 0.9  # share of the best rate at which a device counts as busy
SIZES = tuple(25 * 2**n for n in range(12))  # 25 to 51,200
ALWAYS, FASTER = 3200, 1.05  # larger sizes are measured only while twice the events are at least that much faster
SLICE = 200_000  # events to measure on, at most
ROUNDS = 3  # through all sizes, so that a busy moment of the machine does not decide about one of them
STEPS, SECONDS = 10, 0.15  # per size and round, at most; at least 1 step
MACHINE = ("cpu", "cores", "threads", "memory_bytes", "gpus", "platform", "torch", "tgscale")


@dataclass(frozen=True)
class DeviceProfile:
    """What was measured on one device.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        rates: local batch size -> events per second of whole training steps; ascending.
        device_memory_bytes: memory of the GPU; None for a CPU.
        machine: processor, cores, main memory (``memory_bytes``), versions.
        measured_with: the data and the options that the rates depend on.
    """

    device: str
    rates: dict[int, float]
    device_memory_bytes: int | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    measured_with: dict[str, Any] = field(default_factory=dict)

    @property
    def saturating_batch(self) -> int:
        """The smallest batch at 90 % of the best rate or more."""
        best = max(self.rates.values())
        return next(size for size, rate in self.rates.items() if rate >= SATURATED * best)

    @property
    def name(self) -> str:
        """The device in words."""
        names = self.machine.get("gpus") if self.device == "cuda" else None
        return f"{self.device} ({names[0] if names else self.machine.get('cpu', 'unknown')})"


def load_or_measure(
    file: Path | None,
    config: TrainConfig,
    stream: EventStream,
    device: Callable[[], torch.device],
    progress: Callable[[str], None] = lambda step: None,
) -> DeviceProfile:
    """The profile in ``file`` when there is one; else measured here and, where a file is named, written to it.

    ``device`` is asked for only when something is measured: the machine that plans may lack the one that will train.

    Raises:
        ConfigError: the file does not hold a profile, or cannot be written.
    """
    if file is not None and file.exists():
        return read_profile(file)
    if file is not None and not file.parent.is_dir():  # before the work, not after it
        raise ConfigError(f"device profile {file} cannot be written: {file.parent} is not a directory.")
    profile = measure(config, stream, device(), progress)
    if file is not None:
        write_profile(file, profile)
    return profile


def measure(
    config: TrainConfig,
    stream: EventStream,
    device: torch.device,
    progress: Callable[[str], None] = lambda step: None,
) -> DeviceProfile:
    """Time training steps at batch sizes from 25 on: sampling, forward, backward, optimiser and write-back.

    Of a long stream, the last 200,000 training events are measured on. A pre-trained static table is left out: looking
    it up takes next to no time, making it does. The task is link prediction, whatever the run's. A size that does not
    fit the device's memory ends the measurement.

    Args:
        config: model, sampling and negatives; the batch size is that of each measurement.
        stream: the events.
        device: where to train.
        progress: told what is being done.

    Raises:
        ConfigError: fewer training events than the smallest batch has.
    """
    changes = {"static__mode": "none"} if config.static.mode == "pretrained" else {}
    config = replace(config, layout="1x1x1", emulate=None, task=TaskConfig(), **changes)
    training = config.eval.split_of(stream).train
    if training < SIZES[0]:
        raise ConfigError(f"{stream.name} has {training} training events: {SIZES[0]} are needed to measure a device.")
    part = last_events(stream, training, SLICE)
    rates = _rates_by_size(_TrainingSteps(config, part, device), part.num_events, device, progress)
    cuda = device.type == "cuda"
    environment = describe_environment()
    return DeviceProfile(
        device=device.type,
        rates=rates,
        device_memory_bytes=torch.cuda.get_device_properties(device).total_memory if cuda else None,
        machine={name: environment[name] for name in MACHINE},
        measured_with={"data": stream.name, **options_that_matter(config, stream)},
    )


def _rates_by_size(
    steps: _TrainingSteps, events: int, device: torch.device, progress: Callable[[str], None]
) -> dict[int, float]:
    """Events per second at each size that the stream and the device hold."""
    rates: dict[int, float] = {}

    def measured(size: int) -> bool:
        try:
            rates[size] = max(steps.rate(size), rates.get(size, 0.0))
        except torch.OutOfMemoryError:
            if not rates:
                raise
            return False
        return True

    sizes = [size for size in SIZES if size <= min(events, ALWAYS)]
    for at in range(ROUNDS):
        progress(f"training steps of {sizes[0]:,} to {sizes[-1]:,} events on {device.type}, round {at + 1} of {ROUNDS}")
        sizes = list(itertools.takewhile(measured, sizes))
    for size in [size for size in SIZES if ALWAYS < size <= events]:
        if size // 2 not in rates or rates[size // 2] < FASTER * rates[size // 4]:
            break
        progress(f"training steps of {size:,} events on {device.type}")
        if not all(measured(size) for _ in range(ROUNDS)):
            break
    return rates


def options_that_matter(config: TrainConfig, stream: EventStream) -> dict[str, Any]:
    """What a rate depends on, beside the device."""
    other = {} if config.model.name == "tgn" else {"model.name": config.model.name}  # profiles of before had TGN alone
    return {
        **other,
        "model.dim": config.model.dim,
        "model.heads": config.model.heads,
        "model.pair_encoding": config.model.pair_encoding and list(config.model.pair_groups),
        "sampling.neighbors": config.sampling.neighbors,
        "train.negatives": config.train.negatives,
        "threads": config.threads,
        "edge features": stream.edge_dim,
    }


def last_events(stream: EventStream, stop: int, most: int) -> EventStream:
    """The last ``most`` events before event ``stop`` as a stream of their own, in memory, with their nodes alone."""
    start = max(0, stop - most)
    nodes, number = np.unique(np.concatenate([stream.src[start:stop], stream.dst[start:stop]]), return_inverse=True)
    src, dst = np.split(number, 2)
    sources = stream.num_sources
    return EventStream.from_arrays(
        src,
        dst,
        np.array(stream.time[start:stop]),
        num_nodes=len(nodes),
        edge_features=None if stream.edge_features is None else np.array(stream.edge_features[start:stop]),
        node_features=None if stream.node_features is None else np.array(stream.node_features[nodes]),
        num_sources=None if sources is None else int(np.searchsorted(nodes, sources)),
        time_unit=stream.time_unit,
        name=stream.name,
    )


class _TrainingSteps:
    """Times training steps. All that the planner asks of the engine stands here."""

    def __init__(self, config: TrainConfig, stream: EventStream, device: torch.device) -> None:
        self.engine = StreamEngine(config, stream, device)
        self.engine.model.train()
        self.optimizers = self.engine.optimizers()
        self.negatives, self.events = config.train.negatives, stream.num_events
        self.device, self.seen = device, set[int]()
        # A lone CPU thread is timed by the time that it ran, so that a busy machine does not look like a slow one.
        self.clock = time.process_time if device.type == "cpu" and config.threads == 1 else time.perf_counter
        self.engine.memory.reset()
        self._step(0, min(2, self.events))  # kernels compile, or load from their cache

    def rate(self, size: int) -> float:
        """Events per second in the fastest step of ``size`` events; the first one of a size does not count."""
        # From the middle of the stream on, where nodes have a past, and round and round if need be.
        starts = itertools.cycle(range(min(self.events // 2, self.events - size), self.events - size + 1, size))
        if size not in self.seen:
            self._step(first := next(starts), first + size)
            self.seen.add(size)
        seconds: list[float] = []
        while not seconds or (len(seconds) < STEPS and sum(seconds) < SECONDS):
            start = next(starts)
            began = self.clock()
            self._step(start, start + size)
            seconds.append(self.clock() - began)
        return size / min(seconds)

    def _step(self, start: int, stop: int) -> None:
        batch = self.engine.builder.range(start, stop, self.negatives, seed=0)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        link_loss(self.engine.score(batch)).backward()
        for optimizer in self.optimizers:
            optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def write_profile(file: Path, profile: DeviceProfile) -> None:
    """Write a profile as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        write_atomically(file, json.dumps(asdict(profile), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"device profile {file} cannot be written: {error.strerror}.") from None


def read_profile(file: Path) -> DeviceProfile:
    """The profile that :func:`write_profile` wrote, or that was written by hand: ``device`` and ``rates`` are enough.

    Raises:
        ConfigError: the file cannot be read, is not JSON, or lacks or spoils a part.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"device profile {file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"device profile {file} is not valid JSON ({error}): {_AGAIN}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"device profile {file} holds {type(values).__name__}, not a mapping: {_AGAIN}.")
    known = {name: values[name] for name in DeviceProfile.__dataclass_fields__ if name in values}
    for name in ("device", "rates"):
        if name not in known:
            raise ConfigError(f"device profile {file} has no {name!r}: {_AGAIN}.")
    known["rates"] = _rates(file, known["rates"])
    _check(file, known, "device", known["device"] in ("cpu", "cuda"), '"cpu" or "cuda"')
    memory = known.get("device_memory_bytes")
    _check(file, known, "device_memory_bytes", memory is None or (_number(memory) and memory > 0), "bytes, or null")
    for name in ("machine", "measured_with"):
        _check(file, known, name, isinstance(known.get(name, {}), dict), "a mapping")
    machine = known.get("machine", {})
    if "memory_bytes" in machine:
        good = _number(machine["memory_bytes"]) and machine["memory_bytes"] > 0
        _check(file, machine, "memory_bytes", good, "bytes")
    return DeviceProfile(**known)


_AGAIN = "remove it to measure anew, or name another file"


def _rates(file: Path, rates: Any) -> dict[int, float]:
    expected = 'a mapping of batch sizes to events per second, such as {"400": 12000, "800": 14000}'
    if not isinstance(rates, dict) or not rates:
        raise ConfigError(f"device profile {file}: rates is {json.dumps(rates)}; expected {expected}.")
    for size, rate in rates.items():
        if not (size.isascii() and size.isdigit() and int(size) > 0 and _number(rate) and 0 < rate < math.inf):
            given = json.dumps({size: rate})
            raise ConfigError(f"device profile {file}: rates holds {given}; expected {expected}.")
    return {size: float(rate) for size, rate in sorted((int(size), rate) for size, rate in rates.items())}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(file: Path, values: dict[str, Any], name: str, good: bool, expected: str) -> None:
    if not good:
        raise ConfigError(f"device profile {file}: {name} is {json.dumps(values[name])}; expected {expected}.")
