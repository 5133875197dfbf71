import socket

import numpy as np
import pytest

from tgscale.memory import shared, wire
from tgscale.memory.wire import Message

pytestmark = pytest.mark.skipif(not shared.is_available(), reason="the memory daemon needs Linux")


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_messages_come_as_they_were_sent_and_then_the_end():
    ours, theirs = pair()
    messages = [Message(wire.READ, 1, 2**40, 3, 4), Message(wire.FAULT, text="something is wrong: \u00e9")]
    for message in messages:
        theirs.sendall(wire.pack(message))
    with pytest.raises(BlockingIOError):
        wire.receive(theirs, block=False)
    theirs.close()
    assert [wire.receive(ours), wire.receive(ours), wire.receive(ours)] == [*messages, None]


def test_last_words_are_heard_though_the_other_side_ended_without_listening():
    ours, theirs = pair()
    ours.sendall(wire.pack(Message(wire.READ)))
    theirs.sendall(wire.pack(Message(wire.DEAD, 3)))
    theirs.close()
    assert wire.receive(ours) == Message(wire.DEAD, 3)
    assert wire.receive(ours) is None
    wire.quietly_send(ours, Message(wire.BYE))


def test_what_is_no_message_is_refused():
    ours, theirs = pair()
    theirs.sendall(b"GET / HTTP/1.1")
    with pytest.raises(ValueError, match="a message of 14 bytes"):
        wire.receive(ours)


@pytest.mark.parametrize("itemsize", [4, 8])
def test_buffers_of_a_channel_do_not_overlap_and_are_seen_by_both_sides(itemsize):
    ours = wire.channel_piece(3, 2, dim=5, itemsize=itemsize)
    theirs = wire.channel_piece(3, 2, 5, itemsize, descriptor=ours.descriptor)
    arrays = [array for buffer in ours.buffers for array in buffer]
    for number, array in enumerate(arrays):
        assert array.ctypes.data % 64 == 0
        array[...] = number
    for number, array in enumerate(array for buffer in theirs.buffers for array in buffer):
        assert array.shape == arrays[number].shape
        assert np.all(array == number)
    ours.close_descriptor()
    assert [len(buffer.nodes) for buffer in ours.buffers] == [3, 3, 2]
    assert theirs.buffers[0].mail.shape == (3, 10)
