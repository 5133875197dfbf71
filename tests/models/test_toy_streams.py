"""What each model keeps, or sees, on a stream that is small enough to do by hand."""

from math import cos, exp, log, tanh

import numpy as np
import pytest
import torch

from tgscale.data.stream import EventStream
from tgscale.graph.sampling import NeighborSampler
from tgscale.models import graphmixer
from tgscale.models.stream_model import Needs
from tgscale.stream.batch import BatchBuilder
from tgscale.stream.negatives import NegativeSampler

# Four nodes. The two events at time 5 tie; node 1 is in every event of the first batch.
SRC, DST, TIME = [0, 1, 1, 3, 2, 1], [1, 2, 0, 1, 0, 3], [2, 5, 5, 7, 9, 12]
FEATURE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.fixture
def stream():
    return EventStream.from_arrays(
        np.array(SRC), np.array(DST), np.array(TIME), edge_features=np.array(FEATURE, np.float32)[:, None]
    )


@pytest.fixture
def make(streams, stream):
    """An engine of width 1 in float64, with exact edge features and neither pairs nor dropout."""

    def make(name, **options):
        engine = streams.build_engine(
            stream, double=True, model__name=name, model__dim=1, model__pair_encoding=False, train__batch_size=3,
            sampling__neighbors=2, eval__val=0.2, **options,
        )  # fmt: skip
        engine.builder.edge_features = torch.tensor(FEATURE, dtype=torch.float64)[:, None]
        engine.model.eval()
        return engine

    return make


def put(layer, *weights, bias=None):
    """Set the weights of a linear layer of one output, and its bias."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights], dtype=torch.float64))
        if bias is not None:
            layer.bias.fill_(bias)


def put_cell(cell, inputs, state, bias):
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([inputs], dtype=torch.float64))
        cell.weight_hh.fill_(state)
        cell.bias_ih.fill_(bias)
        cell.bias_hh.zero_()


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)


def test_jodie_projects_a_memory_that_its_events_made(make):
    engine = make("jodie")
    put_cell(engine.model.updater.cell, [0.1, 0.2, 0.3, 0.4], 0.5, 0.7)
    put(engine.model.drift, 2.0)
    engine.score(engine.builder.range(0, 3, 1, seed=0))
    assert engine.memory.state.mail_event.tolist() == [2, 2, 1, -1]  # the last event of a node; of a tie, by event id
    batch = engine.builder.range(3, 4, 1, seed=0)  # event 3, (3, 1) at 7
    rows = engine.memory.read(batch.block.nodes)
    one = tanh(0.3 * 0.3 + 0.4 * cos(5) + 0.7)  # event 2's mail: zero memories, feature 0.3, 5 after time 0
    memory = engine.model.update(rows, engine.builder.time, engine.builder.edge_features)
    block = batch.block
    elapsed = block.time - 5
    h = engine.model.embed(memory, block, engine.builder.edge_features, elapsed)
    root = block.root_row[batch.candidate[0, 0]]
    assert int(block.nodes[block.roots[root]]) == 1
    gap = float(engine.model.gap)
    assert gap == pytest.approx((TIME[engine.split.train - 1] - TIME[0]) * 4 / (2 * engine.split.train))
    close(h[batch.candidate[0, 0]], [one * (1 + 2 * log(1 + 2 / gap))])


def test_dyrep_mails_the_other_end_with_its_neighbors(make):
    engine = make("dyrep")
    engine.score(engine.builder.range(0, 3, 1, seed=0))
    state = engine.memory.state
    # Events 1, (1, 2), and 2, (1, 0), both at 5: strictly before that, nodes 0 and 1 have event 0 alone.
    assert state.mail_event.tolist() == [[2, 0, -1], [2, 0, -1], [1, 0, -1], [-1, -1, -1]]
    engine.score(engine.builder.range(3, 5, 1, seed=0))
    # Event 3, (3, 1): node 3 hears of 1 and its events 2 and 1, node 1 of 3, which has no past.
    # Event 4, (2, 0): node 2 hears of 0 and its events 2 and 0; node 0 of 2 and its event 1.
    assert state.mail_event.tolist() == [[4, 1, -1], [3, -1, -1], [4, 2, 0], [3, 2, 1]]
    assert state.memory_time.tolist() == [5, 5, 5, 0]  # of the mail that was absorbed

    model, features, time = engine.model, engine.builder.edge_features, engine.builder.time
    put(model.query, 1.0)
    put(model.key, 1.0, 0.5, 0.25, bias=0.0)
    put(model.neighbor, 2.0, bias=0.1)
    put_cell(model.cell, [0.6, 0.3, 0.4], 0.5, 0.7)
    rows = engine.memory.read(torch.arange(4))
    rows.mail.copy_(torch.tensor([[0.0] * 3, [0.0] * 3, [0.0] * 3, [0.9, 0.2, -0.4]]))
    rows.memory.copy_(torch.tensor([[0.0], [0.0], [0.0], [0.3]]))
    # Node 3: z_u = 0.9; its neighbors 0.2 of event 2 (feature 0.3, 2 ago) and -0.4 of event 1 (feature 0.2, 2 ago).
    score = [0.9 * (z + 0.5 * e + 0.25 * cos(2)) for z, e in ((0.2, 0.3), (-0.4, 0.2))]
    q = [exp(s) / (exp(score[0]) + exp(score[1])) for s in score]
    h = max(1 / (1 + exp(-weight * (2 * z + 0.1))) for weight, z in zip(q, (0.2, -0.4), strict=True))
    new = model.update(rows, time, features)
    close(new[3], [tanh(0.6 * h + 0.3 * 0.4 + 0.4 * cos(7 - 0) + 0.5 * 0.3 + 0.7)])
    # Node 1: node 3 has no past, so nothing of a neighborhood.
    close(new[1], [tanh(0.3 * 0.4 + 0.4 * cos(7 - 5) + 0.7)])


def test_apan_posts_mail_to_ends_and_neighbors(make):
    engine = make("apan", model__mails=3, model__heads=1)
    engine.score(engine.builder.range(0, 3, 1, seed=0))
    box = engine.memory.state.mail_event
    # Event 1, (1, 2) at 5, also reaches 0, whom 1 met in event 0. Event 2, (1, 0), reaches 1 and 0: each once.
    assert box.tolist() == [[2, 1, 0], [2, 1, 0], [1, -1, -1], [-1, -1, -1]]
    engine.score(engine.builder.range(3, 5, 1, seed=0))
    # Event 3, (3, 1): ends 3 and 1; 1 has met 0 (event 2) and 2 (event 1). Event 4, (2, 0): ends 2 and 0; 2 has met 1,
    # 0 has met 1. A full mailbox loses its oldest mail.
    assert box.tolist() == [[4, 3, 2], [4, 3, 2], [4, 3, 1], [3, -1, -1]]


def test_apan_keeps_the_embedding_of_ends_alone(make):
    engine = make("apan", model__mails=3, model__heads=1)
    engine.score(engine.builder.range(0, 3, 1, seed=0))
    assert not engine.memory.state.memory.any()  # nobody had mail, so every embedding is that from before
    engine.score(engine.builder.range(3, 4, 1, seed=0))  # (3, 1): 1 reads its mailbox; 0 and 2 only get mail
    memory = engine.memory.state.memory[:, 0]
    assert memory[1] != 0
    assert memory[[0, 2, 3]].tolist() == [0, 0, 0]
    close(engine.memory.state.mail[[0, 1, 2, 3], 0], [float(memory[1])] * 4)  # z_3 + z_1, as both were before


def test_tgat_sees_two_hops_each_strictly_before_its_own_time(stream):
    builder = BatchBuilder(stream, NeighborSampler(stream, 2), NegativeSampler(stream), needs=Needs(hops=2))
    batch = builder.range(5, 6, 1, seed=0)  # (1, 3) at 12
    block, below = batch.block, batch.block.below
    source = int(batch.source[0])
    assert block.event[source].tolist() == [3, 2]  # of node 1's events 3, 2, 1, 0 the two latest
    assert block.nodes[block.slot[source]].tolist() == [3, 0]
    under = [below.event[row].tolist() for row in block.slot[source].tolist()]
    # Node 3 before 7 has nothing. Node 0 before 5 has event 0; event 2 itself and event 1, both at 5, do not count.
    assert under == [[-1, -1], [0, -1]]
    own = below.event[block.roots[source]].tolist()
    assert own == [3, 2]  # the root itself, at its own time, in the layer below
    assert below.dt[block.slot[source][1]].tolist() == [5 - 2, 0]


def test_graphmixer_averages_the_neighbors_within_the_gap(make):
    engine = make("graphmixer", model__gap=5, static__mode="cotrained")
    model = engine.model
    with torch.no_grad():
        model.static.table.copy_(torch.tensor([[1.0], [10.0], [100.0], [1000.0]]))
        model.out.weight.copy_(torch.tensor([[0.0, 1.0]]))  # the node part alone
        model.out.bias.zero_()
    batch = engine.builder.range(5, 6, 1, seed=0)  # (1, 3) at 12: 1 met 3 at 7 and 0 at 5, which is too long ago
    h = model.embed(torch.zeros(0), batch.block, engine.builder.edge_features)
    close(h[batch.source[0]], [10.0 + 1000.0])
    close(h[batch.candidate[0, 0]], [1000.0 + 10.0])  # 3 met 1 at 7


@pytest.mark.parametrize("piece", [1, 2, 3])
def test_graphmixer_mixes_pieces_as_it_mixes_the_whole(make, monkeypatch, piece):
    engine = make("graphmixer")
    batch = engine.builder.range(0, 6, 1, seed=0)
    inputs = (torch.zeros(0), batch.block, engine.builder.edge_features)
    whole = engine.model.embed(*inputs)
    assert len(whole) > piece
    monkeypatch.setattr(graphmixer, "PIECE", piece)
    with torch.no_grad():
        torch.testing.assert_close(engine.model.embed(*inputs), whole, rtol=1e-12, atol=1e-12)
