import os
import signal
import socket
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError, RunError
from tgscale.memory import shared
from tgscale.memory.group import Write
from tgscale.memory.local import MemoryRows
from tgscale.memory.shared import SharedMemory, start_daemon

from .processes import Remote, comes_true, has_socket, is_alive, is_gone
from .walks import DIM, NODES, Walker, differences, start_state, walks

pytestmark = pytest.mark.skipif(not shared.is_available(), reason="the memory daemon needs Linux")


class Group:
    """A daemon and some of its trainers, all in this process."""

    def __init__(self, members, joined=None, dtype=torch.float32, capacity=NODES, first_rank=0):
        self.daemon = start_daemon(NODES, DIM, dtype, members, copy=first_rank // members)
        self.trainers = []
        for member in range(members) if joined is None else joined:
            daemon = self.daemon if member == 0 else None
            rank = first_rank + member
            self.trainers.append(SharedMemory(self.daemon.address, member, rank, capacity, capacity, daemon=daemon))

    def __enter__(self):
        return self.trainers

    def __exit__(self, *error):
        for trainer in reversed(self.trainers):  # the first waits for the daemon
            trainer.close()
        self.daemon.close()
        assert is_gone(self.daemon.address, self.daemon.process.pid)


def rows(count: int, value: int) -> MemoryRows:
    """Rows that are full of a number."""
    return MemoryRows(
        torch.full((count, DIM), float(value)),
        torch.full((count,), value),
        torch.full((count, 2 * DIM), float(value)),
        torch.full((count,), value),
    )


def write(nodes: list[int], value: int) -> Write:
    return Write(torch.tensor(nodes), rows(len(nodes), value))


@settings(max_examples=15, deadline=None)
@given(walks(firsts=(0, 5)), st.randoms())
def test_trainers_in_any_order_equal_the_reference(walk, random):
    """Every commit may come before those of others at the same position; the daemon puts them in order."""
    with Group(walk.members, dtype=walk.dtype) as trainers:
        if walk.first:
            trainers[0].load_state_dict(start_state(walk), walk.first)
        walkers = [Walker(trainer, walk, member) for member, trainer in enumerate(trainers)]
        for position in walk.range:
            for walker in walkers:
                walker.receive(position)
            random.shuffle(walkers)
            for walker in walkers:
                walker.commit(position)
        trainers[0].wait(walk.range.stop)
        read = {(p, walker.member): rows for walker in walkers for p, rows in walker.read.items()}
        assert differences(walk, read, trainers[0].state_dict()) == []


def test_a_read_that_is_posted_before_an_earlier_write_is_served_after_it():
    with Group(3) as (first, second, reader):
        reader.request(2, torch.tensor([0, 3, 1]))
        for trainer in (first, second, reader):
            trainer.commit(0, write([0, 1], 7) if trainer is first else None, 1, True)
        second.commit(1, write([3, 0], 9), 2, False)
        first.commit(1, write([0], 8), 2, False)
        assert reader.receive().memory_time.tolist() == [9, 9, 7]


def test_what_was_read_stays_while_the_next_rows_are_fetched():
    with Group(1) as (trainer,):
        trainer.commit(0, write([0, 1], 5), 1, True)
        trainer.request(1, torch.tensor([0]))
        before = trainer.receive()
        trainer.commit(1, write([0], 6), 1, False)
        trainer.request(2, torch.tensor([0, 1]))
        after = trainer.receive()
        assert before.mail.tolist() == [[5.0] * 2 * DIM]
        assert after.mail.tolist() == [[6.0] * 2 * DIM, [5.0] * 2 * DIM]
        assert before.mail.data_ptr() != after.mail.data_ptr()


def test_a_write_that_is_not_yet_applied_is_not_overwritten_by_the_next():
    """Where the memory resets, a trainer writes without having read: its buffer may still be needed then."""
    with Group(2) as (first, second):

        def run_ahead():
            first.commit(0, write([0], 1), 2, True)
            first.commit(1, write([0], 3), 2, True)

        ahead = threading.Thread(target=run_ahead)
        ahead.start()
        ahead.join(0.3)
        second.commit(0, write([1], 2), 2, True)
        second.wait(1)
        assert second.state_dict()["memory_time"].tolist()[:2] == [1, 2]
        ahead.join()
        second.commit(1, write([1], 4), 2, True)
        second.wait(2)
        assert second.state_dict()["memory_time"].tolist()[:2] == [3, 4]


def test_the_order_of_calls_is_checked():
    with Group(1) as (trainer,):
        trainer.request(1, torch.tensor([0]))
        with pytest.raises(RuntimeError, match="rows of position 1 were requested and not received"):
            trainer.request(2, torch.tensor([0]))
        with pytest.raises(RuntimeError, match="load it before any request"):
            trainer.load_state_dict(trainer.state_dict(), 0)


def test_no_rows_can_be_asked_for():
    with Group(1) as (trainer,):
        trainer.commit(0, write([0], 1), 1, True)
        trainer.request(1, torch.tensor([], dtype=torch.int64))
        assert [len(column) for column in vars(trainer.receive()).values()] == [0, 0, 0, 0]


def test_too_many_rows_are_refused_before_anything_is_sent():
    with Group(1, capacity=2) as (trainer,):
        with pytest.raises(ConfigError, match=r"is to read 3 rows .* room for 2: give SharedMemory a larger read_capa"):
            trainer.request(1, torch.tensor([0, 1, 2]))
        with pytest.raises(ConfigError, match=r"is to write 3 rows .* larger write_capacity"):
            trainer.commit(0, write([0, 1, 2], 1), 1, True)
        trainer.commit(0, write([0, 2], 4), 1, True)
        trainer.request(1, torch.tensor([2, 1]))
        assert trainer.receive().memory_time.tolist() == [4, 0]


@pytest.mark.parametrize("nodes", [[0, NODES], [-1]])
def test_node_ids_out_of_range_are_refused(nodes):
    with Group(1) as (trainer,), pytest.raises(IndexError, match=f"{min(nodes)} to {max(nodes)}, and the memory has 6"):
        trainer.request(1, torch.tensor(nodes))


def test_trainers_that_do_not_agree_are_told():
    group = Group(2)
    first, second = group.trainers
    second.request(1, torch.tensor([0]))
    first.commit(0, write([0], 1), 2, True)
    second.commit(0, write([0], 1), 1, True)
    with pytest.raises(RunError, match=r"copy 0 .* met a fault: member 1 says of position 0: 1 writers, reset True"):
        second.receive()
    with pytest.raises(RunError, match="met a fault: member 1"):
        first.wait(1)
    group.daemon.close()
    assert group.daemon.process.returncode == 1


def test_who_cannot_join_is_told():
    with Group(2):
        pass
    group = Group(2)
    with group as (first, _):
        for member in (1, 2):
            with pytest.raises(RunError, match=f"refused trainer 9: member {member} of 2 cannot join"):
                SharedMemory(group.daemon.address, member, 9, 1, 1)
        first.commit(0, None, 1, True)
    with pytest.raises(RunError, match=r"does not serve trainer 1 .*refused.* replicated backend"):
        SharedMemory(group.daemon.address, 1, 1, 1, 1)


def test_strangers_are_not_let_in():
    group = Group(1)
    with group as (trainer,):
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stranger.connect("\0" + group.daemon.address[1:])
        stranger.sendall(b"GET / HTTP/1.1")
        assert stranger.recv(100) == b""
        stranger.close()
        trainer.commit(0, write([0], 1), 1, True)
        trainer.wait(1)


def test_a_trainer_that_leaves_too_early_is_named_to_those_who_wait_for_it():
    with Group(2, first_rank=2) as (first, second):
        first.request(1, torch.tensor([0]))
        second.close()
        with pytest.raises(RunError, match=r"trainer 3 \(member 1 of memory copy 1\) left the run at position 0"):
            first.receive()


def test_all_that_was_committed_is_applied_though_its_trainer_has_left():
    with Group(2) as (first, second):
        second.commit(0, write([1], 6), 2, True)
        second.close()
        first.commit(0, write([0], 5), 2, True)
        first.wait(1)
        assert first.state_dict()["memory_time"].tolist()[:3] == [5, 6, 0]


def test_other_systems_are_told_what_to_use(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not shared.is_available()
    for start in (lambda: start_daemon(3, 2), lambda: SharedMemory("@x", 0, 0, 1, 1)):
        with pytest.raises(ConfigError, match="needs Linux, and this is darwin: use the replicated backend"):
            start()


def test_other_types_are_refused():
    with pytest.raises(ConfigError, match=r"keeps float32 or float64, not torch\.bfloat16"):
        start_daemon(3, 2, torch.bfloat16)


def test_signals_that_stop_a_run_leave_the_daemon_to_its_trainers():
    group = Group(1)
    with group as (trainer,):
        trainer.commit(0, write([0], 5), 1, True)
        trainer.wait(1)
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(group.daemon.process.pid, stop)
        trainer.request(1, torch.tensor([0]))
        assert trainer.receive().memory_time.tolist() == [5]


def test_a_daemon_that_is_killed_is_named_and_leaves_nothing():
    group = Group(2)
    first, second = group.trainers
    first.request(1, torch.tensor([0]))
    process = group.daemon.process
    process.kill()
    process.wait()
    message = rf"the memory daemon of copy 0 \(process {process.pid}\) ended unexpectedly"
    for call in (
        first.receive,
        lambda: first.commit(0, None, 1, True),
        lambda: second.commit(0, write([0], 1), 1, True),
        lambda: second.wait(1),
    ):
        with pytest.raises(RunError, match=message):
            call()
    for trainer in group.trainers:
        trainer.close()
    assert is_gone(group.daemon.address, process.pid)


@pytest.fixture
def remote():
    trainer = Remote()
    yield trainer
    trainer.kill()


def test_a_trainer_that_is_killed_is_named_to_the_others_and_the_daemon_ends(remote):
    group = Group(3, joined=[0, 2], first_rank=3)
    first, third = group.trainers
    assert remote("join", address=group.daemon.address, member=1, rank=4) is None
    first.request(1, torch.tensor([0]))
    remote.start("wait", position=1)
    remote.kill()
    for call in (first.receive, lambda: third.wait(1), lambda: third.commit(0, None, 1, True)):
        with pytest.raises(RunError, match=r"trainer 4 \(member 1 of memory copy 1\) ended without leaving the run"):
            call()
    assert group.daemon.process.wait(20) == 1
    assert is_gone(group.daemon.address, group.daemon.process.pid)
    first.close()


def test_a_first_trainer_that_is_killed_takes_the_daemon_with_it(remote):
    started = remote("daemon", members=3)
    address, process = started["address"], started["process"]
    assert is_alive(process)
    assert has_socket(address)
    second = SharedMemory(address, 1, 1, 4, 4)
    assert remote("join", address=address, member=0, rank=0) is None
    second.request(1, torch.tensor([0]))
    remote.kill()
    with pytest.raises(RunError, match=r"trainer 0 \(member 0 of memory copy 0\) ended without leaving the run"):
        second.receive()
    assert comes_true(lambda: is_gone(address, process))
    second.close()


@pytest.mark.parametrize("others", [0, 1])
def test_a_daemon_does_not_outlive_a_first_trainer_that_has_not_joined(remote, others):
    started = remote("daemon", members=3, copy=2)
    address, process = started["address"], started["process"]
    trainers = [SharedMemory(address, member, 6 + member, 4, 4) for member in range(1, 1 + others)]
    remote.kill()
    assert comes_true(lambda: is_gone(address, process))
    for trainer in trainers:
        with pytest.raises(RunError, match=r"trainer 6 \(member 0 of memory copy 2\) ended"):
            trainer.wait(1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_rows_on_a_gpu():
    daemon = start_daemon(NODES, DIM, members=1)
    trainer = SharedMemory(daemon.address, 0, 0, NODES, NODES, "cuda", daemon)
    for position in range(4):
        nodes = torch.arange(3, device="cuda")
        if position:
            trainer.request(position, nodes)
            assert trainer.receive().mail[:, 0].tolist() == [position] * 3
        column = MemoryRows(*(c.cuda() for c in vars(rows(3, position + 1)).values()))
        trainer.commit(position, Write(nodes, column), 1, position == 0)
    trainer.close()
    assert is_gone(daemon.address, daemon.process.pid)
