from itertools import combinations_with_replacement, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot.partition.blocks import contiguous_blocks, node_cost, step_cost


def costs_of(cost, bounds):
    return [int(cost[a:b].sum()) for a, b in pairwise(bounds)]


@given(st.lists(st.integers(1, 20), max_size=8), st.integers(1, 4))
def test_no_cut_has_a_smaller_maximum(cost, parts):
    cost = np.array(cost, np.int64)
    bounds = contiguous_blocks(cost, parts)
    assert bounds[0] == 0
    assert bounds[-1] == len(cost)
    assert (np.diff(bounds) >= 0).all()
    cuts = combinations_with_replacement(range(len(cost) + 1), parts - 1)
    best = min(max(costs_of(cost, [0, *some, len(cost)])) for some in cuts)
    assert max(costs_of(cost, bounds)) == best


def test_of_cuts_with_the_same_maximum_the_evenest_is_taken():
    assert contiguous_blocks(np.ones(4, np.int64), 3).tolist() == [0, 1, 3, 4]


def test_one_item_that_costs_most_has_a_run_of_its_own():
    assert contiguous_blocks(np.array([1, 1, 50, 1, 1]), 3).tolist() == [0, 2, 3, 5]


def test_nodes_cost_what_arrives_at_them_at_each_step():
    """Graph 0 (0 -> 1, 2 -> 1) is shown twice, graph 1 (1 -> 0) once: three steps for each node besides."""
    seq = SnapshotSequence.from_arrays([0, 0, 1], [0, 2, 1], [1, 1, 0], num_nodes=3, graph_of=[0, 0, 1])
    assert node_cost(seq).tolist() == [3 + 1, 3 + 4, 3]
    assert step_cost(seq).tolist() == [2 + 3, 2 + 3, 1 + 3]
