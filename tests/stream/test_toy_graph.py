"""Memory and mail after each batch of a toy stream, against what the equations give by hand."""

from math import cos, tanh

import numpy as np
import pytest
import torch

from tgscale.data.stream import EventStream

# Four nodes. The two events at time 5 tie; node 1 is in every event of the first batch; the last batch has a self-loop.
SRC, DST, TIME = [0, 1, 1, 3, 2, 1], [1, 2, 0, 1, 2, 3], [2, 5, 5, 7, 9, 12]
FEATURE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
OWN, OTHER, EDGE, PHI, STATE, BIAS = 0.1, 0.2, 0.3, 0.4, 0.5, 0.7


def absorb(state, own, other, event, dt):
    return tanh(OWN * own + OTHER * other + EDGE * FEATURE[event] + PHI * cos(dt) + STATE * state + BIAS)


@pytest.fixture
def engine(make_engine):
    """A TGN of width 1 whose updater is the function above."""
    stream = EventStream.from_arrays(
        np.array(SRC), np.array(DST), np.array(TIME), edge_features=np.array(FEATURE, np.float32)[:, None]
    )
    engine = make_engine(
        stream, double=True, model__dim=1, model__heads=1, model__updater="rnn", train__batch_size=3, eval__val=0.2
    )
    engine.builder.edge_features = torch.tensor(FEATURE, dtype=torch.float64)[:, None]
    cell = engine.model.updater.cell
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[OWN, OTHER, EDGE, PHI]]))
        cell.weight_hh.fill_(STATE)
        cell.bias_ih.fill_(BIAS)
        cell.bias_hh.zero_()
    return engine


def check(engine, memory, memory_time, mail, mail_event):
    state = engine.memory.state
    torch.testing.assert_close(state.memory[:, 0], torch.tensor(memory, dtype=torch.float64))
    torch.testing.assert_close(state.mail, torch.tensor(mail, dtype=torch.float64))
    assert state.memory_time.tolist() == memory_time
    assert state.mail_event.tolist() == mail_event


def test_memory_and_mail_after_each_batch(engine):
    # Batch 1, events 0-2. Nobody has mail, so memory stays 0 and all mail is [0 || 0]. The last event of a node wins:
    # node 0: event 2; node 1: event 2 (not 0 or 1); node 2: event 1; node 3: none.
    engine.score(engine.builder.range(0, 3, 1, seed=0))
    zero = [0.0, 0.0]
    check(engine, [0, 0, 0, 0], [0, 0, 0, 0], [zero] * 4, [2, 2, 1, -1])

    # Batch 2, events 3 (3, 1) and 4 (2, 2). Node 1 absorbs event 2's mail (t = 5, memory from t = 0), node 2 that of
    # event 1 (t = 5). Node 3 has no mail and keeps 0. Node 0 is no end of these events: its state stays as it was.
    engine.score(engine.builder.range(3, 5, 1, seed=0))
    one = absorb(0, 0, 0, event=2, dt=5)
    two = absorb(0, 0, 0, event=1, dt=5)
    check(engine, [0, one, two, 0], [0, 5, 5, 0], [zero, [one, 0.0], [two, two], [0.0, one]], [2, 3, 4, 3])

    # Batch 3, event 5 (1, 3). Node 1 absorbs event 3's mail [one || 0] (t = 7, memory from t = 5); node 3 the mail
    # [0 || one] (t = 7, memory from t = 0).
    engine.score(engine.builder.range(5, 6, 1, seed=0))
    one_again = absorb(one, one, 0.0, event=3, dt=2)
    three = absorb(0, 0.0, one, event=3, dt=7)
    mail = [zero, [one_again, three], [two, two], [three, one_again]]
    check(engine, [0, one_again, two, three], [0, 7, 5, 7], mail, [2, 5, 4, 5])


def test_block_of_the_second_batch(engine):
    """Roots see the latest events strictly before their time; the tie at time 5 is past for all of them."""
    block = engine.builder.range(3, 5, 1, seed=0).block
    node = block.nodes[block.roots[block.root_row]].tolist()
    seen = {u: sorted(e for e in row if e >= 0) for u, row in zip(node, block.event.tolist(), strict=True)}
    assert seen[1] == [0, 1, 2]
    assert seen[2] == [1]
    assert seen[3] == []


def test_events_at_the_same_time_are_not_past(engine):
    batch = engine.builder.range(2, 3, 1, seed=0)  # event 2 at time 5; event 1 ties with it
    row = int(batch.source[0])
    assert sorted(e for e in batch.block.event[row].tolist() if e >= 0) == [0]
    assert batch.block.dt[row][batch.block.event[row] >= 0].tolist() == [3]
