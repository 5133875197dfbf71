import pytest
import torch
from hypothesis import given, settings

from tgscale.memory.group import LocalGroupMemory, Write
from tgscale.memory.local import LocalMemory, MemoryRows

from .walks import NODES, Walker, differences, start_state, walks


@settings(max_examples=150, deadline=None)
@given(walks(firsts=(0, 5)))
def test_a_group_in_one_process_equals_the_reference(walk):
    memory = LocalMemory(NODES, 2, dtype=walk.dtype)
    members = [LocalGroupMemory(memory) for _ in range(walk.members)]
    if walk.first:
        members[0].load_state_dict(start_state(walk), walk.first)
    walkers = [Walker(view, walk, member) for member, view in enumerate(members)]
    for position in walk.range:
        for walker in walkers:
            walker.receive(position)
        for walker in walkers:
            walker.commit(position)
    members[0].wait(walk.range.stop)
    read = {(p, walker.member): rows for walker in walkers for p, rows in walker.read.items()}
    assert differences(walk, read, members[0].state_dict()) == []


def rows(count: int, value: float) -> MemoryRows:
    columns = LocalMemory(count, 2).state
    return MemoryRows(*(torch.full_like(column, value) for column in vars(columns).values()))


def test_of_two_that_write_a_node_the_later_of_the_mini_batch_wins_and_the_reset_comes_first():
    memory = LocalMemory(3, 2)
    first, second = LocalGroupMemory(memory), LocalGroupMemory(memory)
    first.commit(0, Write(torch.tensor([0, 1]), rows(2, 1)), 2, True)
    second.commit(0, Write(torch.tensor([1]), rows(1, 2)), 2, True)
    assert memory.state.memory_time.tolist() == [1, 2, 0]
    second.commit(1, Write(torch.tensor([2]), rows(1, 4)), 2, True)
    first.commit(1, Write(torch.tensor([2]), rows(1, 3)), 2, True)
    assert memory.state.memory_time.tolist() == [0, 0, 4]
    assert memory.state.mail_event.tolist() == [-1, -1, 4]


def test_a_memory_can_have_another_group_later():
    memory = LocalMemory(3, 2)
    for _ in range(2):
        alone = LocalGroupMemory(memory)
        alone.commit(0, Write(torch.tensor([0]), rows(1, 1)), 1, True)
        alone.wait(1)
        assert alone.member == 0
        del alone


def test_faults_of_a_caller_are_told():
    memory = LocalMemory(3, 2)
    first, second = LocalGroupMemory(memory), LocalGroupMemory(memory)
    nodes = torch.tensor([1])
    with pytest.raises(RuntimeError, match="none were requested"):
        first.receive()
    first.request(1, nodes)
    with pytest.raises(RuntimeError, match="position 1 were requested and not received"):
        first.request(2, nodes)
    with pytest.raises(RuntimeError, match="load it before any request"):
        first.load_state_dict(memory.state_dict(), 0)
    first.commit(0, Write(nodes, rows(1, 1)), 2, True)
    with pytest.raises(RuntimeError, match="not all trainers have written at position 0"):
        first.receive()
    with pytest.raises(RuntimeError, match="position 2 is committed, but 1 is the next"):
        first.commit(2, None, 1, False)
    with pytest.raises(RuntimeError, match="0 writers"):
        second.commit(0, None, 0, False)
    with pytest.raises(RuntimeError, match="position 0 are requested, but 1 is the next"):
        first.request(0, nodes)
    with pytest.raises(ValueError, match="commits None"):
        Write(nodes[:0], rows(0, 1))
