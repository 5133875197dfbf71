import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.graph.adjacency import Adjacency
from tgscale.graph.distinct import compact, distinct_rows, state_classes


def partition(keys):
    """Numbers in order of appearance for any hashable keys."""
    known = {}
    return np.array([known.setdefault(key, len(known)) for key in keys])


def adjacency(rng, N, G, edges):
    offsets = np.arange(G + 1) * edges
    src, dst = rng.integers(0, N, (2, G * edges))
    return Adjacency.from_edges(offsets, src, dst, rng.integers(1, 3, G * edges).astype(np.float64), N, N)


def histories(inputs, matrices, graphs):
    """What each node's state depends on, spelled out as nested tuples, ``[w][N]``."""
    w, N = inputs.shape
    states = [()] * N
    steps = []
    for t in range(w):
        gathered = [()] * N
        if t:
            for adj in matrices:
                offsets, indptr, neighbor, weight = adj.arrays
                row = lambda i, o=offsets[graphs[t]], p=indptr[graphs[t]]: slice(o + p[i], o + p[i + 1])  # noqa: E731
                lists = [tuple((states[j], v) for j, v in zip(neighbor[row(i)], weight[row(i)], strict=True))
                         for i in range(N)]  # fmt: skip
                gathered = [(*g, lists[i]) for i, g in enumerate(gathered)]
        states = [(states[i], int(inputs[t, i]), gathered[i]) for i in range(N)]
        steps.append(states)
    return steps


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 3), st.sampled_from([np.float32, np.float64]))
def test_rows_are_numbered_as_a_dictionary_does(seed, rows, columns, dtype):
    rng = np.random.default_rng(seed)
    tables = [rng.integers(0, 2, (rows, columns)).astype(dtype) for _ in range(2)]
    found = distinct_rows(tables)
    np.testing.assert_array_equal(found, partition([tuple(np.hstack(tables)[i]) for i in range(rows)]))


def test_numbers_are_told_apart_bit_by_bit():
    assert distinct_rows([np.array([[0.0], [-0.0], [0.0], [np.nan], [np.nan]])]).tolist() == [0, 1, 0, 2, 2]


def test_gaps_are_closed():
    new, first = compact(np.array([[7, 3], [3, 9]], np.int32))
    assert new.tolist() == [[0, 1], [1, 2]]
    assert first.tolist() == [0, 1, 3]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 25), st.integers(1, 4), st.integers(0, 2), st.integers(0, 8))
def test_classes_are_those_of_histories(seed, N, w, B, edges):
    rng = np.random.default_rng(seed)
    matrices = [adjacency(rng, N, 3, edges) for _ in range(B)]
    inputs, graphs = rng.integers(0, 2, (w, N)).astype(np.int32), rng.integers(0, 3, w)
    classes = state_classes(inputs, matrices, graphs)
    for t, keys in enumerate(histories(inputs, matrices, graphs)):
        np.testing.assert_array_equal(partition(classes.index[t]), partition(keys))
        rows = slice(classes.offsets[t], classes.offsets[t + 1])
        assert sorted(set(classes.index[t])) == list(range(rows.start, rows.stop))
        np.testing.assert_array_equal(classes.inputs[classes.index[t]], inputs[t])
        if t:
            np.testing.assert_array_equal(classes.parent[classes.index[t]], classes.index[t - 1])
            lists = (
                np.zeros(0)
                if not B
                else np.diff(classes.entries.start)[rows.start * B : rows.stop * B].reshape(-1, max(B, 1)).sum(1)
            )
            assert (lists[: classes.active[t]] > 0).all()
            assert (lists[classes.active[t] :] == 0).all()
            for i in range(N):  # what its row gathers is what it gathers
                for b, adj in enumerate(matrices):
                    offsets, indptr, neighbor, weight = adj.arrays
                    own = offsets[graphs[t]] + indptr[graphs[t], i], offsets[graphs[t]] + indptr[graphs[t], i + 1]
                    row = slice(*classes.entries.start[[classes.index[t, i] * B + b, classes.index[t, i] * B + b + 1]])
                    np.testing.assert_array_equal(
                        classes.entries.item[row], classes.index[t - 1][neighbor[own[0] : own[1]]]
                    )
                    np.testing.assert_array_equal(classes.weight[row], weight[own[0] : own[1]])
    assert state_classes(inputs, matrices, graphs, most=classes.num_rows - 1) is None
    assert classes.num_bytes > 0


@pytest.mark.parametrize("nodes", [1, 7])
def test_lists_of_members_children_and_gatherers_are_the_inverse(nodes):
    rng = np.random.default_rng(nodes)
    matrices = [adjacency(rng, nodes, 3, 6) for _ in range(2)]
    inputs, graphs = rng.integers(0, 3, (4, nodes)).astype(np.int32), rng.integers(0, 3, 4)
    classes = state_classes(inputs, matrices, graphs)
    step = np.repeat(np.arange(4), np.diff(classes.offsets))
    for r in range(classes.num_rows):
        of = lambda lists, r=r: lists.item[lists.start[r] : lists.start[r + 1]]  # noqa: E731
        np.testing.assert_array_equal(of(classes.members), np.flatnonzero(classes.index.ravel() == r))
        below = classes.offsets[min(step[r] + 1, 3)]
        np.testing.assert_array_equal(of(classes.children) + below, np.flatnonzero(classes.parent == r))
        lists, weight = classes.gathered_by
        held = np.flatnonzero(classes.entries.item == r)
        which = np.searchsorted(classes.entries.start, held, side="right") - 1
        np.testing.assert_array_equal(of(lists) + below * 2, which)
        np.testing.assert_array_equal(weight[lists.start[r] : lists.start[r + 1]], classes.weight[held])
