"""A memory copy that every trainer of its group keeps, with all writes exchanged.

Each writer of a position broadcasts its write to its group. Only the i trainers of one epoch row have something to
send, and every other trainer needs all of it, so no exchange brings fewer bytes to each than these broadcasts; an
all-gather over the group would bring j times as many, empty for all rows of the epoch axis but one.

A write goes as one piece of fixed size, so sizes need not be exchanged and, on a GPU, the host need not wait. Rows that
are missing are filled up with the write's first row once more: to put the same row twice changes nothing.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from tgscale.errors import ConfigError, LostPeerError
from tgscale.memory.group import Turn, Write
from tgscale.memory.local import LocalMemory, MemoryRows

_PATIENCE = datetime.timedelta(seconds=10)
"""How long a trainer that leaves waits for the others to have its last write."""


class ReplicatedMemory:
    """A memory copy that each trainer of the group keeps, as one of them sees it.

    All trainers of the group make it together. A broadcast goes on while the trainer computes, and is waited for when
    the memory is used next. So trainers must commit a position before they meet in another exchange.

    Args:
        local: this trainer's copy; it must not be written by anyone else.
        group: the trainers of the memory copy, in their order. Nothing else may be exchanged in it.
        member: number of this trainer in the group.
        minibatch: i; the writers of position p are the first of the trainers e * i .. e * i + i - 1, e = p mod j.
        capacity: most nodes of a write.

    Raises:
        ValueError: the group is that of all processes, which others use.
        LostPeerError: a trainer of the group is not there.
    """

    def __init__(
        self, local: LocalMemory, group: dist.ProcessGroup, member: int, minibatch: int, capacity: int
    ) -> None:
        if group is dist.group.WORLD:
            raise ValueError("a replicated memory needs a process group of its own: make one with new_group.")
        self.local, self.group, self.member, self.minibatch, self.capacity = local, group, member, minibatch, capacity
        self.epoch = dist.get_world_size(group) // minibatch
        self._parcels = [_Parcel(capacity, local) for _ in range(minibatch)]
        self._turn = Turn()
        self._nodes: Tensor | None = None
        self._position = 0  # all writes below this one are applied, or on their way
        self._start = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._open = False
        self._telling: list[dist.Work] = []
        self._under_way: list[dist.Work] = []
        self._to_apply = 0
        self._reset = False
        # The group's connections are made now, when all are here: later, broadcasts must not wait for one another.
        with self._peers():
            dist.broadcast(torch.zeros(1, dtype=torch.int64, device=self._device), group_src=0, group=group)

    def request(self, position: int, nodes: Tensor) -> None:
        self._turn.request(position)
        self._nodes = nodes
        self._begin()

    def receive(self) -> MemoryRows:
        self.wait(self._turn.receive())
        assert self._nodes is not None
        return self.local.read(self._nodes)

    def commit(self, position: int, write: Write | None, writers: int, reset: bool) -> None:
        if write is not None and len(write.nodes) > self.capacity:
            raise ConfigError(
                f"member {self.member} of the group is to write {len(write.nodes)} rows of the memory at once, and "
                f"there is room for {self.capacity}: give ReplicatedMemory a larger capacity."
            )
        self._turn.commit(position, writers)
        self._settle()
        if position != self._position:
            raise RuntimeError(f"position {position} is committed, but this copy is at {self._position}.")
        first = position % self.epoch * self.minibatch
        if (write is not None) != (first <= self.member < first + writers):
            raise RuntimeError(
                f"member {self.member} commits {'no' if write is None else 'a'} write at position {position}, whose "
                f"writers are members {first} to {first + writers - 1}."
            )
        if write is not None:
            self._parcels[self.member - first].fill(write)
        with self._peers():
            self._under_way = [self._broadcast(self._parcels[b].bytes, first + b) for b in range(writers)]
        self._to_apply, self._reset = writers, reset
        self._position = position + 1

    def wait(self, position: int) -> None:
        self._settle()
        if position > self._position:
            raise RuntimeError(
                f"position {position} cannot begin: {self._position} is the next that is to be committed."
            )

    def state_dict(self) -> dict[str, Tensor]:
        return self.local.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], position: int) -> None:
        self._turn.load(position)
        if self.member or self._open:
            raise RuntimeError("a state is loaded by the first member, once, before anything is read or committed.")
        self.local.load_state_dict(state)
        self._position = position
        self._begin()

    def close(self) -> None:
        # What is still on its way is for others; but they may have ended.
        with contextlib.suppress(RuntimeError):
            for work in self._telling + self._under_way:
                work.wait(_PATIENCE)
        self._telling, self._under_way = [], []

    @property
    def _device(self) -> torch.device:
        return self.local.state.memory.device

    def _settle(self) -> None:
        """Have the memory as it is after all that was committed."""
        self._begin()
        if self.member or self._under_way:
            self._finish_beginning()
        if not self._under_way:
            return
        with self._peers():
            for work in self._under_way:
                work.wait()
        self._under_way = []
        if self._reset:
            self.local.reset()
        for parcel in self._parcels[: self._to_apply]:
            self.local.write(parcel.nodes, parcel.rows)
        self._to_apply, self._reset = 0, False

    def _begin(self) -> None:
        """At the first use, the first member's state goes to all.

        Nobody waits here, nor does the first member before it has something to apply: the others may come later. A
        broadcast passes from one to the next, so it arrives when all have come, at their first commit if not before.
        """
        if not self._open:
            self._open = True
            self._start[0] = self._position
            with self._peers():
                for tensor in (self._start, *vars(self.local.state).values()):
                    self._telling.append(self._broadcast(tensor, 0))

    def _finish_beginning(self) -> None:
        if self._telling:
            with self._peers():
                for work in self._telling:
                    work.wait()
            self._telling = []
            if self.member:
                self._position = int(self._start)

    def _broadcast(self, tensor: Tensor, source: int) -> dist.Work:
        work = dist.broadcast(tensor, group_src=source, group=self.group, async_op=True)
        assert work is not None
        return work

    @contextlib.contextmanager
    def _peers(self) -> Iterator[None]:
        """Say in words what torch.distributed says of a peer that has gone."""
        try:
            yield
        except RuntimeError as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise LostPeerError(
                f"member {self.member} of a memory copy lost its connection to another trainer of it, which has ended "
                f"or was stopped: its own message says why. ({first[:200]})"
            ) from error


class _Parcel:
    """A write as one piece of bytes.

    Args:
        capacity: rows.
        like: a memory whose rows go into it.
    """

    def __init__(self, capacity: int, like: LocalMemory) -> None:
        state = like.state
        item, (dim, mail, mails) = state.memory.element_size(), like.shape
        # The integers first: their place must be a multiple of 8.
        row = [8, 8, 8 * mails, dim * item, mails * mail * item]
        self.bytes = torch.zeros(capacity * sum(row), dtype=torch.uint8, device=state.memory.device)
        parts = self.bytes.split([capacity * size for size in row])
        self.nodes, memory_time, mail_event = (part.view(torch.int64) for part in parts[:3])
        memory, mails_of = (part.view(state.memory.dtype).view(capacity, -1) for part in parts[3:])
        _, _, _, events = like.shape.columns(capacity)
        self.rows = MemoryRows(memory, memory_time, mails_of, mail_event.view(events))

    def fill(self, write: Write) -> None:
        """Put a write in."""
        count = len(write.nodes)
        columns = [(self.nodes, write.nodes)]
        columns += zip(vars(self.rows).values(), vars(write.rows).values(), strict=True)
        for target, column in columns:
            target[:count] = column
            target[count:] = column[0]
