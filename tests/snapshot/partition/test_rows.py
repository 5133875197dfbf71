"""Rows cut out of adjacencies, all processes in turn."""

from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.graph.aggregate import aggregate
from tgscale.snapshot.partition.rows import cut_rows
from tgscale.snapshot.tensors import make_adjacency

from ...graph.random_snapshots import random_snapshots

OPERATORS = ["gcn", "chebyshev", "mean:1"]


def halves(values, counts):
    """What goes to each process."""
    return np.split(values, np.cumsum(counts)[:-1])


@given(
    st.integers(0, 1000),
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from(OPERATORS),
    st.integers(1, 40),
    st.data(),
)
def test_rows_with_their_halo_are_those_of_the_whole(seed, nodes, graphs, operator, edges_at_a_time, data):
    """Every process gets the rows that others send it at the places where its entries look for them."""
    seq = random_snapshots(seed, nodes, graphs, relations=2)
    world = data.draw(st.integers(1, 4))
    cuts = sorted(data.draw(st.lists(st.integers(0, nodes), min_size=world - 1, max_size=world - 1)))
    bounds = np.array([0, *cuts, nodes])
    shown = np.array(data.draw(st.lists(st.integers(0, graphs - 1), min_size=1, max_size=4)))
    make = partial(make_adjacency, operator=operator, dtype=torch.float64)
    x = torch.randn(len(shown), nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    rows = [cut_rows(seq, make, bounds, rank, edges_at_a_time) for rank in range(world)]
    routes = [each.route(shown) for each in rows]
    own = [x[:, bounds[p] : bounds[p + 1]] for p in range(world)]
    to_send = [own[p].reshape(-1, 3)[routes[p].sent].split(routes[p].send) for p in range(world)]
    found = []
    for p in range(world):
        assert routes[p].receive == [len(to_send[q][p]) for q in range(world)]
        assert routes[p].send[p] == 0
        # Only what arrives is there; all else would show.
        wide = x.new_full((len(shown), rows[p].adjacency.num_cols, 3), torch.nan)
        wide[:, : own[p].shape[1]] = own[p]
        wide.view(-1, 3)[routes[p].received] = torch.cat([to_send[q][p] for q in range(world)])
        found.append(aggregate(rows[p].adjacency, torch.from_numpy(shown), wide))
    whole = aggregate(make(seq), torch.from_numpy(shown), x)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-12, atol=1e-12)


def test_a_row_that_many_edges_want_is_sent_once():
    """Nodes 0 to 3 all gather node 4, which is the other process's."""
    seq = SnapshotSequence.from_arrays([0] * 4, [4] * 4, range(4), num_nodes=5)
    make = partial(make_adjacency, operator="gcn", dtype=torch.float32)
    first, second = (cut_rows(seq, make, np.array([0, 4, 5]), rank).route(np.array([0, 0])) for rank in range(2))
    assert (first.send, first.receive) == ([0, 0], [0, 2])
    assert (second.send, second.receive) == ([2, 0], [0, 0])
