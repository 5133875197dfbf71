"""What trainers and the memory daemon of their copy say to each other, and the memory that they share.

Control goes through a Unix socket in the abstract namespace, of the kind that keeps messages apart
(``SOCK_SEQPACKET``), so nothing lies on disk and the end of a process is the end of its connection. Each message is a
:class:`Message`:

=========== ======== ==============================================================================================
trainer     HELLO    ``member``; ``position``: its rank; ``a``, ``b``: most rows per read and per write
            READ     rows wanted at ``position``; ``a``: how many; ``member``: into which of the two read buffers
            WRITE    ``position``; ``a``: rows; ``b``: writers of this position; ``member``: 1 to clear the memory first
            SYNC     say when all writes of the positions below ``position`` are applied
            START    the trainer has filled the state itself; go on at ``position``
            BYE      the trainer leaves, having committed all positions below ``position``
daemon      WELCOME  ``a``, ``b``: N, D; ``member``: bytes per value; ``position``: process; text: number of the
                     copy, width of a mail, mails; with two file descriptors: of the state and of the trainer's
                     channel
            REFUSED  such a member cannot join; a text follows
            ROWS     what READ asked for is in the buffer
            SYNCED   answer to SYNC and START
            LEFT     what you asked for will not come: ``member`` (rank ``a``) has left before ``position``
            DEAD     ``member`` (rank ``a``) has ended without BYE; the daemon ends
            FAULT    somebody broke the order; a text follows; the daemon ends
=========== ======== ==============================================================================================

Rows go through anonymous shared memory (``memfd``), which is gone with the last process that has it: nothing is in
``/dev/shm``, nor does its size limit count. One piece is the **state**: the columns of :class:`MemoryRows`, N rows
each. Each trainer has one more, its **channel**: two read buffers and a write buffer; a buffer is the node ids and
those four columns, with as many rows as HELLO said. Every array starts at a multiple of 64 bytes.

A trainer posts READ as early as it likes. The daemon answers once all writes of the positions before it are applied.
Reads alternate between the two buffers, so rows stay where they are while the next ones are fetched. There is one
write buffer: what a trainer writes next it has, as a rule, computed from rows of a later position, and those were read
after its last write was applied. Where it read none, because the position resets, it asks SYNC first.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
from typing import NamedTuple

import numpy as np

from tgscale.memory.shape import RowShape, row_shape

HELLO, READ, WRITE, SYNC, START, BYE = range(1, 7)
WELCOME, REFUSED, ROWS, SYNCED, LEFT, DEAD, FAULT = range(11, 18)

_HEADER = struct.Struct("<IIqqq")
_MOST_BYTES = 2048
READ_BUFFERS = 2


class Message(NamedTuple):
    """See above. What a kind does not use is 0."""

    kind: int
    member: int = 0
    position: int = 0
    a: int = 0
    b: int = 0
    text: str = ""


def pack(message: Message) -> bytes:
    """A message as bytes."""
    return _HEADER.pack(*message[:5]) + message.text.encode()[: _MOST_BYTES - _HEADER.size]


def receive(connection: socket.socket, block: bool = True) -> Message | None:
    """The next message; None when the other side has ended.

    Raises:
        BlockingIOError: there is none, and ``block`` is false.
        ValueError: it is not one of ours.
    """
    while True:
        try:
            data = connection.recv(_MOST_BYTES, 0 if block else socket.MSG_DONTWAIT)
        except ConnectionResetError:
            continue  # it ended without having read all; what it said before that can still be read, then comes its end
        return unpack(data) if data else None


def unpack(data: bytes) -> Message:
    """The message in these bytes.

    Raises:
        ValueError: it is not one of ours.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f"a message of {len(data)} bytes")
    kind, member, position, a, b = _HEADER.unpack_from(data)
    return Message(kind, member, position, a, b, data[_HEADER.size :].decode(errors="replace"))


class Buffer(NamedTuple):
    """Node ids and state of up to as many rows as it has. The state of a copy is one without node ids."""

    nodes: np.ndarray
    memory: np.ndarray
    memory_time: np.ndarray
    mail: np.ndarray
    mail_event: np.ndarray

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """Without the node ids, in the order of :class:`MemoryRows`."""
        return self[1:]


class Piece:
    """A piece of shared memory that holds some buffers one after another.

    It is unmapped when neither it nor an array of it is in use.

    Args:
        rows: of each buffer.
        with_nodes: whether the buffers have node ids.
        dim: D, or the whole shape of a node's state.
        itemsize: bytes per value, 4 or 8.
        descriptor: of the memory; None makes a new one, full of zeros. It belongs to the piece.
    """

    def __init__(
        self, rows: list[int], with_nodes: bool, dim: int | RowShape, itemsize: int, descriptor: int | None = None
    ) -> None:
        self.descriptor = os.memfd_create("tgscale-memory") if descriptor is None else descriptor
        value, arrays, end = np.dtype(f"f{itemsize}"), [], 0
        for count in rows:
            memory, time, mail, event = row_shape(dim).columns(count)
            for shape, dtype in [
                ((count * with_nodes,), np.dtype(np.int64)),
                (memory, value),
                (time, np.dtype(np.int64)),
                (mail, value),
                (event, np.dtype(np.int64)),
            ]:
                arrays.append((end, shape, dtype))
                end += -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64
        self.nbytes = max(end, 64)
        if descriptor is None:
            os.ftruncate(self.descriptor, self.nbytes)
        self.map = mmap.mmap(self.descriptor, self.nbytes)
        views = [np.ndarray(shape, dtype, self.map, offset) for offset, shape, dtype in arrays]
        self.buffers = [Buffer(*views[5 * n : 5 * n + 5]) for n in range(len(rows))]

    def close_descriptor(self) -> None:
        """The mapping stays."""
        os.close(self.descriptor)


def state_piece(num_nodes: int, dim: int | RowShape, itemsize: int, descriptor: int | None = None) -> Piece:
    """The state of a copy: one buffer of all nodes."""
    return Piece([num_nodes], False, dim, itemsize, descriptor)


def channel_piece(
    read_rows: int, write_rows: int, dim: int | RowShape, itemsize: int, descriptor: int | None = None
) -> Piece:
    """A trainer's channel: the read buffers, then the write buffer."""
    return Piece([read_rows] * READ_BUFFERS + [write_rows], True, dim, itemsize, descriptor)


def quietly_send(connection: socket.socket, message: Message) -> None:
    """Send what the other side, if it has ended, need not hear."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(pack(message))
