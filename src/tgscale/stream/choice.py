"""The choice of i, j and k from four numbers, each with the constraint that decided it (DistTGL, section 3.2.4).

The data bound the global batch and so i; memory and the number of machines bound k; j is what remains, because its
trainers only add gradients of events that are being trained on anyway.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from tgscale.errors import ConfigError
from tgscale.memory.shape import RowShape, row_shape
from tgscale.stream.layout import Layout

MEMORY_SHARE = 0.8  # of a machine's main memory may hold node memory; the rest is for processes and events
GPU_SHARE = 0.5  # of a GPU's memory; the rest is for events, features and what a step needs
OWN_COPIES = 2  # of the node memory that every trainer keeps anyway: to validate with, and with the best weights


@dataclass(frozen=True)
class Choice:
    """A layout and what decided it.

    Attributes:
        layout: i x j x k.
        batch_size: events per local batch.
        machines, trainers_per_machine: what it was chosen for.
        reasons: for each of ``"i"``, ``"j"`` and ``"k"``, the constraint that decided it.
        notes: what else the reader should know.
    """

    layout: Layout
    batch_size: int
    machines: int
    trainers_per_machine: int
    reasons: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def global_batch(self) -> int:
        """Events that the memory moves on by at once: i local batches."""
        return self.layout.minibatch * self.batch_size

    @property
    def events_per_iteration(self) -> int:
        """Events behind one update of the weights: a local batch of every trainer."""
        return self.layout.world * self.batch_size

    @property
    def copies_per_machine(self) -> int:
        """Memory copies that a machine holds."""
        return self.layout.memory // self.machines


def choose_layout(
    machines: int, trainers_per_machine: int, largest_batch: int, saturating_batch: int, copies_per_machine: int
) -> Choice:
    """Choose ``i x j x k`` for ``machines * trainers_per_machine`` trainers.

    1. A memory group stays on one machine, so k is a multiple of ``machines`` and memory never crosses the network.
    2. i is how many saturating batches the largest batch holds, as far as it divides the trainers of a machine.
    3. k is as many copies as a machine's memory holds, as far as they divide what i leaves.
    4. j is the rest.

    Args:
        machines: p, all alike.
        trainers_per_machine: q, GPUs or CPU trainers.
        largest_batch: the most events that may be in a global batch.
        saturating_batch: events per local batch from which on a trainer's device is busy.
        copies_per_machine: copies of the node memory that a machine can hold.

    Raises:
        ConfigError: a number below 1.
    """
    _check(machines, trainers_per_machine, largest_batch, saturating_batch, copies_per_machine)
    batch_size = min(saturating_batch, largest_batch)
    i = _largest_divisor(trainers_per_machine, largest_batch // batch_size)
    groups = _largest_divisor(trainers_per_machine // i, copies_per_machine)
    layout = Layout(i, trainers_per_machine // (i * groups), groups * machines)
    return Choice(
        layout,
        batch_size,
        machines,
        trainers_per_machine,
        reasons={
            "i": _why_i(i, trainers_per_machine, largest_batch, saturating_batch),
            "j": _why_j(layout),
            "k": _why_k(layout, machines, trainers_per_machine, copies_per_machine),
        },
    )


def check_machines(machines: int, trainers_per_machine: int) -> None:
    """Refuse numbers below 1.

    Raises:
        ConfigError: as said.
    """
    for name, value in (("machines", machines), ("trainers per machine", trainers_per_machine)):
        if value < 1:
            raise ConfigError(f"{name}: {value} were given. Give 1 or more.")


def copy_bytes(num_nodes: int, dim: int | RowShape | None) -> int:
    """Bytes of one copy of the node memory: for TGN memory and mail (3 D float32), and two int64 per node.

    Args:
        num_nodes: N.
        dim: D of TGN; or the shape of a node's state; None for a model without memory.
    """
    return 0 if dim is None else num_nodes * row_shape(dim).bytes()


def copies_that_fit(bytes_per_copy: int, trainers: int, memory_bytes: int, gpu_memory_bytes: int | None = None) -> int:
    """How many copies of the node memory a machine can train on.

    Four fifths of its main memory may hold copies, and every trainer keeps two of its own beside those that are trained
    on. When these two fit half of a GPU, each trainer works on its GPU alone, and main memory does not matter.

    Args:
        bytes_per_copy: as :func:`copy_bytes`; 0 fits as often as there are trainers.
        trainers: of the machine.
        memory_bytes: main memory of the machine.
        gpu_memory_bytes: memory of each GPU; None when trainers use CPUs.

    Raises:
        ConfigError: not even one.
    """
    if not bytes_per_copy or fits_gpu(bytes_per_copy, gpu_memory_bytes):
        return trainers
    copies = int(memory_bytes * MEMORY_SHARE) // bytes_per_copy - OWN_COPIES * trainers
    if copies < 1:
        raise ConfigError(
            f"the node memory does not fit: a copy takes {amount(bytes_per_copy)}, a machine with "
            f"{count_trainers(trainers)} needs {OWN_COPIES * trainers + 1} or more, and has "
            f"{amount(memory_bytes * MEMORY_SHARE)} for them ({percent(MEMORY_SHARE)} of its {amount(memory_bytes)}). "
            "Use machines with more memory, fewer trainers per machine, or a smaller model.dim."
        )
    return copies


def fits_gpu(bytes_per_copy: int, gpu_memory_bytes: int | None) -> bool:
    """Whether a trainer's GPU holds the copies that the trainer needs."""
    return gpu_memory_bytes is not None and OWN_COPIES * bytes_per_copy <= GPU_SHARE * gpu_memory_bytes


def machine_memory_bytes() -> int:
    """Main memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*low, *(number // d for d in low)})


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def amount(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.2f} MB"


def _largest_divisor(number: int, limit: int) -> int:
    return max(d for d in divisors(number) if d <= limit)


def _check(machines: int, trainers: int, largest_batch: int, saturating_batch: int, copies: int) -> None:
    check_machines(machines, trainers)
    for name, value in (("largest", largest_batch), ("saturating", saturating_batch)):
        if value < 1:
            raise ConfigError(f"the {name} batch has {value} events: it needs 1 or more.")
    if copies < 1:
        raise ConfigError(
            "no copy of the node memory fits a machine, and every machine needs one: use machines with more memory, or "
            "a lower model.dim."
        )


def _why_i(i: int, trainers: int, largest_batch: int, saturating_batch: int) -> str:
    if largest_batch < saturating_batch:
        return (
            f"the data allow batches of {largest_batch:,} events, less than the {saturating_batch:,} that saturate a "
            f"trainer: one trainer per global batch, and the local batch is reduced to {largest_batch:,}"
        )
    holds = largest_batch // saturating_batch
    times = {1: "once", 2: "twice"}.get(holds, f"{holds:,} times")
    why = f"a batch may have {largest_batch:,} events, {times} the {saturating_batch:,} that saturate a trainer"
    if i == holds:
        return why
    if i == trainers:
        return f"{why}; but a group stays on its machine, which has {count_trainers(trainers)}"
    return f"{why}; {i} is the largest number up to {holds:,} that divides the {trainers} trainers of a machine"


def _why_j(layout: Layout) -> str:
    rest = f"what remains of {count_trainers(layout.world)}: {layout.world} / ({layout.minibatch} x {layout.memory})"
    return f"{rest}, so no events are trained on several times in a row" if layout.epoch == 1 else rest


def _why_k(layout: Layout, machines: int, trainers: int, copies: int) -> str:
    held = layout.memory // machines
    room = f"{trainers} / {layout.minibatch}" if layout.minibatch > 1 else f"{trainers}"
    if held == trainers // layout.minibatch:
        why = f"as many as its trainers can use ({room})"
    elif held == copies:
        why = "all that its memory holds"
    else:
        why = f"the largest number up to the {copies:,} that its memory holds that divides {room}"
    each = "1 copy" if held == 1 else f"{held} copies"
    if machines == 1:
        return f"the machine holds {each}, {why}"
    return f"each of {machines} machines holds {each}, {why}; memory never crosses the network"


def count_trainers(count: int) -> str:
    """A number of trainers in words."""
    return "1 trainer" if count == 1 else f"{count} trainers"
