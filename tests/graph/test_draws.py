import torch

from tgscale.graph.draws import draw_nodes

NODES = torch.tensor([2, 3, 5, 7, 11, 13])


def test_draws_are_nodes_and_never_the_excluded_one():
    other = torch.tensor([2, 7, 13, 4, 99, 0]).repeat(200)  # the last three are not among the nodes
    drawn = draw_nodes(NODES, torch.arange(len(other)), 9, seed=1, other_than=other)
    assert torch.isin(drawn, NODES).all()
    assert not (drawn == other[:, None]).any()
    for absent in (4, 99, 0):
        assert set(drawn[other == absent].unique().tolist()) == set(NODES.tolist())


def test_draws_are_uniform():
    counts = (draw_nodes(NODES, torch.arange(6000), 10, seed=3)[..., None] == NODES).sum((0, 1)).double()
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 30  # chi-square, 5 degrees of freedom


def test_draws_do_not_depend_on_the_batch():
    rows = torch.arange(50)
    whole = draw_nodes(NODES, rows, 4, seed=5, other_than=NODES[rows % 6])
    part = draw_nodes(NODES, rows[20:30], 4, seed=5, other_than=NODES[rows[20:30] % 6])
    assert torch.equal(whole[20:30], part)
