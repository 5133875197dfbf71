import math

import pytest
import torch

from tgscale.nn.decoder import LinkDecoder, link_loss
from tgscale.nn.static_memory import StaticMemory, StaticTable
from tgscale.nn.time_encoding import TimeEncoding
from tgscale.nn.updater import MemoryUpdater


def test_time_encoding_values_and_frequencies():
    time = TimeEncoding(10)
    torch.testing.assert_close(time.omega[[0, 9]], torch.tensor([1.0, 1e-9]))
    torch.testing.assert_close(time(torch.tensor([0, 3]))[:, 0], torch.tensor([1.0, math.cos(3)]))
    assert not time.omega.requires_grad
    assert TimeEncoding(10, learned=True).omega.requires_grad


def test_time_encoding_separates_neighboring_seconds_at_unix_time():
    phi = TimeEncoding(4)(torch.tensor([1_700_000_000, 1_700_000_001]))
    assert abs(phi[0, 0] - phi[1, 0]) > 0.1  # in float32 both times are the same number


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_updater_touches_only_nodes_with_mail(cell):
    torch.manual_seed(0)
    updater = MemoryUpdater(3, 2, TimeEncoding(4), cell)
    memory, edge = torch.randn(5, 3), torch.randn(9, 2)
    mail = torch.cat([memory, torch.randn(5, 3)], dim=1)  # as it is written: own memory first
    dt, event = torch.arange(5), torch.tensor([4, -1, 0, -1, 8])
    out = updater(memory, mail, dt, edge, event)
    assert torch.equal(out[[1, 3]], memory[[1, 3]])
    rows = torch.tensor([0, 2, 4])
    x = torch.cat([mail[rows], edge[event[rows]], updater.time(dt[rows])], dim=1)
    torch.testing.assert_close(out[rows], updater.cell(x, memory[rows]))


def test_updater_gpu_form_equals_the_cpu_form():
    updater = MemoryUpdater(3, 2, TimeEncoding(4))
    memory, edge = torch.randn(5, 3), torch.randn(9, 2)
    mail = torch.cat([memory, torch.randn(5, 3)], dim=1)
    arguments = (memory, mail, torch.arange(5), edge, torch.tensor([4, -1, 0, -1, 8]))
    torch.testing.assert_close(updater.masked(*arguments), updater(*arguments))


def test_absorbing_in_kernels_equals_the_plain_gru_forward_and_backward():
    torch.manual_seed(0)
    updater = MemoryUpdater(20, 7, TimeEncoding(9)).double()
    memory, edge = torch.randn(300, 20).double(), torch.randn(50, 7).double()
    mail = torch.cat([memory, torch.randn(300, 20).double()], dim=1)
    event = torch.randint(-1, 50, (300,))
    arguments = (memory, mail, torch.randint(0, 10_000, (300,)), edge, event)
    weights = list(updater.cell.parameters())
    results = []
    for form in (updater, updater.masked):
        out = form(*arguments)
        loss = (out * torch.sin(torch.arange(out.numel())).view_as(out)).sum()
        results.append([out, *torch.autograd.grad(loss, weights)])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_decoder_scores_each_pair_as_if_alone():
    torch.manual_seed(0)
    decoder = LinkDecoder(4, pair_dim=3)
    h, pair = torch.randn(6, 4), torch.randn(2, 3, 3)
    source, destination = torch.tensor([0, 5]), torch.tensor([[1, 2, 3], [1, 4, 0]])
    logits = decoder(h, source, destination, pair)
    hidden = decoder.source(h[5]) + decoder.destination(h[4]) + decoder.pair(pair[1, 1])
    torch.testing.assert_close(logits[1, 1], decoder.out(hidden.relu())[0])
    assert logits.shape == (2, 3)


def test_link_loss_of_equal_scores_is_log_of_the_number_of_candidates():
    torch.testing.assert_close(link_loss(torch.zeros(5, 4)), torch.tensor(math.log(4)))


def test_static_memory_choices():
    assert StaticMemory()(torch.arange(3)) is None
    table = torch.arange(12.0).view(4, 3)
    frozen = StaticTable(table, 3)
    assert torch.equal(frozen(torch.tensor([2, 0])), table[[2, 0]])
    assert not any(p.requires_grad for p in frozen.parameters())
    assert StaticTable(table, 5)(torch.tensor([1])).shape == (1, 5)
    trained = StaticTable(table.clone(), 3, trained=True)
    trained(torch.tensor([1, 1])).sum().backward()
    assert trained.table.grad.is_sparse  # a batch must not cost as much as there are nodes
    assert torch.equal(trained.table.grad.to_dense()[1], torch.full((3,), 2.0))


def test_static_dropout_drops_whole_rows_in_training_only():
    torch.manual_seed(0)
    static = StaticTable(torch.ones(1000, 3), 3, dropout=0.5)
    rows = static(torch.arange(1000)).sum(1)
    assert set(rows.tolist()) == {0.0, 3.0}
    assert 400 < (rows == 0).sum() < 600
    assert (static.eval()(torch.arange(1000)) == 1).all()


def test_static_gate_scales_and_learns():
    static = StaticTable(torch.ones(2, 3), 3, gate=0.25)
    out = static(torch.tensor([0]))
    assert torch.equal(out, torch.full((1, 3), 0.25))
    out.sum().backward()
    assert static.gate.grad == 3
