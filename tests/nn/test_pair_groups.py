"""Groups of pair features: kernel and tensors against lists of events, and nothing of the future."""

import dataclasses
from math import log1p

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.graph.random_streams import make_stream, needs_cuda, random_queries, streams
from tests.nn.pair_reference import REFERENCE, Past
from tgscale.errors import ConfigError
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.nn.pair_encoding import GROUPS, MEETING_DIM, PairEncoder, pair_dim

SPAN = 50
DAY = 86_400


def encode(stream, groups, source, candidate, time, backend="numba", device="cpu"):
    history = History(stream, device, backend)
    event_time = torch.from_numpy(stream.time).to(device)
    source, candidate, time = source.to(device), candidate.to(device), time.to(device)
    before = torch.searchsorted(event_time, time)
    node = torch.cat([source, candidate.flatten()])
    root_before = torch.cat([before, before[:, None].expand_as(candidate).flatten()])
    root_time = torch.cat([time, time[:, None].expand_as(candidate).flatten()])
    (neighbors,) = NeighborSampler(stream, 4, device=device).sample(node, root_time, before=root_before)
    row = torch.arange(len(node), device=device)
    roots = row[: len(source)], row[len(source) :].view_as(candidate)
    return PairEncoder(history, event_time, SPAN, groups)(source, candidate, time, before, neighbors, *roots)


def queries(stream, size, candidates, seed):
    source, time = random_queries(stream, size, seed)
    rng = np.random.default_rng(seed)
    return source, torch.from_numpy(rng.integers(0, stream.num_nodes, (size, candidates))), time


@pytest.mark.parametrize("group", GROUPS)
def test_names_are_told_apart(group):
    assert len(set(GROUPS[group].names)) == len(GROUPS[group].names)
    assert pair_dim([group]) == MEETING_DIM + len(GROUPS[group].names)


@pytest.mark.parametrize("group", GROUPS)
@settings(max_examples=25, deadline=None)
@given(stream=streams(max_events=150), seed=st.integers(0, 10_000))
def test_equals_the_reference(group, stream, seed):
    source, candidate, time = queries(stream, 4, 3, seed)
    scale = 1 / log1p(SPAN)
    expected = [
        [REFERENCE[group](Past(stream, t, scale, DAY), u, v) for v in row]
        for u, row, t in zip(source.tolist(), candidate.tolist(), time.tolist(), strict=True)
    ]
    for backend in ("numba", "tensor"):
        out = encode(stream, [group], source, candidate, time, backend)[..., MEETING_DIM:]
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float32), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "tensor"])
def test_long_pasts_agree(backend):
    # Few nodes and many events: every window is full.
    stream = make_stream(nodes=6, events=900, latest=4000)
    source, candidate, time = queries(stream, 6, 4, seed=3)
    for group in GROUPS:
        past = [Past(stream, t, 1 / log1p(SPAN), DAY) for t in time.tolist()]
        rows = zip(past, source.tolist(), candidate.tolist(), strict=True)
        expected = torch.tensor([[REFERENCE[group](p, u, v) for v in row] for p, u, row in rows], dtype=torch.float32)
        out = encode(stream, [group], source, candidate, time, backend)[..., MEETING_DIM:]
        torch.testing.assert_close(out, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "tensor"])
@settings(max_examples=25, deadline=None)
@given(stream=streams(), seed=st.integers(0, 10_000))
def test_nothing_of_the_future(backend, stream, seed):
    source, candidate, time = queries(stream, 5, 3, seed)
    time = torch.full_like(time, int(time.median()))
    rng = np.random.default_rng(seed)
    later = stream.time >= int(time[0])
    src, dst = (np.where(later, rng.integers(0, stream.num_nodes, len(x)), x) for x in (stream.src, stream.dst))
    other = type(stream).from_arrays(src, dst, stream.time, num_nodes=stream.num_nodes)
    one, two = (encode(s, list(GROUPS), source, candidate, time, backend) for s in (stream, other))
    assert torch.equal(one, two)


def test_without_groups_the_meetings_alone_and_before_all_others():
    stream = make_stream(nodes=20, events=500, latest=300)
    query = queries(stream, 30, 5, seed=1)
    alone = encode(stream, [], *query)
    assert alone.shape[-1] == MEETING_DIM
    assert torch.equal(encode(stream, list(GROUPS), *query)[..., :MEETING_DIM], alone)


def test_a_group_does_not_depend_on_the_others():
    stream = make_stream(nodes=20, events=500, latest=300)
    query = queries(stream, 30, 5, seed=1)
    together = encode(stream, list(GROUPS), *query)[..., MEETING_DIM:]
    apart = [encode(stream, [group], *query)[..., MEETING_DIM:] for group in GROUPS]
    assert torch.equal(together, torch.cat(apart, dim=-1))


def test_phase_needs_a_unit_of_time():
    stream = dataclasses.replace(make_stream(nodes=5, events=50, latest=30), time_unit="step")
    for backend in ("numba", "tensor"):
        assert not encode(stream, ["phase"], *queries(stream, 5, 3, seed=1), backend)[..., MEETING_DIM:].any()


def test_refuses_unknown_and_repeated_groups():
    with pytest.raises(ConfigError, match="'rate' is unknown: choose of rates"):
        pair_dim(["rate"])
    with pytest.raises(ConfigError, match="stands twice"):
        pair_dim(["rates", "rates"])


@pytest.mark.cuda
@needs_cuda
def test_cuda_equals_cpu_and_waits_for_nothing():
    stream = make_stream(nodes=40, events=3000, latest=900)
    query = queries(stream, 50, 7, seed=1)
    expected = encode(stream, list(GROUPS), *query)
    torch.testing.assert_close(
        encode(stream, list(GROUPS), *query, "tensor", "cuda").cpu(), expected, atol=1e-7, rtol=1e-6
    )
