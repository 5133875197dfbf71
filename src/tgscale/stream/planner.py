"""What i, j and k should be, and why: the data's captured events and a device's throughput in, a layout out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import yaml

from tgscale.data.stream import EventStream
from tgscale.data.work import MEMORY_UNITS
from tgscale.errors import ConfigError
from tgscale.models.stream_models import state_shape
from tgscale.stream.captured import CapturedCurve, captured_curve
from tgscale.stream.choice import (
    MEMORY_SHARE,
    OWN_COPIES,
    Choice,
    check_machines,
    choose_layout,
    copies_that_fit,
    copy_bytes,
    count_trainers,
    divisors,
    fits_gpu,
    machine_memory_bytes,
    percent,
)
from tgscale.stream.config import TrainConfig
from tgscale.stream.throughput import SIZES, DeviceProfile, options_that_matter
from tgscale.train.environment import find_device

MAX_MISSING = 0.5  # share of all incidences that a batch may keep from the memory
MAX_MISSING_BUSY = 0.6  # the same for the busiest nodes
FEW_UPDATES = 500  # of the weights, worth a note; DistTGL's best model on Wikipedia took 549 at least


def auto_layout(stream: EventStream, config: TrainConfig, machines: int, trainers_per_machine: int) -> Choice:
    """The layout for a run that gives none: as :func:`choose_layout`, with nothing measured.

    The configured batch size counts as the one that saturates a trainer's device and is kept, even where it alone loses
    more events than the planner's limits allow. All machines count as equal to this one.

    Raises:
        ConfigError: a machine cannot hold one copy of the node memory.
    """
    batch_size = config.train.batch_size
    if machines * trainers_per_machine == 1:  # nothing to choose, and nothing that should stop the run
        return choose_layout(1, 1, batch_size, batch_size, 1)
    device = find_device("cuda" if config.device.startswith("cuda") else config.device)
    gpu = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    bytes_per_copy = copy_bytes(stream.num_nodes, state_shape(config.model, config.sampling.neighbors))
    copies = copies_that_fit(bytes_per_copy, trainers_per_machine, machine_memory_bytes(), gpu)
    events = config.eval.split_of(stream).train
    curve = captured_curve(stream, events, [batch_size * i for i in divisors(trainers_per_machine)])
    largest = curve.largest(MAX_MISSING, MAX_MISSING_BUSY)
    choice = choose_layout(machines, trainers_per_machine, largest or batch_size, batch_size, copies)
    return choice if largest else _over_the_limits(choice, curve, MAX_MISSING, MAX_MISSING_BUSY)


@dataclass(frozen=True)
class Request:
    """What to plan for.

    Attributes:
        machines: how many, all alike.
        trainers_per_machine: GPUs, or CPU trainers.
        max_missing: share of all incidences that the memory may miss.
        max_missing_busy: the same for the busiest 1 % of the nodes.
        memory_bytes: main memory of a machine; that of the profiled one unless given, or else of this one.
    """

    machines: int = 1
    trainers_per_machine: int = 1
    max_missing: float = MAX_MISSING
    max_missing_busy: float = MAX_MISSING_BUSY
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        check_machines(self.machines, self.trainers_per_machine)
        for name, share in (("max-missing", self.max_missing), ("max-missing-busy", self.max_missing_busy)):
            if not 0 <= share <= 1:
                raise ConfigError(f"--{name} is {share}: give a share from 0 to 1.")

    def memory_of(self, profile: DeviceProfile) -> tuple[int, str]:
        """Main memory of a machine, in bytes, and whose figure that is."""
        if self.memory_bytes is not None:
            return self.memory_bytes, "as given"
        if "memory_bytes" in profile.machine:
            return int(profile.machine["memory_bytes"]), "that of the machine that was measured, assumed of all"
        return machine_memory_bytes(), "that of this machine, assumed of all"


@dataclass(frozen=True)
class Plan:
    """A choice with all that it rests on.

    Attributes:
        name: of the data.
        num_nodes, training_events: of the data.
        request: what was planned for.
        profile: the measured throughput.
        captured: what the memory captures at each candidate batch size.
        largest_batch: the largest candidate within the limits; the smallest of all where none is.
        bytes_per_copy: of the node memory.
        choice: the layout.
        epochs: of the run that was planned for.
        options: the other options of the run that was planned for, as its configuration file has them.
    """

    name: str
    num_nodes: int
    training_events: int
    request: Request
    profile: DeviceProfile
    captured: CapturedCurve
    largest_batch: int
    bytes_per_copy: int
    choice: Choice
    epochs: int
    options: dict[str, Any]

    @property
    def reasons(self) -> dict[str, str]:
        """The constraint that decided each of ``"i"``, ``"j"`` and ``"k"``."""
        return self.choice.reasons

    @property
    def on_gpu(self) -> bool:
        """Whether each trainer's GPU holds its memory copy."""
        return fits_gpu(self.bytes_per_copy, self.profile.device_memory_bytes)

    @property
    def updates(self) -> int:
        """About how often the run updates its weights: its epochs are a number of events, shared by all trainers."""
        return max(1, self.epochs * self.training_events // self.choice.events_per_iteration)

    def rows(self) -> list[dict[str, Any]]:
        """The table: a row per candidate batch size, with its missing shares, its measured rate or None, and a note."""
        curve, limits = self.captured, self.request
        return [
            {
                "batch_size": size,
                "missing": missing,
                "missing_busy": busy,
                "events_per_second": self.profile.rates.get(size),
                "allowed": missing <= limits.max_missing and busy <= limits.max_missing_busy,
                "note": self._note(size),
            }
            for size, missing, busy in zip(curve.batch_sizes, curve.missing, curve.missing_busy, strict=True)
        ]

    def _note(self, size: int) -> str:
        notes = {
            "saturates": self.profile.saturating_batch,
            "largest allowed": self.largest_batch,
            "local batch": self.choice.batch_size,
            "global batch": self.choice.global_batch,
        }
        text = ", ".join(note for note, of in notes.items() if of == size)
        return text.replace("local batch, global batch", "local = global batch")

    def to_config(self) -> dict[str, Any]:
        """The options that `tgscale train` takes: those that were planned for, with the layout and the batch size."""
        options = {name: value for name, value in self.options.items() if name not in ("layout", "emulate")}
        options["layout"] = str(self.choice.layout)
        if self.profile.device == "cuda" and not self.on_gpu:
            options["memory_backend"] = "shared"
        options["train"] = {**(options.get("train") or {}), "batch_size": self.choice.batch_size}
        return options

    def to_yaml(self) -> str:
        """The configuration file, with the reasons as a comment."""
        choice = self.choice
        trainers = f"{choice.machines} x {count_trainers(choice.trainers_per_machine)}"
        lines = [
            f"Planned by `tgscale plan` for {self.name}: {trainers}.",
            *(f"{axis} = {size}: {self.reasons[axis]}." for axis, size in self.axes().items()),
            *(f"Note: {note}." for note in choice.notes),
        ]
        wrapped = [part for line in lines for part in textwrap.wrap(line, 110, subsequent_indent="  ")]
        return "".join(f"# {line}\n" for line in wrapped) + yaml.safe_dump(self.to_config(), sort_keys=False)

    def axes(self) -> dict[str, int]:
        """i, j and k."""
        layout = self.choice.layout
        return {"i": layout.minibatch, "j": layout.epoch, "k": layout.memory}

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        choice, request = self.choice, self.request
        memory_bytes, memory_from = request.memory_of(self.profile)
        return {
            "data": {"name": self.name, "nodes": self.num_nodes, "training_events": self.training_events},
            "limits": {"max_missing": request.max_missing, "max_missing_busy": request.max_missing_busy},
            "busy_nodes": self.captured.busy_nodes,
            "batch_sizes": self.rows(),
            "profile": asdict(self.profile),
            "saturating_batch": self.profile.saturating_batch,
            "largest_batch": self.largest_batch,
            "memory": {
                "bytes_per_copy": self.bytes_per_copy,
                "bytes_per_machine": memory_bytes,
                "from": memory_from,
                "share": MEMORY_SHARE,
                "on_gpu": self.on_gpu,
                "copies_per_machine": choice.copies_per_machine,
            },
            "machines": choice.machines,
            "trainers_per_machine": choice.trainers_per_machine,
            "layout": str(choice.layout),
            "batch_size": choice.batch_size,
            "global_batch": choice.global_batch,
            "events_per_iteration": choice.events_per_iteration,
            "updates": self.updates,
            "reasons": self.reasons,
            "notes": list(choice.notes),
            "config": self.to_config(),
        }


def plan(
    stream: EventStream,
    config: TrainConfig,
    request: Request,
    profile: DeviceProfile,
    options: dict[str, Any] | None = None,
) -> Plan:
    """Plan a run.

    Args:
        stream: the events.
        config: the run to plan for; its layout and batch size do not matter.
        request: machines, trainers and limits.
        profile: throughput of one trainer's device.
        options: what ``config`` was made of, as a configuration file has it; becomes part of :meth:`Plan.to_config`.

    Raises:
        ConfigError: memory that holds no copy of the node memory.
    """
    machines, trainers = request.machines, request.trainers_per_machine
    bytes_per_copy = copy_bytes(stream.num_nodes, state_shape(config.model, config.sampling.neighbors))
    copies = copies_that_fit(bytes_per_copy, trainers, request.memory_of(profile)[0], profile.device_memory_bytes)
    events = config.eval.split_of(stream).train
    curve = captured_curve(stream, events, _candidates(events, trainers, profile))
    allowed = curve.largest(request.max_missing, request.max_missing_busy)
    largest = allowed or curve.batch_sizes[0]
    choice = choose_layout(machines, trainers, largest, profile.saturating_batch, copies)
    if not allowed:
        choice = _over_the_limits(choice, curve, request.max_missing, request.max_missing_busy)
    made = Plan(
        name=stream.name,
        num_nodes=stream.num_nodes,
        training_events=events,
        request=request,
        profile=profile,
        captured=curve,
        largest_batch=largest,
        bytes_per_copy=bytes_per_copy,
        choice=choice,
        epochs=config.train.epochs,
        options=options or {},
    )
    return replace(made, choice=replace(choice, notes=tuple(_notes(made, config, stream))))


def parse_memory(text: str) -> int:
    """Bytes of an amount such as ``64GB`` or ``512GiB``.

    Raises:
        ConfigError: not an amount.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]i?B)\s*", text, flags=re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ConfigError(f"--memory-per-machine {text!r} is no amount: give a number and a unit, such as 64GB.")
    return int(float(match[1]) * MEMORY_UNITS[match[2].upper()])


def _candidates(events: int, trainers: int, profile: DeviceProfile) -> list[int]:
    """Batch sizes to count at: a grid, what was measured, and every global batch that i could give."""
    sizes = {*SIZES, *profile.rates, *(profile.saturating_batch * i for i in divisors(trainers))}
    return [size for size in sizes if size <= events] or [events]


def _over_the_limits(choice: Choice, curve: CapturedCurve, max_missing: float, max_missing_busy: float) -> Choice:
    """The choice with the reason that even the smallest batch size loses too much."""
    why = (
        f"even in batches of {curve.batch_sizes[0]:,} the memory misses {percent(curve.missing[0])} of the events and "
        f"{percent(curve.missing_busy[0])} of those of the busiest nodes, more than the {percent(max_missing)} and "
        f"{percent(max_missing_busy)} that are allowed: one trainer per global batch"
    )
    return replace(choice, reasons={**choice.reasons, "i": why})


def _notes(made: Plan, config: TrainConfig, stream: EventStream) -> Iterator[str]:
    """What a reader would otherwise find out later."""
    choice, profile, epochs = made.choice, made.profile, config.train.epochs
    passes = choice.layout.epoch * choice.layout.memory
    best, rate = max(profile.rates.values()), profile.rates.get(choice.batch_size)
    if choice.batch_size < profile.saturating_batch:
        slower = f" ({rate:,.0f} events/s where {best:,.0f} are possible)" if rate else ""
        yield (
            f"batches of {choice.batch_size:,} leave the device partly idle{slower}: higher --max-missing and "
            "--max-missing-busy allow larger ones"
        )
    if passes > epochs:
        yield (
            f"the {epochs} epochs are shared out among j x k = {passes}, so each memory copy sees "
            f"{percent(epochs / passes)} of the events; with --train.epochs {passes} it sees all of them once"
        )
    if made.updates < FEW_UPDATES:
        yield f"about {made.updates:,} updates of the weights are few to learn from: more epochs, or fewer trainers"
    batches = made.training_events // choice.global_batch
    if choice.layout.memory > max(batches, 1):
        yield f"k = {choice.layout.memory} copies have {batches:,} global batches to start at: some start together"
    if profile.device == "cpu":
        cores, needed = profile.machine.get("cores"), choice.trainers_per_machine * config.threads
        if cores and cores < needed:
            yield f"{needed} CPU threads per machine will not run at the measured rate on its {cores} cores"
    elif not made.on_gpu:
        yield f"{OWN_COPIES} copies of the node memory do not fit half of a GPU, so copies are kept in main memory"
    now = options_that_matter(config, stream)
    other = [f"{name} {value}" for name, value in now.items() if profile.measured_with.get(name, value) != value]
    if other:
        yield f"the device profile was measured with other than {', '.join(other)}: its rates are a guess here"
