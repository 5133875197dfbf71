"""The memory daemon: a process that owns one memory copy and serves the trainers of its group in the legal order.

    (R0 .. Ri-1) (W0 .. Wi-1) (R0 .. Ri-1) ...

It waits for messages and does what they say; :mod:`tgscale.memory.wire` documents them and the shared memory. A read
is served once the writes of all positions before it are applied; the writes of a position are applied when all have
come, by member, after clearing the memory if the position resets.

It lives as long as its trainers. When one ends without saying goodbye, it tells the others which, and ends. Its parent,
the first trainer, holds one end of its *lifeline*: that ends with the parent, whether or not anybody has connected.

Started by :func:`tgscale.memory.shared.start_daemon`. It imports neither torch nor anything that does, so it is there
in a moment and takes little memory but that of the copy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tgscale.memory import wire
from tgscale.memory.order import WriteOrder
from tgscale.memory.shape import RowShape
from tgscale.memory.wire import Buffer, Message

MOST_NOTES = 100_000


@dataclass
class _Trainer:
    """A trainer that is connected."""

    connection: socket.socket
    member: int
    rank: int
    channel: wire.Piece
    read: Message | None = None
    syncs: list[int] = field(default_factory=list)

    def send(self, message: Message) -> None:
        # One that has ended is noticed by the end of its connection.
        wire.quietly_send(self.connection, message)


class _End(Exception):
    """The daemon's work is over."""


class Daemon:
    """Owns a memory copy.

    Args:
        listener: socket at which trainers connect.
        lifeline: socket that ends when the parent does.
        num_nodes: N.
        shape: widths of a node's state.
        itemsize: bytes per value, 4 or 8.
        members: how many trainers share the copy.
        copy: its number.
        record: note what is done when.

    Attributes:
        notes: name, start and end (``perf_counter_ns``), member and rows of what was done, if recording.
    """

    def __init__(
        self,
        listener: socket.socket,
        lifeline: socket.socket,
        num_nodes: int,
        shape: RowShape,
        itemsize: int,
        members: int,
        copy: int,
        record: bool = False,
    ) -> None:
        self.record = record
        self.notes: list[tuple[str, int, int, int, int]] = []
        self.num_nodes, self.shape, self.itemsize, self.members, self.copy = num_nodes, shape, itemsize, members, copy
        self._piece = wire.state_piece(num_nodes, shape, itemsize)
        self.state = self._piece.buffers[0]
        self.state.mail_event.fill(-1)
        self.order: WriteOrder[tuple[_Trainer, int]] = WriteOrder()
        self._trainers: dict[int, _Trainer] = {}
        self._left: dict[int, tuple[int, int]] = {}
        self._orphan = False
        self._listener, self._lifeline = listener, lifeline
        self._selector = selectors.DefaultSelector()
        self._listen(listener, self._accept)
        self._listen(lifeline, self._parent_ended)

    def run(self) -> int:
        """Serve until all trainers have left.

        Returns:
            Exit status: 0 when they have said goodbye.
        """
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
        except _End as end:
            return int(end.args[0])
        except RuntimeError as fault:  # WriteOrder
            self._tell_all(Message(wire.FAULT, text=str(fault)))
            return 1

    def _listen(self, connection: socket.socket, handler: Callable[[], None]) -> None:
        self._selector.register(connection, selectors.EVENT_READ, handler)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] != os.getuid():
            connection.close()
            return
        self._listen(connection, lambda: self._greet(connection))

    def _greet(self, connection: socket.socket) -> None:
        """Let a trainer in that has said HELLO; whoever says something else is none."""
        try:
            hello = wire.receive(connection)
        except ValueError:
            hello = None
        if hello is None or hello.kind != wire.HELLO:
            return self._drop(connection)
        member = hello.member
        if member >= self.members or member in self._trainers or member in self._left:
            text = f"member {member} of {self.members} cannot join: it is not one of them, or it has joined before."
            wire.quietly_send(connection, Message(wire.REFUSED, text=text))
            return self._drop(connection)
        channel = wire.channel_piece(hello.a, hello.b, self.shape, self.itemsize)
        text = f"{self.copy} {self.shape.mail} {self.shape.mails}"
        welcome = Message(wire.WELCOME, self.itemsize, os.getpid(), self.num_nodes, self.shape.dim, text)
        socket.send_fds(connection, [wire.pack(welcome)], [self._piece.descriptor, channel.descriptor])
        channel.close_descriptor()
        trainer = self._trainers[member] = _Trainer(connection, member, hello.position, channel)
        self._selector.modify(connection, selectors.EVENT_READ, lambda: self._hear(trainer))

    def _hear(self, trainer: _Trainer) -> None:
        message = wire.receive(trainer.connection)
        if message is None:
            self._lose(trainer.member, trainer.rank)
            return
        kind = message.kind
        if kind == wire.READ:
            self._check_future(trainer, message.position)
            trainer.read = message
        elif kind == wire.WRITE:
            write = (trainer, message.a)
            self.order.add(message.position, trainer.member, write, message.b, bool(message.member))
            self._apply()
        elif kind == wire.SYNC:
            trainer.syncs.append(message.position)
        elif kind == wire.START:
            self.order.restart(message.position)
            trainer.syncs.append(message.position)
        elif kind == wire.BYE:
            self._leave(trainer, message.position)
        self._answer()

    def _check_future(self, trainer: _Trainer, position: int) -> None:
        if position < self.order.next:
            raise RuntimeError(
                f"member {trainer.member} reads at position {position}, which is over: {self.order.next} is the next."
            )

    def _apply(self) -> None:
        """Apply the writes of all positions that are complete."""
        while (complete := self.order.take()) is not None:
            clear, writes = complete
            if clear:
                for column in self.state.columns:
                    column.fill(0)
                self.state.mail_event.fill(-1)
            for trainer, count in writes:
                with self._noted("apply write", trainer.member, count):
                    scatter(trainer.channel.buffers[-1], count, self.state)

    def _answer(self) -> None:
        """Serve all that can be served, and tell those whose wish has become vain."""
        for trainer in list(self._trainers.values()):
            read = trainer.read
            if read and read.position <= self.order.next:
                with self._noted("serve read", trainer.member, read.a):
                    gather(self.state, trainer.channel.buffers[read.member], read.a)
                trainer.read = None
                trainer.send(Message(wire.ROWS, position=read.position))
            for position in [p for p in trainer.syncs if p <= self.order.next]:
                trainer.syncs.remove(position)
                trainer.send(Message(wire.SYNCED, position=position))
            waiting = max([*trainer.syncs, *([trainer.read.position] if trainer.read else [])], default=0)
            for member, (rank, position) in self._left.items():
                if waiting > position:
                    trainer.read, trainer.syncs = None, []
                    trainer.send(Message(wire.LEFT, member, position, rank))
                    break

    @contextlib.contextmanager
    def _noted(self, name: str, member: int, rows: int) -> Iterator[None]:
        if not self.record or len(self.notes) >= MOST_NOTES:
            yield
            return
        began = time.perf_counter_ns()
        yield
        self.notes.append((name, began, time.perf_counter_ns(), member, rows))

    def _leave(self, trainer: _Trainer, position: int) -> None:
        self._left[trainer.member] = (trainer.rank, position)
        del self._trainers[trainer.member]
        self._drop(trainer.connection)
        self._check_end()

    def _lose(self, member: int, rank: int) -> None:
        self._trainers.pop(member, None)
        self._tell_all(Message(wire.DEAD, member, a=rank))
        raise _End(1)

    def _parent_ended(self) -> None:
        self._orphan = True
        self._drop(self._lifeline)
        self._check_end()

    def _check_end(self) -> None:
        if len(self._left) == self.members:
            raise _End(0)
        if self._orphan and not self._trainers:
            raise _End(1)  # whoever has not come yet shall not come
        # A parent that is connected is heard of by its connection, after all that it has said.
        if self._orphan and 0 not in self._left and 0 not in self._trainers:
            self._lose(0, min(trainer.rank - trainer.member for trainer in self._trainers.values()))

    def _tell_all(self, message: Message) -> None:
        for trainer in self._trainers.values():
            trainer.send(message)


def gather(state: Buffer, buffer: Buffer, count: int) -> None:
    """Fill the first rows of a buffer with the state of the nodes whose ids stand there."""
    nodes = buffer.nodes[:count]
    for source, target in zip(state.columns, buffer.columns, strict=True):
        # Trainers check ids. Another mode than "clip" would go through a temporary array.
        np.take(source, nodes, axis=0, out=target[:count], mode="clip")


def scatter(buffer: Buffer, count: int, state: Buffer) -> None:
    """Put the first rows of a buffer where the ids say."""
    nodes = buffer.nodes[:count]
    for source, target in zip(buffer.columns, state.columns, strict=True):
        target[nodes] = source[:count]


def main() -> int:
    """Run a daemon on the sockets that the parent has left open."""
    parser = argparse.ArgumentParser(prog="tgscale.memory.daemon", description="Serve one memory copy.")
    for name in ("listener", "lifeline", "nodes", "dim", "mail", "mails", "itemsize", "members", "copy", "notes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    # It ends with its trainers. They are told to stop by the same signals, and may want to save its state first.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    listener, lifeline = socket.socket(fileno=options.listener), socket.socket(fileno=options.lifeline)
    shape = RowShape(options.dim, options.mail, options.mails)
    copy = options.nodes, shape, options.itemsize, options.members, options.copy
    daemon = Daemon(listener, lifeline, *copy, record=options.notes >= 0)
    code = daemon.run()
    if daemon.record:
        with os.fdopen(options.notes, "wb") as file:
            file.write(json.dumps(daemon.notes).encode())
    return code


if __name__ == "__main__":
    raise SystemExit(main())
