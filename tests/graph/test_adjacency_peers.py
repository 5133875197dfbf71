"""The adjacencies against PyTorch Geometric itself; run where the extra ``peers`` is installed."""

import numpy as np
import pytest
import torch

from tgscale.graph.adjacency import chebyshev_adjacency, gcn_adjacency, relation_adjacency
from tgscale.graph.aggregate import aggregate

from .random_snapshots import random_snapshots

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed: pip install 'tgscale[peers]'")


def edge_index(seq, graph):
    dst = np.repeat(np.arange(seq.num_nodes), np.diff(seq.indptr[graph]))
    src = seq.neighbor[seq.offsets[graph] : seq.offsets[graph + 1]]
    return torch.from_numpy(np.stack([src, dst]).astype(np.int64))


def weights(seq, graph):
    rows = slice(seq.offsets[graph], seq.offsets[graph + 1])
    return None if seq.edge_weight is None else torch.from_numpy(seq.edge_weight[rows]).double()


def cases():
    for seed in range(6):
        yield random_snapshots(seed, num_nodes=9, density=0.3, weighted=seed % 2 == 0, relations=3, undirected=seed > 3)


def ours(adj, graph, x):
    return aggregate(adj, torch.tensor([graph]), x[None])[0]


def test_gcn():
    from torch_geometric.nn import GCNConv

    for seq in cases():
        conv = GCNConv(4, 3, bias=False).double()
        x = torch.randn(seq.num_nodes, 4, dtype=torch.float64)
        for g in range(seq.num_graphs):
            expected = conv(x, edge_index(seq, g), weights(seq, g))
            torch.testing.assert_close(ours(gcn_adjacency(seq, torch.float64), g, conv.lin(x)), expected)


def test_chebyshev():
    from torch_geometric.nn import ChebConv

    for seq in cases():
        conv = ChebConv(4, 3, K=3, bias=False).double()
        x = torch.randn(seq.num_nodes, 4, dtype=torch.float64)
        adj = chebyshev_adjacency(seq, torch.float64)
        for g in range(seq.num_graphs):
            first = ours(adj, g, x)
            blocks = [x, first, 2 * ours(adj, g, first) - x]
            result = sum(lin(block) for lin, block in zip(conv.lins, blocks, strict=True))
            torch.testing.assert_close(result, conv(x, edge_index(seq, g), weights(seq, g)))


def test_relations():
    from torch_geometric.nn import RGCNConv

    for seq in cases():
        conv = RGCNConv(4, 3, num_relations=3, bias=False).double()
        x = torch.randn(seq.num_nodes, 4, dtype=torch.float64)
        for g in range(seq.num_graphs):
            rows = slice(seq.offsets[g], seq.offsets[g + 1])
            kind = torch.from_numpy(seq.edge_type[rows].astype(np.int64))
            means = [ours(relation_adjacency(seq, r, torch.float64), g, x) @ conv.weight[r] for r in range(3)]
            torch.testing.assert_close(sum(means) + x @ conv.root, conv(x, edge_index(seq, g), kind))
