import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError
from tgscale.graph.difference import apply_difference, difference, step_edges, transfer_plan


def drifting(seed=0, num_nodes=6, num_steps=4, change=0.2, weighted=True, relations=1):
    """Snapshots of which each keeps most of the one before; some weights change too."""
    rng = np.random.default_rng(seed)
    there = rng.random((relations, num_nodes, num_nodes)) < 0.4
    weight = rng.integers(1, 4, there.shape)
    rows = []
    for t in range(num_steps):
        there ^= rng.random(there.shape) < change
        weight = np.where(rng.random(there.shape) < change / 2, rng.integers(1, 4, there.shape), weight)
        kind, dst, src = np.nonzero(there)
        rows.append(np.stack([np.full(len(src), t), src, dst, weight[there], kind]))
    step, src, dst, w, kind = np.concatenate(rows, axis=1)
    return SnapshotSequence.from_arrays(
        step,
        src,
        dst,
        num_nodes=num_nodes,
        num_steps=num_steps,
        edge_weight=w if weighted else None,
        edge_type=kind if relations > 1 else None,
        num_relations=relations if relations > 1 else None,
        parallel=relations > 1,
    )


def same(a, b):
    for name in ("src", "dst", "weight", "type"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None and y is None) or (x.dtype == y.dtype and torch.equal(x, y)), name


def rows(edges):
    columns = [x.tolist() for x in (edges.src, edges.dst, edges.weight, edges.type) if x is not None]
    return set(zip(*columns, strict=True))


@settings(max_examples=80, deadline=None)
@given(
    seq=st.builds(
        drifting,
        seed=st.integers(0, 2**31),
        num_nodes=st.integers(1, 8),
        num_steps=st.integers(1, 5),
        change=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        weighted=st.booleans(),
        relations=st.sampled_from([1, 3]),
    ),
    ends=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_the_difference_applied_is_the_graph_itself(seq, ends):
    t0, t1 = (end % seq.num_steps for end in ends)
    old, new, change = step_edges(seq, t0), step_edges(seq, t1), difference(seq, t0, t1)
    same(apply_difference(old, change), new)
    # Nothing is sent that both have.
    assert rows(change.added) == rows(new) - rows(old)
    assert len(change.deleted) == len(rows(old) - rows(new))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), weighted=st.booleans(), relations=st.sampled_from([1, 2]))
def test_the_plan_counts_the_bytes_that_differences_have(seed, weighted, relations):
    seq = drifting(seed, num_nodes=9, num_steps=5, weighted=weighted, relations=relations)
    plan = transfer_plan(seq, range(5))
    for t in range(1, 5):
        assert plan.difference[t] == difference(seq, t - 1, t).num_bytes
    for t in range(5):
        edges = step_edges(seq, t)
        row_starts = seq.indptr[t].nbytes
        assert plan.full[t] == edges.num_bytes - edges.dst.nbytes + min(edges.dst.nbytes, row_starts)
    assert plan.difference[0] == plan.full[0]
    assert plan.sent.sum() <= min(plan.full.sum(), plan.difference.sum())
    assert (plan.sent == np.where(plan.by_difference, plan.difference, plan.full)).all()


def test_a_worked_example():
    """0 -> 1 stays, 1 -> 2 goes, 2 -> 0 comes, 0 -> 2 changes its weight."""
    seq = SnapshotSequence.from_arrays(
        [0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 2, 0], [1, 2, 2, 1, 0, 2], edge_weight=[1.0, 1, 5, 1, 1, 6]
    )
    change = difference(seq, 0, 1)
    assert rows(change.added) == {(2, 0, 1.0), (0, 2, 6.0)}
    assert change.deleted.tolist() == [1, 2]  # by destination then source: 0->1, 0->2, 1->2
    assert change.num_bytes == 2 * 12 + 2 * 4
    plan = transfer_plan(seq, [0, 1])
    assert plan.full.tolist() == [3 * 12, 3 * 12]
    assert plan.difference.tolist() == [36, 32]


def test_a_static_topology_is_sent_once():
    seq = SnapshotSequence.from_arrays([0, 0], [0, 1], [1, 0], graph_of=np.zeros(4, int))
    assert transfer_plan(seq, range(4)).sent.tolist() == [16, 0, 0, 0]
    assert len(difference(seq, 0, 3).deleted) == 0


def test_slowly_changing_graphs_are_cheaper_by_difference_and_others_are_not():
    slow, fast = drifting(1, 30, 6, change=0.02), drifting(1, 30, 6, change=0.5)
    assert transfer_plan(slow, range(6)).by_difference[1:].all()
    assert not transfer_plan(fast, range(6)).by_difference.any()


def test_types_of_a_pair_in_any_order():
    seq = drifting(3, relations=3)
    swapped = seq.edge_type.copy()
    same_pair = np.flatnonzero((np.diff(seq.neighbor) == 0) & (np.diff(seq.edge_type) != 0))
    first = same_pair[0]
    swapped[[first, first + 1]] = swapped[[first + 1, first]]
    weight = seq.edge_weight.copy()
    weight[[first, first + 1]] = weight[[first + 1, first]]
    columns = {"edge_type": swapped, "edge_weight": weight, "num_relations": 3}
    other = SnapshotSequence(seq.offsets, seq.indptr, seq.neighbor, seq.graph_of, seq.num_nodes, **columns)
    for t in range(seq.num_steps):
        same(step_edges(seq, t), step_edges(other, t))


def test_what_does_not_fit_is_refused():
    seq = drifting()
    with pytest.raises(ConfigError, match="step 4 was asked for, expected 0 to 3"):
        difference(seq, 0, 4)
    graph = step_edges(seq, 0)
    smaller = graph._map(lambda x: x[1:])
    with pytest.raises(ConfigError, match=f"from a graph of {len(graph)} edges, this one has {len(graph) - 1}"):
        apply_difference(smaller, difference(seq, 0, 1))
    with pytest.raises(ConfigError, match="64-bit key"):
        step_edges(SnapshotSequence(seq.offsets, seq.indptr, seq.neighbor, seq.graph_of, 2**32), 0)
    twice = SnapshotSequence(np.array([0, 2]), np.array([[0, 2]], np.int32), np.zeros(2, np.int32), np.array([0]), 1)
    with pytest.raises(DataError, match="two edges of one type from node 0 to node 0"):
        step_edges(twice, 0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_equals_cpu():
    seq = drifting(5, 20, relations=2)
    moved = apply_difference(step_edges(seq, 0).to("cuda"), difference(seq, 0, 1).to("cuda"))
    same(moved.to("cpu"), step_edges(seq, 1))
