import numpy as np
import pytest
import torch

from tgscale.data.generate import generate_chunks, generate_stream
from tgscale.errors import ConfigError
from tgscale.graph.history import History


@pytest.fixture(scope="module")
def stream():
    return generate_stream()


def gini(counts: np.ndarray) -> float:
    ordered = np.sort(counts)
    place = np.arange(1, len(ordered) + 1)
    return float(2 * (place * ordered).sum() / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


def mrr49(score: torch.Tensor) -> float:
    """Mean reciprocal rank of column 0 among all, ties half."""
    better = (score[:, 1:] > score[:, :1]).sum(1)
    ties = (score[:, 1:] == score[:, :1]).sum(1)
    return float((1 / (1 + better + ties / 2)).mean())


def test_is_a_valid_bipartite_stream(stream):
    assert (stream.num_events, stream.num_nodes, stream.num_sources, stream.edge_dim) == (100_000, 5_000, 4_000, 16)
    assert (np.diff(stream.time) >= 0).all()
    assert stream.time[0] >= 0
    assert stream.src.min() >= 0
    assert stream.src.max() < 4_000 <= stream.dst.min()
    assert stream.dst.max() < 5_000
    assert np.isfinite(stream.edge_features).all()
    assert stream.edge_features.dtype == np.float32
    assert stream.time.dtype == np.int64


def test_equal_seeds_give_equal_streams_and_others_do_not(stream):
    again, other = generate_stream(), generate_stream(seed=1)
    for name in ("src", "dst", "time", "edge_features", "label"):
        np.testing.assert_array_equal(getattr(again, name), getattr(stream, name))
    assert (other.dst != stream.dst).mean() > 0.5


def test_chunks_do_not_depend_on_their_size(stream):
    chunks = list(generate_chunks(chunk=30_001))
    assert [len(chunk.src) for chunk in chunks] == [30_001, 30_001, 30_001, 9_997]
    for name in ("src", "dst", "time", "edge_features", "label"):
        np.testing.assert_array_equal(np.concatenate([getattr(c, name) for c in chunks]), getattr(stream, name))


def test_pairs_recur_but_edgebank_is_not_enough(stream):
    split = stream.split()
    first, last = split.range("test")
    rng = np.random.default_rng(0)
    rows = last - first
    negatives = rng.choice(stream.destinations, (rows, 49))
    dst = torch.from_numpy(np.concatenate([stream.dst[first:last, None], negatives], axis=1)).long()
    src = torch.from_numpy(stream.src[first:last].repeat(50)).long()
    before = torch.arange(first, last).repeat_interleave(50)
    count, latest = (x.view(rows, 50) for x in History(stream).pair(src, dst.flatten(), None, before=before))
    popular = History(stream).node(dst.flatten(), None, before=before)[0].view(rows, 50)
    assert 0.5 < mrr49(count > 0) < 0.75  # EdgeBank with unlimited memory
    assert mrr49(latest) > mrr49(count > 0) + 0.05  # recency says more than occurrence
    recency_then_popularity = torch.where(latest >= 0, latest + stream.num_events, popular)
    assert mrr49(recency_then_popularity) > mrr49(latest) + 0.02  # and there is something beyond recency


def test_users_keep_to_a_community_and_drift(stream):
    """Partners of a user resemble each other, the more so the closer they are in time."""
    item_vector = np.zeros((stream.num_nodes, 16))
    np.add.at(item_vector, stream.dst, stream.edge_features)
    item_vector /= np.maximum(np.bincount(stream.dst, minlength=stream.num_nodes), 1)[:, None]
    item_vector /= np.maximum(np.linalg.norm(item_vector, axis=1), 1e-9)[:, None]
    order = np.argsort(stream.src, kind="stable")
    user, vector, item = stream.src[order], item_vector[stream.dst[order]], stream.dst[order]

    def likeness(lag: int) -> float:
        same_user = (user[lag:] == user[:-lag]) & (item[lag:] != item[:-lag])
        return float((vector[lag:] * vector[:-lag]).sum(axis=1)[same_user].mean())

    strangers = float((vector[:50_000] * vector[50_000:]).sum(axis=1).mean())
    assert likeness(1) > likeness(80) + 0.1 > strangers + 0.1


def test_bursts_and_skew(stream):
    order = np.argsort(stream.src, kind="stable")
    gap = np.diff(stream.time[order])[np.diff(stream.src[order]) == 0]
    assert gap.std() > 1.5 * gap.mean()  # a Poisson process has 1
    hour = np.bincount(stream.time % 86_400 // 3_600, minlength=24)
    assert hour.max() > 3 * hour.min()
    assert gini(np.bincount(stream.src, minlength=4_000)) > 0.3
    assert gini(np.bincount(stream.dst - 4_000, minlength=1_000)) > 0.4


def test_labels_are_rare_and_shift_the_features(stream):
    label = stream.label.astype(bool)
    assert 0.005 < label.mean() < 0.03
    # Soon after a label the same user is likely to get another one.
    order = np.argsort(stream.src, kind="stable")
    same_user = np.diff(stream.src[order]) == 0
    follows = label[order][:-1] & same_user
    assert label[order][1:][follows].mean() > 5 * label.mean()
    shift = stream.edge_features[label].mean(axis=0) - stream.edge_features[~label].mean(axis=0)
    assert np.linalg.norm(shift) > 2


def test_options():
    plain = generate_stream(events=2_000, nodes=100, edge_features=0, bipartite=False)
    assert plain.edge_features is None
    assert plain.num_sources is None
    assert (plain.src != plain.dst).all()
    assert len(np.intersect1d(plain.src, plain.dst)) > 50
    assert generate_stream(events=1, nodes=10, communities=2).num_events == 1
    never = generate_stream(events=5_000, nodes=1_000, repeat=0.0)
    always = generate_stream(events=5_000, nodes=1_000, repeat=1.0, drift=0.0)
    assert len(np.unique(always.src * 10_000 + always.dst)) < 0.5 * len(np.unique(never.src * 10_000 + never.dst))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": 0}, "events is 0: give at least 1"),
        ({"nodes": 5}, "nodes is 5"),
        ({"edge_features": -1}, "edge_features is -1"),
        ({"communities": 2_000}, r"communities is 2000: give 1 to a fifth of the nodes \(1000\)"),
        ({"communities": 0}, "communities is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"repeat": 1.5}, "repeat is 1.5"),
        ({"drift": -0.1}, "drift is -0.1"),
        ({"mean_gap": 0.0}, "mean_gap is 0.0"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        generate_stream(**options)


def test_refuses_bad_chunk_before_the_first_is_asked_for():
    with pytest.raises(ConfigError, match="chunk is 0"):
        generate_chunks(chunk=0)
