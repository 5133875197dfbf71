import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.memory.local import LocalMemory, rows_after_events


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 8))
def test_last_event_wins_as_in_a_loop_over_events(seed, events, nodes):
    g = torch.Generator().manual_seed(seed)
    source, destination = (torch.randint(0, nodes, (events,), generator=g) for _ in range(2))
    memory = LocalMemory(nodes, 2)
    memory.state.mail_event[:] = torch.randint(-1, 4, (nodes,), generator=g)
    memory.state.memory_time[:] = torch.randint(0, 9, (nodes,), generator=g)
    rows = memory.read(torch.arange(nodes))
    updated = torch.randn(nodes, 2, generator=g)
    event_time = torch.arange(100) * 10
    before = memory.state_dict()

    own, after = rows_after_events(rows, updated, source, destination, 4 + torch.arange(events), event_time)
    memory.write(own, after)

    expected = {name: x.clone() for name, x in before.items()}
    for e in range(events):
        u, v = int(source[e]), int(destination[e])
        for a, b in ((u, v), (v, u)):
            expected["mail"][a] = torch.cat([updated[a], updated[b]])
            expected["mail_event"][a] = 4 + e
            expected["memory"][a] = updated[a]
            if before["mail_event"][a] >= 0:
                expected["memory_time"][a] = event_time[before["mail_event"][a]]
    for name, x in memory.state_dict().items():
        assert torch.equal(x, expected[name]), name


def test_write_keeps_no_gradient():
    memory = LocalMemory(3, 2)
    rows = memory.read(torch.arange(3))
    updated = torch.ones(3, 2, requires_grad=True) * 2
    _, after = rows_after_events(
        rows, updated, torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), torch.arange(5)
    )
    assert not after.memory.requires_grad
    assert not after.mail.requires_grad


def test_state_is_copied_out_and_in_and_reset():
    memory = LocalMemory(3, 2)
    memory.state.memory[1] = 5
    memory.state.mail_event[1] = 7
    saved = memory.state_dict()
    memory.reset()
    assert memory.state.mail_event.tolist() == [-1, -1, -1]
    assert not memory.state.memory.any()
    assert saved["memory"][1, 0] == 5
    memory.load_state_dict(saved)
    assert memory.state.mail_event.tolist() == [-1, 7, -1]


def test_reading_gives_copies():
    memory = LocalMemory(3, 2)
    memory.read(torch.tensor([1])).memory.fill_(9)
    assert not memory.state.memory.any()
