import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError
from tgscale.graph.adjacency import Adjacency, chebyshev_adjacency, gcn_adjacency, relation_adjacency

from .random_snapshots import dense, random_snapshots

sequences = st.builds(
    random_snapshots,
    seed=st.integers(0, 2**31),
    num_nodes=st.integers(1, 9),
    num_graphs=st.integers(1, 4),
    density=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    weighted=st.booleans(),
    relations=st.sampled_from([1, 3]),
    undirected=st.booleans(),
)


def matrices(adj):
    """``[G, rows, cols]`` from the rows, after checking that rows are sorted and that the transpose agrees."""
    offsets, indptr, neighbor, weight = adj.arrays
    out = np.zeros((adj.num_graphs, adj.num_rows, adj.num_cols))
    for g in range(adj.num_graphs):
        assert indptr[g, -1] == offsets[g + 1] - offsets[g]
        for r in range(adj.num_rows):
            row = slice(offsets[g] + indptr[g, r], offsets[g] + indptr[g, r + 1])
            assert (np.diff(neighbor[row]) >= 0).all()
            np.add.at(out[g, r], neighbor[row], weight[row])
    return out


def check(adj, expected):
    np.testing.assert_allclose(matrices(adj), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(matrices(adj.transposed), np.transpose(expected, (0, 2, 1)), rtol=1e-12, atol=1e-12)


def inverse_root(degree):
    return np.divide(1, np.sqrt(degree), where=degree > 0, out=np.zeros_like(degree))


@settings(max_examples=50, deadline=None)
@given(sequences)
def test_gcn_is_the_equation(seq):
    expected = []
    for g in range(seq.num_graphs):
        a = dense(seq, g)
        a[np.diag_indices_from(a)] = np.where(np.diag(a) == 0, 1, np.diag(a))
        scale = inverse_root(a.sum(1))
        expected.append(scale[:, None] * a * scale)
    check(gcn_adjacency(seq, torch.float64), expected)


@settings(max_examples=50, deadline=None)
@given(sequences)
def test_chebyshev_is_the_equation(seq):
    expected = []
    for g in range(seq.num_graphs):
        a = dense(seq, g)
        np.fill_diagonal(a, 0)
        scale = inverse_root(a.sum(0))  # outgoing
        laplacian = np.eye(len(a)) - scale[:, None] * a * scale
        expected.append(2 * laplacian / (2 * laplacian.max()) - np.eye(len(a)))
    check(chebyshev_adjacency(seq, torch.float64), expected)


@settings(max_examples=50, deadline=None)
@given(sequences)
def test_relations_are_means_over_the_edges_of_their_type(seq):
    for relation in range(seq.num_relations):
        expected = np.zeros((seq.num_graphs, seq.num_nodes, seq.num_nodes))
        for g in range(seq.num_graphs):
            dst = np.repeat(np.arange(seq.num_nodes), np.diff(seq.indptr[g]))
            for i, row in enumerate(range(seq.offsets[g], seq.offsets[g + 1])):
                expected[g, dst[i], seq.neighbor[row]] = seq.edge_type is None or seq.edge_type[row] == relation
        expected /= np.maximum(expected.sum(2, keepdims=True), 1)
        check(relation_adjacency(seq, relation, torch.float64), expected)


def test_gcn_of_a_worked_example():
    """0 -> 1 with weight 2 and a loop of weight 3 on node 0: in-degrees 3 and 2 + 1."""
    seq = random_snapshots(num_nodes=2, num_graphs=1, density=1.0)
    seq.edge_weight[:] = [3, 0, 2, 0]  # (0,0) (0,1) (1,0) (1,1), by destination
    adj = gcn_adjacency(seq, torch.float64)
    np.testing.assert_allclose(matrices(adj)[0], [[1, 0], [2 / np.sqrt(3 * 2), 0]])


def test_parallel_edges_add_up():
    """Two edges 0 -> 1 and two loops on node 1, each pair of two types."""
    seq = SnapshotSequence.from_arrays(
        [0] * 4, [0, 0, 1, 1], [1, 1, 1, 1], edge_weight=[1.0, 2, 3, 4], edge_type=[0, 1, 0, 1], parallel=True
    )
    assert len(seq.neighbor) == 4
    gcn = [[1, 0], [3 / np.sqrt(10), 7 / 10]]
    check(gcn_adjacency(seq, torch.float64), [np.array(gcn)])
    check(chebyshev_adjacency(seq, torch.float64), [np.zeros((2, 2))])  # no out-degree on node 1 without loops
    check(relation_adjacency(seq, 1, torch.float64), [np.array([[0, 0], [0.5, 0.5]])])


def test_a_negative_weight_moves_the_largest_entry_of_the_laplacian():
    seq = random_snapshots(num_nodes=3, num_graphs=1, density=1.0)
    a = np.array([[0, 1, 4], [4, 0, -3], [4, 3, 0]], float)  # outgoing: 8, 4, 1
    seq.edge_weight[:] = a.ravel()
    laplacian = np.eye(3) - a / np.sqrt(np.outer(a.sum(0), a.sum(0)))
    assert laplacian.max() > 1
    check(chebyshev_adjacency(seq, torch.float64), [laplacian / laplacian.max() - np.eye(3)])


@pytest.mark.parametrize("build", [gcn_adjacency, chebyshev_adjacency])
def test_a_negative_degree_is_refused_by_name(build):
    seq = random_snapshots(num_nodes=4, num_graphs=1, density=1.0)
    seq.edge_weight[:] = 1
    edges = seq.edge_weight.reshape(4, 4)
    edges[2, :] = -9  # in-edges of node 2: every out-degree falls to 3 - 9 except node 2's
    with pytest.raises(DataError, match=r"graph 0: .* node (2|0) sum to -"):
        build(seq)


def test_symmetric_matrices_are_stored_once():
    both = gcn_adjacency(random_snapshots(num_nodes=8, undirected=True))
    assert both.transpose_weight is both.weight
    assert both.double().transpose_neighbor is both.double().neighbor
    one_way = gcn_adjacency(random_snapshots(num_nodes=8))
    assert one_way.transpose_weight is not one_way.weight
    assert both.num_bytes == sum(x.nbytes for x in (both.offsets, both.indptr, both.neighbor, both.weight))


def test_a_zero_diagonal_is_not_stored():
    seq = random_snapshots(num_nodes=8, density=0.5)
    loops = sum(np.count_nonzero(np.diag(dense(seq, g))) for g in range(seq.num_graphs))
    assert len(chebyshev_adjacency(seq).weight) == len(seq.neighbor) - loops


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 6), cols=st.integers(1, 6), edges=st.integers(0, 20))
def test_edges_in_any_order_with_repeats(seed, rows, cols, edges):
    rng = np.random.default_rng(seed)
    dst, src, weight = rng.integers(0, rows, edges), rng.integers(0, cols, edges), rng.normal(size=edges)
    cut = rng.integers(0, edges + 1)
    expected = np.zeros((2, rows, cols))
    np.add.at(expected, ((np.arange(edges) >= cut).astype(int), dst, src), weight)
    check(Adjacency.from_edges(np.array([0, cut, edges]), src, dst, weight, rows, cols), expected)


def test_float32_is_float64_rounded_once():
    seq = random_snapshots(num_nodes=9)
    for build in (gcn_adjacency, chebyshev_adjacency):
        assert torch.allclose(build(seq).double().weight, build(seq, torch.float64).weight, rtol=2e-7, atol=0)


def test_what_cannot_be_built_is_refused():
    seq = random_snapshots(relations=3)
    with pytest.raises(ConfigError, match="relation is 3, expected 0 to 2"):
        relation_adjacency(seq, 3)
    with pytest.raises(ConfigError, match=r"torch\.float32 or torch\.float64"):
        gcn_adjacency(seq, torch.bfloat16)
    with pytest.raises(DataError, match="edge 1: src is 4, expected 0 to 3"):
        Adjacency.from_edges(np.array([0, 2]), np.array([0, 4]), np.array([0, 0]), np.ones(2), 9, 4)
