import pytest
import torch
import torch.distributed as dist

from tgscale.errors import ConfigError, RunError
from tgscale.memory.group import Write
from tgscale.memory.local import LocalMemory
from tgscale.memory.replicated import ReplicatedMemory

from .processes import Remote


@pytest.fixture
def memory(monkeypatch):
    """The copy of a group of one, in this process."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield ReplicatedMemory(LocalMemory(6, 2), dist.new_group([0]), 0, 1, capacity=2)
    dist.destroy_process_group()


def write(nodes: list[int], value: float) -> Write:
    rows = LocalMemory(len(nodes), 2).state
    for column in vars(rows).values():
        column.fill_(value)
    return Write(torch.tensor(nodes), rows)


def test_a_write_is_there_at_the_next_position_and_what_fills_it_up_changes_nothing(memory):
    memory.request(1, torch.tensor([3, 0]))
    memory.commit(0, write([3], 5), 1, True)
    assert memory.receive().mail_event.tolist() == [5, -1]
    memory.commit(1, write([0, 3], 6), 1, True)
    memory.wait(2)
    assert memory.state_dict()["mail_event"].tolist() == [6, -1, -1, 6, -1, -1]
    assert memory.state_dict()["memory_time"].tolist() == [6, 0, 0, 6, 0, 0]
    memory.close()


def test_too_many_rows_are_refused_before_anything_is_sent(memory):
    with pytest.raises(ConfigError, match=r"is to write 3 rows .* room for 2"):
        memory.commit(0, write([0, 1, 2], 1), 1, True)
    memory.commit(0, write([0, 1], 1), 1, True)


def test_faults_of_a_caller_are_told(memory):
    with pytest.raises(RuntimeError, match="commits no write at position 0, whose writers are members 0 to 0"):
        memory.commit(0, None, 1, True)


def test_positions_that_have_not_begun_cannot_be_read(memory):
    memory.request(2, torch.tensor([3]))
    memory.commit(0, write([3], 5), 1, True)
    with pytest.raises(RuntimeError, match="position 2 cannot begin: 1 is the next"):
        memory.receive()
    with pytest.raises(RuntimeError, match="by the first member, once, before"):
        memory.load_state_dict(memory.state_dict(), 7)


def test_positions_start_at_zero_unless_a_state_is_loaded(memory):
    with pytest.raises(RuntimeError, match="position 3 is committed, but this copy is at 0"):
        memory.commit(3, write([3], 5), 1, True)


def test_the_group_of_all_processes_is_refused(memory):
    with pytest.raises(ValueError, match="a process group of its own"):
        ReplicatedMemory(LocalMemory(6, 2), dist.group.WORLD, 0, 1, capacity=2)


def test_a_peer_that_is_killed_is_told(tmp_path):
    trainers = [Remote(), Remote()]
    for rank, trainer in enumerate(trainers):
        trainer.start("connect", store=str(tmp_path / "store"), rank=rank, world=2)
    assert [trainer.result() for trainer in trainers] == [None, None]
    for trainer in trainers:
        trainer.start("replicate", members=2, minibatch=1)
    assert [trainer.result() for trainer in trainers] == [None, None]
    trainers[0].kill()
    trainers[1].start("commit_nothing", position=0, writers=1)
    error = trainers[1].result() or trainers[1]("wait", position=1)
    assert isinstance(error, RunError)
    assert "member 1 of a memory copy lost its connection to another trainer of it" in str(error)
    trainers[1].kill()
