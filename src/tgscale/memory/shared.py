"""A memory copy that a daemon holds for the trainers of a machine: the trainer's side.

Rows come and go through shared memory, messages through a Unix socket; see :mod:`tgscale.memory.wire`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from tgscale.errors import ConfigError, LostPeerError, RunError
from tgscale.memory import wire
from tgscale.memory.group import Turn, Write
from tgscale.memory.local import MemoryRows
from tgscale.memory.pins import Pins
from tgscale.memory.shape import RowShape, row_shape
from tgscale.memory.wire import Message

_COLUMNS = ("memory", "memory_time", "mail", "mail_event")
_ITEMSIZE = {torch.float32: 4, torch.float64: 8}
# The package is found where this process has found it, after all that Python finds by itself.
_LAUNCH = (
    "import sys; sys.path.append(sys.argv.pop(1)); from tgscale.memory.daemon import main; raise SystemExit(main())"
)


def is_available() -> bool:
    """Whether this system can run a memory daemon."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def _check_available() -> None:
    if not is_available():
        raise ConfigError(
            f"the shared memory backend needs Linux, and this is {sys.platform}: use the replicated backend."
        )


class MemoryDaemon:
    """The daemon of a memory copy, as its parent sees it.

    Attributes:
        address: where trainers connect; a name in the abstract namespace of this machine.
        process: the daemon.
        copy: number of the memory copy.
        records: whether it notes what it does when.
    """

    def __init__(
        self,
        address: str,
        process: subprocess.Popen[bytes],
        copy: int,
        lifeline: socket.socket,
        notes: int | None = None,
    ) -> None:
        self.address, self.process, self.copy = address, process, copy
        self._lifeline, self._notes = lifeline, notes
        self.records = notes is not None

    def close(self, timeout: float = 10) -> None:
        """Wait until it has ended, which it does when all trainers have left.

        Args:
            timeout: seconds to wait for other trainers; after that it is left to them, and ends with the last one.
        """
        self._lifeline.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)

    def spans(self) -> list[tuple[str, int, int, int, int]]:
        """What it did when, once it has ended: name, start and end (``perf_counter_ns``), member, rows. Asked once.

        Empty where it does not record, or was killed.
        """
        if self._notes is None:
            return []
        with os.fdopen(self._notes, "rb") as file:
            self._notes = None
            file.seek(0)
            text = file.read()
        return [tuple(span) for span in json.loads(text or b"[]")]


def start_daemon(
    num_nodes: int,
    dim: int | RowShape,
    dtype: torch.dtype = torch.float32,
    members: int = 1,
    copy: int = 0,
    record: bool = False,
) -> MemoryDaemon:
    """Start the daemon of a memory copy. The first trainer of its group does, and passes the address to the others.

    The memory begins empty. The daemon ends with this process, or when all trainers have left.

    Args:
        num_nodes: N.
        dim: D, or the whole shape of a node's state.
        dtype: float32 or float64.
        members: trainers of the group.
        copy: number of the memory copy, for messages.
        record: let it note what it does when, for :meth:`MemoryDaemon.spans`.

    Raises:
        ConfigError: this system or dtype cannot be served.
    """
    _check_available()
    if dtype not in _ITEMSIZE:
        raise ConfigError(
            f"the shared memory backend keeps float32 or float64, not {dtype}: use the replicated backend."
        )
    address = f"@tgscale-memory-{secrets.token_hex(16)}"
    ours, theirs = socket.socketpair()
    notes = os.memfd_create("tgscale-notes") if record else None  # gone with the processes that hold it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listener, theirs:
        listener.bind(_abstract(address))
        listener.listen(max(members, 8))  # trainers can connect before the daemon looks
        options = {
            "listener": listener.fileno(),
            "lifeline": theirs.fileno(),
            "nodes": num_nodes,
            **row_shape(dim)._asdict(),
            "itemsize": _ITEMSIZE[dtype],
            "members": members,
            "copy": copy,
            "notes": -1 if notes is None else notes,
        }
        package = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _LAUNCH, package, *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(listener.fileno(), theirs.fileno(), *([] if notes is None else [notes])),
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    return MemoryDaemon(address, process, copy, ours, notes)


class SharedMemory:
    """A memory copy that a daemon holds, as one trainer of this machine sees it.

    Args:
        address: of the daemon.
        member: number of the trainer in its group.
        rank: number of the trainer among all; the group is a run of consecutive ones.
        read_capacity: most rows of a request.
        write_capacity: most rows of a write.
        device: where rows are put. On a CPU they are tensors on the shared memory itself.
        daemon: the first trainer's: closed together with this.

    Raises:
        ConfigError: this system cannot do it.
        RunError: the daemon is not there.
    """

    def __init__(
        self,
        address: str,
        member: int,
        rank: int,
        read_capacity: int,
        write_capacity: int,
        device: torch.device | str = "cpu",
        daemon: MemoryDaemon | None = None,
    ) -> None:
        _check_available()
        self.member, self.rank, self.device, self.daemon = member, rank, torch.device(device), daemon
        self.read_capacity, self.write_capacity = read_capacity, write_capacity
        self._name = f"the memory daemon at {address}"
        self._broken: RunError | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._join(address)
        self._pins = Pins(self._channel, self.device) if self.device.type == "cuda" else None
        self._turn = Turn()
        self._reads = 0  # requests made
        self._asked = 0  # rows of the outstanding one
        self._arrived = False  # they are there
        self._applied = 0  # all writes below this position are known to be applied
        self._written = -1  # position of the last own write
        self._vain: RunError | None = None  # why what is asked for will not come

    def _join(self, address: str) -> None:
        hello = Message(wire.HELLO, self.member, self.rank, self.read_capacity, self.write_capacity)
        descriptors: list[int] = []
        try:
            self._socket.connect(_abstract(address))
            self._socket.sendall(wire.pack(hello))
            data, descriptors, _, _ = socket.recv_fds(self._socket, 2048, 2, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            reason = str(error)
        else:
            reason = "" if data else "it ended before it answered"
        if reason:
            raise RunError(
                f"{self._name} does not serve trainer {self.rank} ({reason}). It has ended, together with the first "
                "trainer of the group or by a fault that it has printed; or that trainer is on another machine or in "
                "another container, and then the replicated backend is the one to use."
            )
        message = wire.unpack(data)
        if message.kind == wire.REFUSED:
            raise RunError(f"{self._name} refused trainer {self.rank}: {message.text}")
        self.copy, *mail = (int(word) for word in message.text.split())
        self.num_nodes, self.shape = message.a, RowShape(message.b, *mail)
        self._name = f"the memory daemon of copy {self.copy} (process {message.position})"
        sizes = self.shape, message.member
        self._state = wire.state_piece(self.num_nodes, *sizes, descriptor=descriptors[0])
        self._channel = wire.channel_piece(self.read_capacity, self.write_capacity, *sizes, descriptor=descriptors[1])
        self._state.close_descriptor()
        self._channel.close_descriptor()

    def request(self, position: int, nodes: Tensor) -> None:
        self._check_fits(nodes, self.read_capacity, "read")
        self._turn.request(position)
        turn = self._reads % wire.READ_BUFFERS
        if self._pins:
            self._pins.wait_copied(turn)
        self._put_nodes(self._channel.buffers[turn], nodes)
        self._reads, self._asked, self._arrived = self._reads + 1, len(nodes), False
        self._send(Message(wire.READ, turn, position, self._asked))

    def receive(self) -> MemoryRows:
        self._turn.receive()
        while not self._arrived:
            self._hear()
        turn = (self._reads - 1) % wire.READ_BUFFERS
        rows = MemoryRows(*(torch.from_numpy(c[: self._asked]) for c in self._channel.buffers[turn].columns))
        return self._pins.to_device(rows, turn) if self._pins else rows

    def commit(self, position: int, write: Write | None, writers: int, reset: bool) -> None:
        if write is not None:
            self._check_fits(write.nodes, self.write_capacity, "write")
        self._turn.commit(position, writers)
        if write is None:
            self._hear_what_there_is()
            return
        # A trainer that has read rows since its last write knows that it is applied; after a reset it has not read.
        self.wait(self._written + 1)
        buffer, count = self._channel.buffers[-1], len(write.nodes)
        for target, column in zip(buffer.columns, vars(write.rows).values(), strict=True):
            torch.from_numpy(target)[:count].copy_(column, non_blocking=True)
        self._put_nodes(buffer, write.nodes)
        if self._pins:
            self._pins.wait_all()
        self._send(Message(wire.WRITE, int(reset), position, count, writers))
        self._written = position

    def wait(self, position: int) -> None:
        if position <= self._applied:
            self._hear_what_there_is()
            return
        self._send(Message(wire.SYNC, position=position))
        while self._applied < position:
            self._hear()

    def state_dict(self) -> dict[str, Tensor]:
        return {name: column.clone() for name, column in self._state_columns().items()}

    def load_state_dict(self, state: dict[str, Tensor], position: int) -> None:
        self._turn.load(position)
        for name, column in self._state_columns().items():
            column.copy_(state[name])
        self._applied = position - 1
        self._send(Message(wire.START, position=position))
        while self._applied < position:
            self._hear()

    def close(self) -> None:
        if self._broken is None:
            wire.quietly_send(self._socket, Message(wire.BYE, position=self._turn.position or 0))
            self._broken = RunError("this trainer has left the group")
        self._socket.close()
        if self._pins:
            self._pins.close()
        if self.daemon:
            self.daemon.close()

    def _state_columns(self) -> dict[str, Tensor]:
        columns = zip(_COLUMNS, self._state.buffers[0].columns, strict=True)
        return {name: torch.from_numpy(column) for name, column in columns}

    def _check_fits(self, nodes: Tensor, capacity: int, what: str) -> None:
        if len(nodes) > capacity:
            raise ConfigError(
                f"trainer {self.rank} is to {what} {len(nodes)} rows of the memory at once, and its buffer has room "
                f"for {capacity}: give SharedMemory a larger {what}_capacity."
            )

    def _put_nodes(self, buffer: wire.Buffer, nodes: Tensor) -> None:
        target = buffer.nodes[: len(nodes)]
        torch.from_numpy(target).copy_(nodes)
        if len(nodes) and (target.min() < 0 or target.max() >= self.num_nodes):
            raise IndexError(
                f"node ids from {target.min()} to {target.max()}, and the memory has {self.num_nodes} nodes"
            )

    def _send(self, message: Message) -> None:
        if self._broken:
            raise self._broken.with_traceback(None)
        try:
            self._socket.sendall(wire.pack(message))
        except OSError:
            while True:  # what it said before it ended; at last, its end is raised
                self._hear()

    def _hear_what_there_is(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._hear(block=False)

    def _hear(self, block: bool = True) -> None:
        """Take in the next message.

        Raises:
            LostPeerError: somebody has ended, so what is waited for will not come.
            RunError: somebody broke the order.
        """
        if self._broken:
            raise self._broken.with_traceback(None)
        if block and self._vain:
            raise self._vain.with_traceback(None)
        message = wire.receive(self._socket, block)
        if message is None:
            self._broken = LostPeerError(f"{self._name} ended unexpectedly: it was killed, or has printed why.")
        elif message.kind in (wire.ROWS, wire.SYNCED):
            self._applied = max(self._applied, message.position)
            self._arrived |= message.kind == wire.ROWS
        elif message.kind == wire.LEFT:
            position = message.position
            self._vain = LostPeerError(f"{self._peer(message)} left the run at position {position}, before the others.")
        elif message.kind == wire.DEAD:
            self._broken = LostPeerError(
                f"{self._peer(message)} ended without leaving the run: its own message says why."
            )
        elif message.kind == wire.FAULT:
            self._broken = RunError(f"{self._name} met a fault: {message.text}")
        if self._broken:
            raise self._broken.with_traceback(None)

    def _peer(self, message: Message) -> str:
        return f"trainer {message.a} (member {message.member} of memory copy {self.copy})"


def _abstract(address: str) -> str:
    """What the kernel calls the address."""
    return "\0" + address.removeprefix("@")
