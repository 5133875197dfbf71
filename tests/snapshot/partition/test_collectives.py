import pytest
import torch
from torch.nn import BatchNorm1d

from tgscale.snapshot.partition.collectives import GATHER, ROWS, Exchange
from tgscale.snapshot.partition.statistics import batch_norm
from tgscale.train.distributed import Ranks


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SEND = {
    2: [[1, 2], [0, 3]],
    3: [[0, 2, 1], [3, 1, 0], [0, 0, 0]],
}


def test_rows_reach_whom_they_are_sent_to_and_gradients_come_back(team):
    world = team.world
    send = SEND[world]
    rows = [random(sum(counts), 2, seed=p) for p, counts in enumerate(send)]
    to = [part.split(counts) for part, counts in zip(rows, send, strict=True)]
    expected = [torch.cat([to[q][p] for q in range(world)]) for p in range(world)]
    scale = [random(*each.shape, seed=9 + p) for p, each in enumerate(expected)]
    back = [s.split([send[q][p] for q in range(world)]) for p, s in enumerate(scale)]
    for p, (out, grad, sent, sent_in_all, spans) in enumerate(team("exchange_rows", rows=rows, send=send, scale=scale)):
        torch.testing.assert_close(out, expected[p], rtol=0, atol=0)
        torch.testing.assert_close(grad, torch.cat([back[q][p] for q in range(world)]), rtol=0, atol=0)
        away = sum(send[p]) - send[p][p]
        returned = sum(counts[p] for counts in send) - send[p][p]
        assert (sent, sent_in_all) == (away * 16, (away + returned) * 16)
        assert spans[ROWS][1] == 2


def test_all_rows_are_gathered_and_their_gradients_added_up(team):
    world = team.world
    rows = [random(n, 2, seed=n) for n in (2, 0, 3)[:world]]
    total = sum(map(len, rows))
    scale = [random(total, 2, seed=9 + p) for p in range(world)]
    summed = sum(scale).split([len(part) for part in rows])
    for p, (out, grad, sent, sent_in_all) in enumerate(team("gather", rows=rows, scale=scale)):
        torch.testing.assert_close(out, torch.cat(rows), rtol=0, atol=0)
        torch.testing.assert_close(grad, summed[p], rtol=1e-14, atol=1e-14)
        own = len(rows[p])
        assert (sent, sent_in_all - sent) == ((world - 1) * own * 16, (total - own) * 16)


WANTED = {2: [[[0, 3], [4, 3]], []], 3: [[[0, 3], [4, 3]], [1], []]}
"""Nodes that each process wants: rows of others in any order, one of them twice, and own ones; and none."""


def test_rows_are_fetched_from_where_they_lie(team):
    """Process 0 has nodes 0 and 1; of 2 to 4, the last process has all or, of three, the one between has none."""
    world = team.world
    rows = [random(n, 2, seed=n) for n in ((2, 3) if world == 2 else (2, 0, 3))]
    wanted = [torch.tensor(each, dtype=torch.int64) for each in WANTED[world]]
    whole = torch.cat(rows)
    scale = [random(*each.shape, 2, seed=9 + p) for p, each in enumerate(wanted)]
    grad = torch.zeros_like(whole)
    for each, s in zip(wanted, scale, strict=True):
        grad.index_add_(0, each.flatten(), s.view(-1, 2))
    found = team("fetch", rows=rows, wanted=wanted, scale=scale)
    for p, (out, own_grad, _, _) in enumerate(found):
        torch.testing.assert_close(out, whole[wanted[p]], rtol=0, atol=0)
        torch.testing.assert_close(own_grad, grad.split([len(part) for part in rows])[p], rtol=1e-14, atol=1e-14)
    # Everybody tells everybody else how many nodes are wanted, and which; 8 bytes each. Rows have 16 bytes.
    counts = (world - 1) * 8
    first, last = found[0], found[-1]
    assert (first[2], first[3]) == (counts + 3 * 8 + (world - 2) * 16, counts + 3 * 8 + (world - 2) * 16 + 3 * 16)
    assert (last[2], last[3]) == (counts + 3 * 16, counts + 3 * 16)


OPTIONS = [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_batch_norm_over_processes_is_that_of_all_rows(team, options, training):
    world = team.world
    rows = [random(n, 3, seed=n) + 100 for n in (4, 0, 3)[:world]]
    scale = [random(*part.shape, seed=9 + p) for p, part in enumerate(rows)]
    module = BatchNorm1d(3, **options).double().train(training)
    x = torch.cat(rows).requires_grad_()
    out = module(x)
    (out * torch.cat(scale)).sum().backward()
    found = team("normalize", rows=rows, scale=scale, options=options, training=training)
    torch.testing.assert_close(torch.cat([each[0] for each in found]), out.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat([each[1] for each in found]), x.grad, rtol=1e-10, atol=1e-10)
    for number, parameter in enumerate(module.parameters()):
        torch.testing.assert_close(sum(each[2][number] for each in found), parameter.grad, rtol=1e-10, atol=1e-10)
    for each in found:
        torch.testing.assert_close(each[3], dict(module.named_buffers()), rtol=1e-12, atol=1e-12)


def test_alone_nothing_is_sent_and_gradients_pass():
    exchange, x = Exchange(Ranks()), random(3, 2).requires_grad_()
    out = exchange.rows(x, [3], [3]) + exchange.gather(x, [3]) + exchange.sum(x)
    torch.testing.assert_close(out, 3 * x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 3))
    assert exchange.bytes_sent == 0
    assert {name: count for name, (_, count) in exchange.trace.totals().items()} == {ROWS: 2, GATHER: 4}


def test_one_row_has_no_variance():
    module = BatchNorm1d(2).double()
    torch.testing.assert_close(batch_norm(module, random(1, 2), 1, Exchange(Ranks())), torch.zeros(1, 2).double())
