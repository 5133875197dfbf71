"""Random snapshot sequences with what real ones have: empty graphs, self loops, isolated nodes."""

import numpy as np

from tgscale.data.snapshots import SnapshotSequence


def random_snapshots(seed=0, num_nodes=6, num_graphs=3, density=0.3, weighted=True, relations=1, undirected=False):
    """One graph per step; the second graph is empty where there is one."""
    rng = np.random.default_rng(seed)
    there = rng.random((num_graphs, num_nodes, num_nodes)) < density
    if undirected:
        there |= there.transpose(0, 2, 1)
    if num_graphs > 1:
        there[1] = False
    graph, dst, src = np.nonzero(there)
    counts = np.bincount(graph * num_nodes + dst, minlength=num_graphs * num_nodes).reshape(num_graphs, num_nodes)
    weight = rng.uniform(0.1, 2, (num_graphs, num_nodes, num_nodes)).astype(np.float32)
    if undirected:
        weight = np.maximum(weight, weight.transpose(0, 2, 1))
    return SnapshotSequence(
        offsets=np.concatenate([[0], np.cumsum(counts.sum(1))]).astype(np.int64),
        indptr=np.pad(counts.cumsum(1), ((0, 0), (1, 0))).astype(np.int32),
        neighbor=src.astype(np.int32),
        graph_of=np.arange(num_graphs, dtype=np.int32),
        num_nodes=num_nodes,
        edge_weight=weight[there] if weighted else None,
        edge_type=rng.integers(0, relations, len(src)).astype(np.int16) if relations > 1 else None,
        num_relations=relations,
        undirected=undirected,
    )


def dense(seq, graph):
    """``A[dst, src]`` of one graph, float64: weights, or 1 where it has none."""
    rows = slice(seq.offsets[graph], seq.offsets[graph + 1])
    dst = np.repeat(np.arange(seq.num_nodes), np.diff(seq.indptr[graph]))
    matrix = np.zeros((seq.num_nodes, seq.num_nodes))
    matrix[dst, seq.neighbor[rows]] = 1 if seq.edge_weight is None else seq.edge_weight[rows]
    return matrix
