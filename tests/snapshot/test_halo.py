import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgscale.data.snapshots import SnapshotSequence
from tgscale.snapshot import halo
from tgscale.snapshot.halo import expected_halo, split_vertices
from tgscale.snapshot.partition.blocks import contiguous_blocks, node_cost


def counted_by_hand(sequence, devices):
    """Shares of the edges, remote neighbors, and those of the device with most, one edge at a time."""
    bounds = contiguous_blocks(node_cost(sequence), devices)
    place = {node: p for p in range(devices) for node in range(bounds[p], bounds[p + 1])}
    for t in range(sequence.num_steps):
        edges, wanted = [0] * devices, [set() for _ in range(devices)]
        for src, dst in zip(*map(np.ndarray.tolist, sequence.edges(t)), strict=True):
            edges[place[dst]] += 1
            if place[src] != place[dst]:
                wanted[place[dst]].add(src)
        remote = [len(nodes) for nodes in wanted]
        yield [count / max(1, sum(edges)) for count in edges], sum(remote), max(remote)


@given(st.data())
def test_counts_what_is_remote(data):
    nodes = data.draw(st.integers(1, 12))
    edge = st.tuples(st.integers(0, 3), st.integers(0, nodes - 1), st.integers(0, nodes - 1))
    edges = np.array(data.draw(st.lists(edge, max_size=40)), np.int64).reshape(-1, 3)
    sequence = SnapshotSequence.from_arrays(*edges.T, num_nodes=nodes, num_steps=4)
    devices = data.draw(st.integers(1, 15))  # also more devices than nodes
    split = split_vertices(sequence, devices)
    found = zip(split.edges.tolist(), split.halo, split.halo_most, strict=True)
    assert list(found) == list(counted_by_hand(sequence, devices))
    assert split.nodes.sum() == pytest.approx(1)
    assert split.nodes * nodes == pytest.approx(np.diff(contiguous_blocks(node_cost(sequence), devices)))


def test_a_ring_by_hand():
    sequence = SnapshotSequence.from_arrays([0] * 6, np.arange(6), (np.arange(6) + 1) % 6)
    split = split_vertices(sequence, 3)  # {0, 1}, {2, 3}, {4, 5}: each wants the last node of the one before
    assert (split.edges.tolist(), split.nodes.tolist()) == ([[1 / 3] * 3], [1 / 3] * 3)
    assert (split.halo[0], split.halo_most[0]) == (3, 1)
    assert split_vertices(sequence, 3, halo=False).halo.tolist() == [0]


def test_the_slowest_device_has_edges_and_nodes(monkeypatch):
    sequence = SnapshotSequence.from_arrays([0, 0, 0, 1], [1, 2, 3, 0], [0, 0, 0, 3], num_nodes=4)
    split = split_vertices(sequence, 2)
    edges, dense, shown = np.array([4.0, 4.0, 0.0]), np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0])
    by_hand = [max(4 * e + n for e, n in zip(split.edges[0], split.nodes, strict=True))]
    by_hand += [max(4 * e + 2 * n for e, n in zip(split.edges[1], split.nodes, strict=True))]
    by_hand += [4 * max(split.nodes)]
    assert split.slowest(edges, dense, shown).tolist() == by_hand
    monkeypatch.setattr(halo, "CHUNK", 1)
    assert split.slowest(edges, dense, shown).tolist() == by_hand


@pytest.mark.parametrize("devices", [2, 5, 16])
def test_the_expected_halo_is_the_mean_over_random_splits(devices):
    rng = np.random.default_rng(0)
    nodes, trials = 60, 300
    src, dst = rng.integers(0, nodes, (2, 200))
    src, dst = np.unique(np.stack([src, dst]), axis=1)
    counts = []
    for _ in range(trials):
        place = rng.integers(0, devices, nodes)
        remote = place[src] != place[dst]
        counts.append(len(set(zip(place[dst[remote]], src[remote], strict=True))))
    expected = expected_halo(np.bincount(src[src != dst], minlength=nodes), devices)
    assert np.mean(counts) == pytest.approx(expected, abs=4 * np.std(counts) / np.sqrt(trials))


def test_large_sequences_are_expected(monkeypatch):
    rng = np.random.default_rng(0)
    step, src, dst = rng.integers(0, 3, 900), *rng.integers(0, 80, (2, 900))
    sequence = SnapshotSequence.from_arrays(step, src, dst, num_nodes=80)
    counted = split_vertices(sequence, 4)
    assert halo.is_counted(sequence)
    monkeypatch.setattr(halo, "MOST_COUNTED", sequence.num_edges - 1)
    assert not halo.is_counted(sequence)
    expected = split_vertices(sequence, 4)
    assert (expected.halo != counted.halo).any()
    assert expected.halo == pytest.approx(counted.halo, rel=0.1)  # ids say nothing here, so any split is a random one
    assert expected.halo_most == pytest.approx(expected.halo / 4)
    assert expected_halo(np.array([5, 1]), 1) == 0
