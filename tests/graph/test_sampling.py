import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph import sampling_numba, search
from tgscale.graph.sampling import Neighbors, NeighborSampler

from .random_streams import make_stream, needs_cuda, random_queries, streams


def line_stream() -> EventStream:
    """Node 0 meets 1, 2, 3, 1 at times 1, 5, 5, 9, and itself at time 7."""
    return EventStream.from_arrays(
        np.array([0, 0, 3, 0, 1]), np.array([1, 2, 0, 0, 0]), np.array([1, 5, 5, 7, 9]), num_nodes=5
    )


def assert_same(one: list[Neighbors], other: list[Neighbors]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.node, b.node)
        assert torch.equal(a.event, b.event)
        assert torch.equal(a.time, b.time)


@pytest.mark.parametrize("backend", ["numpy", "tensor", "numba"])
def test_recent_by_hand(backend):
    sampler = NeighborSampler(line_stream(), 3, backend=backend)
    (hop,) = sampler.sample(torch.tensor([0, 0, 0, 0, 4]), torch.tensor([5, 6, 10, 1, 10]))
    assert hop.event.tolist() == [[0, -1, -1], [2, 1, 0], [4, 3, 2], [-1, -1, -1], [-1, -1, -1]]
    assert hop.node.tolist() == [[1, 0, 0], [3, 2, 1], [1, 0, 3], [0, 0, 0], [0, 0, 0]]
    assert hop.time.tolist() == [[1, 0, 0], [5, 5, 1], [9, 7, 5], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("backend", ["numpy", "tensor", "numba"])
def test_second_hop_starts_at_the_first_hops_events(backend):
    sampler = NeighborSampler(line_stream(), [2, 1], backend=backend)
    first, second = sampler.sample(torch.tensor([0]), torch.tensor([10]))
    # Neighbors: node 1 at time 9, which met 0 at time 1; node 0 itself at time 7, which met 3 at time 5.
    assert first.node.tolist() == [[1, 0]]
    assert second.event.tolist() == [[0], [2]]
    assert second.node.tolist() == [[0], [3]]


@pytest.mark.parametrize("backend", ["numpy", "tensor", "numba"])
def test_window_by_hand(backend):
    sampler = NeighborSampler(line_stream(), 3, window=4, backend=backend)
    (hop,) = sampler.sample(torch.tensor([0, 0, 0]), torch.tensor([9, 10, 14]))
    assert hop.event.tolist() == [[3, 2, 1], [4, 3, -1], [-1, -1, -1]]


@settings(max_examples=150, deadline=None)
@given(
    stream=streams(),
    hops=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    strategy=st.sampled_from(["recent", "uniform"]),
    window=st.sampled_from([None, 1, 7, 2**62]),
    seed=st.integers(-(2**63), 2**64),
    roots=st.integers(0, 12),
)
def test_backends_equal_the_reference(stream, hops, strategy, window, seed, roots):
    node, time = random_queries(stream, roots, seed % 1000)
    made = {
        backend: NeighborSampler(stream, hops, strategy=strategy, window=window, seed=seed, backend=backend)
        for backend in ("numpy", "tensor", "numba")
    }
    expected = made["numpy"].sample(node, time)
    size = roots
    for k, hop in zip(hops, expected, strict=True):
        assert hop.node.shape == hop.event.shape == hop.time.shape == (size, k)
        size *= k
    for backend in ("tensor", "numba"):
        assert_same(made[backend].sample(node, time), expected)
        # Once more: the Numba path starts its search where the last one ended, which must not show.
        assert_same(made[backend].sample(node, time, before=made[backend].bound(time)), expected)


@settings(max_examples=50, deadline=None)
@given(stream=streams(), strategy=st.sampled_from(["recent", "uniform"]), seed=st.integers(0, 1000))
def test_what_is_sampled_is_past(stream, strategy, seed):
    node, time = random_queries(stream, 10, seed)
    hops = NeighborSampler(stream, [3, 2], strategy=strategy, seed=seed).sample(node, time)
    for hop in hops:
        real = hop.event >= 0
        assert torch.equal(real, real.sort(dim=1, descending=True, stable=True).values)  # padding ends the row
        assert (hop.node[~real] == 0).all()
        assert (hop.time[~real] == 0).all()
        assert (hop.time < time[:, None])[real].all()
        ends = np.stack([stream.src, stream.dst])[:, hop.event]
        one_way = (ends[0] == node[:, None].numpy()) & (ends[1] == hop.node.numpy())
        other_way = (ends[1] == node[:, None].numpy()) & (ends[0] == hop.node.numpy())
        assert (one_way | other_way)[real.numpy()].all()
        later, earlier = hop.event[:, :-1], hop.event[:, 1:]
        assert (later > earlier)[real[:, 1:]].all()  # by event id, none twice
        node, time = hop.node.flatten(), hop.time.flatten()


@settings(max_examples=50, deadline=None)
@given(stream=streams(), cut=st.integers(0, 60), strategy=st.sampled_from(["recent", "uniform"]))
def test_future_does_not_leak(stream, cut, strategy):
    """Altering every event at or after a time changes nothing that is sampled up to it."""
    time_of_cut = int(stream.time[cut % stream.num_events])
    past = stream.time < time_of_cut
    altered = EventStream.from_arrays(
        np.where(past, stream.src, 0),
        np.where(past, stream.dst, stream.num_nodes - 1),
        np.where(past, stream.time, stream.time + 5),
        num_nodes=stream.num_nodes,
    )
    node, time = random_queries(stream, 20, cut)
    time = time.clamp(max=time_of_cut)
    for backend in ("tensor", "numba"):
        first, second = (NeighborSampler(s, [3, 3], strategy=strategy, backend=backend) for s in (stream, altered))
        assert_same(first.sample(node, time), second.sample(node, time))


def test_uniform_does_not_depend_on_the_batch():
    stream = make_stream(nodes=5, events=400, latest=100)
    sampler = NeighborSampler(stream, 4, strategy="uniform", seed=3)
    node, time = random_queries(stream, 50, seed=1)
    (together,) = sampler.sample(node, time)
    for i in torch.randperm(50).tolist():
        (alone,) = sampler.sample(node[i : i + 1], time[i : i + 1])
        assert torch.equal(alone.event[0], together.event[i])


def test_uniform_changes_with_the_seed():
    stream = make_stream(nodes=5, events=400, latest=100)
    for backend in ("numpy", "tensor", "numba"):
        sampler = NeighborSampler(stream, 4, strategy="uniform", seed=3, backend=backend)
        node, time = torch.arange(5), torch.full((5,), 101)
        before = sampler.sample(node, time)
        sampler.seed = 4
        assert not torch.equal(sampler.sample(node, time)[0].event, before[0].event)
        sampler.seed = 3
        assert_same(sampler.sample(node, time), before)


def test_uniform_takes_every_set_equally_often():
    """Chi-square over all 2-sets of 6 past events, at a fixed seed: 14 degrees of freedom, p = 0.001 at 36.1."""
    stream = EventStream.from_arrays(np.zeros(6, int), np.ones(6, int), np.arange(6))
    sampler = NeighborSampler(stream, 2, strategy="uniform", seed=11)
    rounds = 30_000
    (hop,) = sampler.sample(torch.zeros(rounds, dtype=torch.int64), torch.arange(10, 10 + rounds))
    _, seen = torch.unique(hop.event, dim=0, return_counts=True)
    assert len(seen) == 15
    expected = rounds / 15
    assert ((seen - expected) ** 2 / expected).sum() < 36.1


@pytest.mark.parametrize("strategy", ["recent", "uniform"])
def test_split_among_threads(monkeypatch, strategy):
    stream = make_stream(nodes=20, events=3000, latest=500)
    node, time = random_queries(stream, 301, seed=2)
    sampler = NeighborSampler(stream, [3, 2], strategy=strategy, window=300)
    expected = sampler.sample(node, time)
    for module in (sampling_numba, search):
        monkeypatch.setattr(module, "thread_count", lambda items: 3)
    assert_same(sampler.sample(node, time), expected)


def test_works_on_read_only_columns():
    stream = make_stream(nodes=5, events=50, latest=20)
    for column in (stream.src, stream.dst, stream.time, stream.tcsr.neighbor, stream.tcsr.event_id, stream.tcsr.indptr):
        column.flags.writeable = False
    node, time = random_queries(stream, 20, seed=0)
    expected = NeighborSampler(stream, 3, backend="numpy").sample(node, time)
    assert_same(NeighborSampler(stream, 3, backend="numba").sample(node, time), expected)
    assert_same(NeighborSampler(stream, 3, backend="tensor").sample(node, time), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_neighbors": 0}, "num_neighbors is 0"),
        ({"num_neighbors": []}, "num_neighbors is"),
        ({"num_neighbors": [3, -1]}, "num_neighbors is"),
        ({"num_neighbors": True}, "num_neighbors is"),
        ({"num_neighbors": 2.5}, "num_neighbors is"),
        ({"strategy": "unifrom"}, "Did you mean 'uniform'"),
        ({"backend": "nunba"}, "Did you mean 'numba'"),
        ({"window": 0}, "window is 0"),
        ({"window": -5}, "window is -5"),
        ({"device": "meta", "backend": "numba"}, "runs on the CPU only"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        NeighborSampler(line_stream(), **options)


@pytest.mark.parametrize("backend", ["numpy", "tensor", "numba"])
@pytest.mark.parametrize(
    ("node", "time", "message"),
    [
        (torch.tensor([5]), torch.tensor([1]), r"node runs from 5 to 5: .* \[0, 5\)"),
        (torch.tensor([0, -1]), torch.tensor([1, 1]), "node runs from -1 to 0"),
        (torch.tensor([0, 1]), torch.tensor([1]), "time has shape"),
        (torch.tensor([[0]]), torch.tensor([[1]]), "node has shape"),
        (torch.tensor([0]), torch.tensor([1.5]), "time is torch.float32"),
        (torch.tensor([0], device="meta"), torch.tensor([1]), "node is on meta"),
    ],
)
def test_refuses_bad_roots(backend, node, time, message):
    with pytest.raises(ConfigError, match=message):
        NeighborSampler(line_stream(), backend=backend).sample(node, time)


def test_refuses_what_a_key_cannot_hold():
    huge = EventStream.from_arrays(np.zeros(3, int), np.ones(3, int), np.arange(3), num_nodes=2)
    object.__setattr__(huge, "num_nodes", 2**62)
    with pytest.raises(ConfigError, match="do not fit a 64-bit key"):
        NeighborSampler(huge, backend="tensor")


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("strategy", ["recent", "uniform"])
def test_cuda_equals_the_reference(strategy):
    stream = make_stream(nodes=20, events=3000, latest=500)
    node, time = random_queries(stream, 100, seed=2)
    expected = NeighborSampler(stream, [5, 3], strategy=strategy, window=300, backend="numpy").sample(node, time)
    sampler = NeighborSampler(stream, [5, 3], strategy=strategy, window=300, device="cuda")
    node, time = node.cuda(), time.cuda()
    torch.cuda.set_sync_debug_mode("error")  # sampling must never wait for the device
    try:
        hops = sampler.sample(node, time)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same([Neighbors(h.node.cpu(), h.event.cpu(), h.time.cpu()) for h in hops], expected)


@pytest.mark.parametrize("strategy", ["recent", "uniform"])
@pytest.mark.parametrize("window", [None, 86_400])
def test_backends_agree_on_real_data(shared_data, strategy, window):
    table = pq.read_table(shared_data("wikipedia/events.parquet"))
    src, dst, time = (table[name].to_numpy().astype(np.int64) for name in ("src", "dst", "t"))
    stream = EventStream.from_arrays(src, dst, time)
    roots = random_queries(stream, 500, seed=0)
    options = {"strategy": strategy, "window": window}
    expected = NeighborSampler(stream, [10, 3], backend="numpy", **options).sample(*roots)
    for backend in ("tensor", "numba"):
        assert_same(NeighborSampler(stream, [10, 3], backend=backend, **options).sample(*roots), expected)


def test_arrays_are_no_tensors():
    stream = EventStream.from_arrays([0, 1], [1, 0], [0, 1])
    sampler = NeighborSampler(stream, 1)
    with pytest.raises(ConfigError, match=r"node is a ndarray: give a tensor, such as torch.tensor\(node\)"):
        sampler.sample(stream.src, stream.time)
    with pytest.raises(ConfigError, match=r"time is a ndarray"):
        sampler.sample(torch.tensor(stream.src), stream.time)
