"""The generated sequence: sizes, change, degrees, seed, and a target that the graph and the past explain."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.snapshot_generate import NOISE, generate_snapshots
from tgscale.errors import ConfigError


def edge_set(sequence, t):
    src, dst = (part.astype(np.int64) for part in sequence.edges(t))
    return set((dst * sequence.num_nodes + src).tolist())


@pytest.mark.parametrize("skew", [0, 0.5, 2, 6])
def test_the_largest_has_one_plus_skew_times_the_mean(skew):
    sizes = generate_snapshots(3_000, 40, 10_000, skew=skew, features=0).edge_counts()
    assert sizes.mean() == pytest.approx(10_000, rel=1e-3)
    assert sizes.max() / sizes.mean() == pytest.approx(1 + skew, rel=1e-3)
    assert (len(set(sizes.tolist())) == 1) == (skew == 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 5, 40, 200]), st.sampled_from([0, 1, 2.5]))
def test_so_many_edges_go_and_come(seed, change, skew):
    sequence = generate_snapshots(300, 8, 900, change, skew, features=0, seed=seed)
    graphs = [edge_set(sequence, t) for t in range(8)]
    for before, after in itertools.pairwise(graphs):
        exchanged = round(min(len(before), len(after)) * change / 200)
        assert len(before - after) == exchanged + max(0, len(before) - len(after))
        assert len(after - before) == exchanged + max(0, len(after) - len(before))


def test_edges_are_sorted_distinct_and_no_loops():
    sequence = generate_snapshots(200, 5, 1_000, features=0)
    for t in range(5):
        src, dst = (part.astype(np.int64) for part in sequence.edges(t))
        assert (np.diff(dst * 200 + src) > 0).all()
        assert (src != dst).all()
        assert len(src) == sequence.edge_counts()[t]


def test_degrees_follow_a_power_law():
    sequence = generate_snapshots(5_000, 1, 50_000, skew=0, features=0)
    for degree in (np.diff(sequence.indptr[0]), np.bincount(sequence.neighbor, minlength=5_000)):
        share = np.sort(degree)[::-1].cumsum() / degree.sum()
        assert 0.08 < share[49] < 0.12  # rank^-1/2: the first hundredth has a tenth of the ends
        assert share[2_499] == pytest.approx(0.5**0.5, abs=0.06)


def test_sizes_of_neighboring_steps_are_alike():
    sizes = generate_snapshots(2_000, 200, 2_000, features=0, seed=3).edge_counts().astype(float)
    assert np.corrcoef(sizes[:-1], sizes[1:])[0, 1] > 0.5


def test_equal_seeds_make_equal_sequences():
    one, two, other = (generate_snapshots(100, 5, 200, seed=seed) for seed in (1, 1, 2))
    for name in ("neighbor", "indptr", "node_features", "target"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.neighbor, other.neighbor)
    assert not np.array_equal(one.target, other.target)


def test_features_and_target_have_unit_scale():
    sequence = generate_snapshots(2_000, 30, 8_000, features=5)
    assert sequence.node_features.shape == (30, 2_000, 5)
    assert sequence.node_features.std() == pytest.approx(1, abs=0.03)
    assert sequence.target.std() == pytest.approx((1 + NOISE**2) ** 0.5, abs=0.02)
    assert generate_snapshots(100, 3, 100, skew=1, features=0).target is None


def test_the_graph_and_the_past_explain_the_target_and_repeating_it_does_not():
    """Least squares on three sets of inputs: own features, then neighbors', then neighbors' of the step before."""
    sequence = generate_snapshots(1_000, 40, 8_000, skew=1, seed=4)
    x, y = sequence.node_features.astype(np.float64), sequence.target[..., 0].astype(np.float64)

    def around(t, values):
        src, dst = sequence.edges(t)
        total = values.copy()
        np.add.at(total, dst, values[src])
        return total / (1 + np.diff(sequence.indptr[t]))[:, None]

    inputs = [np.hstack([x[t], around(t, x[t]), around(t, around(t - 1, x[t - 1]))]) for t in range(1, 40)]
    train, test = np.concatenate(inputs[:28]), np.concatenate(inputs[28:])

    def error(columns):
        weights = np.linalg.lstsq(train[:, :columns], y[1:29].reshape(-1), rcond=None)[0]
        return np.mean((test[:, :columns] @ weights - y[29:].reshape(-1)) ** 2)

    persistence = np.mean((y[29:] - y[28:-1]) ** 2)
    own, neighbors, past = error(8), error(16), error(24)
    assert own > 2 * neighbors
    assert neighbors > 1.1 * past
    assert past > NOISE**2
    assert persistence > 2 * past


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 1}, "at least 2 nodes"),
        ({"snapshots": 0}, "1 snapshot"),
        ({"change": 201}, "--change 201 is out of range: give a percentage from 0 .* to 200"),
        ({"skew": -1}, "--skew -1 is out of range"),
        ({"skew": 3, "snapshots": 5}, r"with 5 snapshots the largest can be up to 3 times the mean, so give 0 to 2"),
        ({"seed": -1}, "--seed is -1: give 0 or more"),
        ({"nodes": 100, "edges": 2_000}, "needs more than an eighth of all pairs of 100 nodes"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        generate_snapshots(**({"nodes": 100, "snapshots": 20, "edges": 100} | options))
