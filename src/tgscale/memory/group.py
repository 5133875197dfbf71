"""A memory copy as the trainers of its group see it, whoever holds it; and the form that lives in one process.

The trainers of a group move through *positions* 0, 1, 2, ...: the global batches that the copy goes through since the
run began. At a position some trainers ask for rows, compute, and commit what they write; all others commit nothing.
Reads of a position see all writes of the positions before it and none of its own. Every form gives the same rows bit
for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from torch import Tensor

from tgscale.memory.local import LocalMemory, MemoryRows, NoMemory
from tgscale.memory.order import WriteOrder


@dataclass
class Write:
    """New state of some nodes.

    Attributes:
        nodes: ``[W]``, int64, each once, at least one.
        rows: their state, ``[W, ...]``.
    """

    nodes: Tensor
    rows: MemoryRows

    def __post_init__(self) -> None:
        if not len(self.nodes):
            raise ValueError("a write holds no node: a trainer that has nothing to write commits None.")


class GroupMemory(Protocol):
    """One memory copy, as one of the trainers of its group sees it."""

    def request(self, position: int, nodes: Tensor) -> None:
        """Ask for the rows of ``nodes`` as they will be when ``position`` begins.

        May be called long before that, so that the rows are there when they are needed. At most one request is
        outstanding, and none is made for a position that resets.

        Args:
            position: the next one that this trainer reads at.
            nodes: ``[U]``, int64.
        """

    def receive(self) -> MemoryRows:
        """The rows that were asked for, ``[U, ...]``, contiguous; waits for them.

        They stay valid until the request after the next one is made, and must not be altered. Between this and the
        commit of its position no trainer may wait for another in any other way, such as an all-reduce.
        """

    def commit(self, position: int, write: Write | None, writers: int, reset: bool) -> None:
        """Say what this trainer writes at a position; every trainer does, for every position, in order.

        Args:
            position: one more than at the call before.
            write: None for a trainer that writes nothing here.
            writers: how many trainers of the group write at this position, at least one: the first of an epoch row.
            reset: the memory is cleared before the writes are applied.
        """

    def wait(self, position: int) -> None:
        """Return when all writes of the positions below ``position`` are applied."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the whole state, by name, as :class:`LocalMemory` gives it. To be called after :meth:`wait`."""

    def load_state_dict(self, state: dict[str, Tensor], position: int) -> None:
        """Take over what :meth:`state_dict` gave and go on at ``position``.

        The first trainer of the group calls it, before any request; the caller puts a barrier of all trainers after it.
        """

    def close(self) -> None:
        """Leave the group: no call follows. A trainer that fails may call it too, or just end."""


class Turn:
    """Keeps the calls of one trainer in order. A break is a fault of the caller, not of the user.

    Attributes:
        position: the next one to commit; None before the first.
        asked: position of the outstanding request, if there is one.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self.asked: int | None = None

    def request(self, position: int) -> None:
        if self.asked is not None:
            raise RuntimeError(f"rows of position {self.asked} were requested and not received: receive them first.")
        if self.position is not None and position < self.position:
            raise RuntimeError(f"rows of position {position} are requested, but {self.position} is the next to commit.")
        self.asked = position

    def receive(self) -> int:
        if self.asked is None:
            raise RuntimeError("rows are to be received, but none were requested.")
        position, self.asked = self.asked, None
        return position

    def commit(self, position: int, writers: int) -> None:
        if self.position not in (None, position):
            raise RuntimeError(f"position {position} is committed, but {self.position} is the next: none is left out.")
        if writers < 1:
            raise RuntimeError(f"position {position} has {writers} writers: at least one trainer writes at each.")
        self.position = position + 1

    def load(self, position: int) -> None:
        if self.asked is not None:
            raise RuntimeError("a state is loaded while rows are requested: load it before any request.")
        self.position = position


@dataclass(eq=False)
class _Copy:
    """A copy in this process, and those who share it."""

    memory: LocalMemory
    order: WriteOrder[Write] = field(default_factory=WriteOrder)
    members: int = 0


_COPIES: WeakValueDictionary[int, _Copy] = WeakValueDictionary()
"""By the identity of the memory; an entry lives as long as a member does."""


class LocalGroupMemory:
    """A copy that lives in this process: for its only trainer, or for trainers that are run in turn.

    Those that are made around the same memory are the members of its group, numbered as they are made: make them in the
    order of the trainers.

    Args:
        memory: the copy.
    """

    def __init__(self, memory: LocalMemory) -> None:
        self._copy = _COPIES.setdefault(id(memory), _Copy(memory))
        self.member = self._copy.members
        self._copy.members += 1
        self._turn = Turn()
        self._nodes: Tensor | None = None

    @property
    def memory(self) -> LocalMemory:
        """The copy itself."""
        return self._copy.memory

    def request(self, position: int, nodes: Tensor) -> None:
        self._turn.request(position)
        self._nodes = nodes

    def receive(self) -> MemoryRows:
        self.wait(self._turn.receive())
        assert self._nodes is not None
        return self._copy.memory.read(self._nodes)

    def commit(self, position: int, write: Write | None, writers: int, reset: bool) -> None:
        self._turn.commit(position, writers)
        if write is None:
            return
        memory, order = self._copy.memory, self._copy.order
        order.add(position, self.member, write, writers, reset)
        while (complete := order.take()) is not None:
            clear, writes = complete
            if clear:
                memory.reset()
            for each in writes:
                memory.write(each.nodes, each.rows)

    def wait(self, position: int) -> None:
        # Nobody else runs while this one waits.
        if position > self._copy.order.next:
            raise RuntimeError(
                f"position {position} cannot begin: not all trainers have written at position {self._copy.order.next}. "
                "In one process, each position is committed by all before the next is received."
            )

    def state_dict(self) -> dict[str, Tensor]:
        return self._copy.memory.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], position: int) -> None:
        self._turn.load(position)
        self._copy.order.restart(position)
        self._copy.memory.load_state_dict(state)

    def close(self) -> None:
        pass


class NoGroupMemory:
    """The copy of a model without memory, as one of its trainers sees it: nobody waits for anybody.

    Args:
        memory: gives rows of width 0.
    """

    def __init__(self, memory: NoMemory) -> None:
        self.memory = memory
        self._turn = Turn()
        self._nodes: Tensor | None = None

    def request(self, position: int, nodes: Tensor) -> None:
        self._turn.request(position)
        self._nodes = nodes

    def receive(self) -> MemoryRows:
        self._turn.receive()
        assert self._nodes is not None
        return self.memory.read(self._nodes)

    def commit(self, position: int, write: Write | None, writers: int, reset: bool) -> None:
        self._turn.commit(position, writers)

    def wait(self, position: int) -> None:
        pass

    def state_dict(self) -> dict[str, Tensor]:
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], position: int) -> None:
        self._turn.load(position)

    def close(self) -> None:
        pass
