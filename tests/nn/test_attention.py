import pytest
import torch

from tgscale.graph.block import Block
from tgscale.nn.attention import TemporalAttention
from tgscale.nn.time_encoding import TimeEncoding


def block_and_tables(seed=0, R=40, k=5, U=15, E=30, F=6):
    g = torch.Generator().manual_seed(seed)
    event = torch.randint(0, E, (R, k), generator=g)
    event[torch.arange(k) >= torch.randint(0, k + 1, (R, 1), generator=g)] = -1
    roots = torch.randperm(U, generator=g)[:6]
    block = Block(
        nodes=torch.arange(U),
        roots=roots,
        root_row=torch.randint(0, 6, (R,), generator=g),
        slot=torch.randint(0, U, (R, k), generator=g),
        event=event,
        dt=torch.randint(0, 10_000, (R, k), generator=g),
    )
    return (
        block,
        torch.randn(U, 10, generator=g, dtype=torch.float64),
        torch.randn(E, F, generator=g, dtype=torch.float64),
    )


@pytest.mark.parametrize("score", ["leaky_relu", "scaled"])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("edge_dim", [0, 6])
def test_absorbed_attention_equals_the_textbook_order(score, learned, edge_dim):
    torch.manual_seed(0)
    block, z, edge = block_and_tables(F=edge_dim)
    layer = TemporalAttention(10, edge_dim, TimeEncoding(4, learned), 12, heads=3, dropout=0.0, score=score).double()
    z.requires_grad_()
    parameters = [z, *(p for p in layer.parameters() if p.requires_grad)]
    results = []
    for forward in (layer.forward, layer.reference):
        h = forward(z, block, edge)
        results.append([h, *torch.autograd.grad((h * torch.arange(12)).square().sum(), parameters)])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-8)


def test_attention_dropout_equals_the_reference_with_the_same_mask(monkeypatch):
    torch.manual_seed(0)
    block, z, edge = block_and_tables()
    layer = TemporalAttention(10, 6, TimeEncoding(4), 12, heads=2, dropout=0.5).double()
    keep = layer._keep(block.slot, z.dtype)
    monkeypatch.setattr(layer, "_keep", lambda slot, dtype: keep)
    monkeypatch.setattr("tgscale.nn.attention.F.dropout", lambda h, p, training: h)
    monkeypatch.setattr(layer, "_mask", lambda *shape, dtype, device: None)
    torch.testing.assert_close(layer(z, block, edge), layer.reference(z, block, edge, keep), rtol=1e-8, atol=1e-8)


def test_dropout_is_off_in_evaluation():
    block, z, edge = block_and_tables()
    layer = TemporalAttention(10, 6, TimeEncoding(4), 12, dropout=0.5).double()
    assert not torch.equal(layer(z, block, edge), layer(z, block, edge))
    layer.eval()
    assert torch.equal(layer(z, block, edge), layer(z, block, edge))


def test_embedding_does_not_depend_on_other_roots():
    block, z, edge = block_and_tables()
    layer = TemporalAttention(10, 6, TimeEncoding(4), 12).double().eval()
    alone = Block(block.nodes, block.roots, block.root_row[:1], block.slot[:1], block.event[:1], block.dt[:1])
    torch.testing.assert_close(layer(z, alone, edge), layer(z, block, edge)[:1], rtol=1e-12, atol=1e-12)
