"""The snapshot sequence: from edges in any order to CSR, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.data import edge_rows
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import DataError

STEP, SRC, DST = [1, 0, 1, 1, 1], [2, 0, 0, 0, 2], [0, 1, 2, 2, 2]


def make(**changes):
    given = {"step": STEP, "src": SRC, "dst": DST} | changes
    return SnapshotSequence.from_arrays(given.pop("step"), given.pop("src"), given.pop("dst"), **given)


def test_edges_are_sorted_and_merged():
    sequence = make(num_steps=3, edge_weight=[1, 2, 3, 4, 5], edge_type=[0, 1, 1, 0, 1], edge_label=[9, 8, 7, 6, 5])
    assert sequence.offsets.tolist() == [0, 1, 4, 4]
    assert sequence.indptr.tolist() == [[0, 0, 1, 1], [0, 1, 1, 3], [0, 0, 0, 0]]
    assert sequence.neighbor.tolist() == [0, 2, 0, 2]
    assert sequence.edge_weight.tolist() == [2, 1, 7, 5]
    assert sequence.edge_type.tolist() == [1, 0, 1, 1]  # the first of the two that were merged
    assert sequence.edge_label.tolist() == [8, 9, 7, 5]
    assert (sequence.num_steps, sequence.num_graphs, sequence.num_nodes, sequence.num_edges) == (3, 3, 3, 4)
    assert sequence.num_relations == 2
    assert sequence.edge_counts().tolist() == [1, 3, 0]
    src, dst = sequence.edges(1)
    assert (src.tolist(), dst.tolist()) == ([2, 0, 2], [0, 2, 2])
    assert sequence.edge_rows(1) == slice(1, 4)
    types = {"offsets": np.int64, "indptr": np.int32, "neighbor": np.int32, "graph_of": np.int32}
    types |= {"edge_weight": np.float32, "edge_type": np.int16, "edge_label": np.int64}
    assert {name: getattr(sequence, name).dtype for name in types} == types


def test_edges_of_other_types_can_stay_apart():
    sequence = make(edge_weight=[1, 2, 3, 4, 5], edge_type=[0, 1, 1, 0, 1], parallel=True)
    assert [part.tolist() for part in sequence.edges(1)] == [[2, 0, 0, 2], [0, 2, 2, 2]]
    assert sequence.edge_type.tolist() == [1, 0, 0, 1, 1]
    assert sequence.edge_weight.tolist() == [2, 1, 4, 3, 5]


def test_undirected_edges_stand_both_ways_and_loops_once():
    sequence = make(undirected=True, edge_weight=[1, 2, 3, 4, 5])
    pairs = list(zip(*(part.tolist() for part in sequence.edges(1)), strict=True))
    assert pairs == [(2, 0), (0, 2), (2, 2)]
    assert sequence.edge_weight.tolist() == [2, 2, 8, 8, 5]
    assert sequence.undirected


def test_a_static_topology_is_one_graph():
    sequence = make(step=[0] * 5, graph_of=np.zeros(7, int), node_features=np.ones((7, 3, 2)), target=np.ones((7, 3)))
    assert (sequence.num_steps, sequence.num_graphs, sequence.num_edges) == (7, 1, 4)
    assert sequence.edges(6)[0].tolist() == sequence.edges(0)[0].tolist()
    assert sequence.edge_counts().tolist() == [4] * 7
    assert (sequence.node_dim, sequence.target_dim, sequence.target.shape) == (2, 1, (7, 3, 1))


def test_sizes_follow_from_features_without_edges():
    sequence = make(step=[], src=[], dst=[], node_features=np.ones((4, 3, 2)))
    assert (sequence.num_steps, sequence.num_nodes, sequence.num_edges) == (4, 3, 0)
    assert sequence.edges(3)[0].tolist() == []


def test_scale_of_the_target():
    sequence = make(target=np.ones((2, 3, 1)), target_mean=5, target_std=[[1], [2], [3]])
    assert (sequence.target * sequence.target_std + sequence.target_mean)[1, :, 0].tolist() == [6, 7, 8]


EDGES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), max_size=60)


def oracle(edges, undirected):
    """Weight by (step, dst, src), in plain Python."""
    weights = {}
    for step, src, dst, weight in edges:
        weights[step, dst, src] = weights.get((step, dst, src), 0) + weight
        if undirected and src != dst:
            weights[step, src, dst] = weights.get((step, src, dst), 0) + weight
    return weights


@given(EDGES, st.booleans())
def test_any_edges_equal_a_dictionary(edges, undirected):
    step, src, dst, weight = zip(*edges, strict=True) if edges else ((), (), (), ())
    sequence = SnapshotSequence.from_arrays(
        step, src, dst, num_steps=5, num_nodes=7, edge_weight=weight, undirected=undirected
    )
    expected = oracle(edges, undirected)
    found = {}
    for t in range(5):
        sources, destinations = sequence.edges(t)
        weights = sequence.edge_weight[sequence.edge_rows(t)]
        rows = list(zip(destinations.tolist(), sources.tolist(), strict=True))
        assert rows == sorted(set(rows))
        found |= {(t, *row): value for row, value in zip(rows, weights.tolist(), strict=True)}
    assert found == expected


@given(EDGES)
def test_the_order_does_not_depend_on_how_it_is_sorted(edges):
    columns = [np.array([edge[i] for edge in edges], np.int64) for i in range(3)]
    by_number = edge_rows._sort(columns, [5, 7, 7])
    by_columns = edge_rows._sort(columns, [2**30, 2**30, 2**30])  # too many for one 64-bit number
    for one, other in zip(by_number, by_columns, strict=True):
        assert one.tolist() == other.tolist()
    assert np.count_nonzero(by_number[1]) == len({edge[:3] for edge in edges})


@given(
    steps=st.integers(1, 6),
    static=st.booleans(),
    per_step=st.booleans(),
    cut=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 99),
)
def test_a_part_is_the_same_steps(steps, static, per_step, cut, seed):
    first, stop = sorted(min(each, steps) for each in cut)
    generator = np.random.default_rng(seed)
    graph_of = generator.integers(0, 2, steps)
    graphs = int(graph_of.max()) + 1 if static else steps
    more = {"graph_of": graph_of} if static else {}
    step, src, dst, kind = (generator.integers(0, high, 12) for high in (graphs, 4, 4, 3))
    whole = SnapshotSequence.from_arrays(
        step, src, dst, num_nodes=4, num_steps=steps, edge_type=kind, num_relations=3,
        edge_weight=generator.random(12), step_time=np.arange(steps) * 5, target=generator.random((steps, 4)),
        node_features=generator.random((steps, 4, 2) if per_step else (4, 2)), **more,
    )  # fmt: skip
    part = whole.part(first, stop)
    assert (part.num_steps, part.num_nodes, part.num_relations) == (stop - first, 4, 3)
    for t in range(first, stop):
        rows, own = whole.edge_rows(t), part.edge_rows(t - first)
        for one, other in zip(whole.edges(t), part.edges(t - first), strict=True):
            np.testing.assert_array_equal(one, other)
        for name in ("edge_weight", "edge_type"):
            np.testing.assert_array_equal(getattr(whole, name)[rows], getattr(part, name)[own])
    np.testing.assert_array_equal(part.target, whole.target[first:stop])
    np.testing.assert_array_equal(part.step_time, whole.step_time[first:stop])
    given = whole.node_features
    np.testing.assert_array_equal(part.node_features, given[first:stop] if per_step else given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dst": [0, 1]}, "dst has 2 rows, step has 5: give one row per edge"),
        ({"src": [2, 0, 0, 3, 2], "num_nodes": 3}, r"src is 3 at row 3: node ids must lie in \[0, 3\)"),
        ({"step": [1, 0, -1, 1, 1]}, r"step is -1 at row 2: steps must lie in \[0, 2\)"),
        ({"num_steps": 1}, r"step is 1 at row 0: steps must lie in \[0, 1\)"),
        ({"step": [0.5] * 5}, "step is float64: give integers"),
        ({"edge_weight": [1, 2, np.nan, 1, 1]}, "edge_weight has a value that is not finite in row 2"),
        ({"edge_type": [0, 1, 2, 0, 0], "num_relations": 2}, r"edge_type is 2 at row 2: edge types must .* \[0, 2\)"),
        ({"edge_type": [0, 2**15, 2, 0, 0]}, "edge_type is 32768 at row 1"),
        (
            {"num_nodes": 3, "node_features": np.ones((2, 4, 1))},
            r"shape \[2, 4, 1\], expected \[3, F",
        ),
        ({"target": np.ones((3, 3)), "num_steps": 2}, "target has 3 rows, and there are 2 steps"),
        ({"target": [[1, 2, np.inf], [1, 2, 3]]}, "target has a value that is not finite in row 0"),
        ({"target_mean": 1.0}, "target_mean was given without a target"),
        ({"step_time": [5, 4]}, "step_time falls from 5 to 4 at step 1"),
        ({"graph_of": [0, 0]}, r"step is 1 at row 0"),
        ({"step": [], "src": [], "dst": []}, "number of nodes is unknown"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        make(**changes)
