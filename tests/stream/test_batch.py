import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.graph.history import History
from tgscale.graph.sampling import NeighborSampler
from tgscale.memory.local import LocalMemory, rows_after_events
from tgscale.models.tgn import TGN, TGNConfig
from tgscale.stream.batch import Batch, BatchBuilder, mail_tables, slice_rows
from tgscale.stream.negatives import NegativeSampler

CPU = torch.device("cpu")


@pytest.fixture
def make_builder(make_stream):
    def make(stream=None, strategy="recent", pairs=True, slice_features=False, roots="event") -> BatchBuilder:
        stream = stream or make_stream()
        sampler = NeighborSampler(stream, 4, strategy=strategy, seed=3)
        history = History(stream) if pairs else None
        options = {"slice_features": slice_features, "roots": roots}
        return BatchBuilder(stream, sampler, NegativeSampler(stream), history, 100, **options)

    return make


def assert_same(one: Batch, other: Batch) -> None:
    a, b = one.tensors(), other.tensors()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("slice_features", [True, False])
def test_taken_apart_and_put_together(make_builder, pairs, slice_features):
    batch = make_builder(pairs=pairs, slice_features=slice_features).range(40, 60, 2, seed=1)
    assert_same(Batch.from_tensors(batch.tensors()), batch)
    assert (batch.pair_features is None) is not pairs
    assert (batch.features is None) is not slice_features
    names = {field.name for field in dataclasses.fields(Batch)} - {"block"}
    there = {name for name in names if getattr(batch, name) is not None}
    assert {name for name in batch.tensors() if "." not in name} == there


def test_roots_by_node_are_embedded_once_and_see_nothing_of_their_batch(make_builder):
    builder, by_event = make_builder(roots="node"), make_builder()
    for start in (0, 37, 200):
        batch, other = builder.range(start, start + 40, 2, seed=1), by_event.range(start, start + 40, 2, seed=1)
        nodes = batch.block.nodes[batch.block.roots[batch.block.root_row]]
        assert len(nodes) == len(torch.unique(nodes)) < len(other.block.root_row)
        first = builder.time[start]
        for row, node in enumerate(nodes.tolist()):
            events = batch.block.event[row]
            events = events[events >= 0]
            ends = torch.stack([builder.src[events], builder.dst[events]])
            assert (builder.time[events] < first).all()
            assert (ends == node).any(0).all()
            touched = (builder.time < first) & ((builder.src == node) | (builder.dst == node))
            assert len(events) == min(4, int(touched.sum()))
        assert torch.equal(batch.pair_features[..., :3], other.pair_features[..., :3])  # exact at each event's time
        assert torch.equal(nodes[batch.source], builder.src[start : start + 40].long())
        assert torch.equal(nodes[batch.candidate[:, 0]], builder.dst[start : start + 40].long())


def test_an_incomplete_batch_is_refused(make_builder):
    tensors = make_builder().range(0, 5, 1, seed=0).tensors()
    for name in ("source", "block.slot"):
        with pytest.raises(TypeError, match=name.removeprefix("block.")):
            Batch.from_tensors({key: value for key, value in tensors.items() if key != name})


def test_to_another_device(make_builder):
    batch = make_builder(slice_features=True).range(40, 60, 2, seed=1)
    assert {tensor.device.type for tensor in batch.to("meta").tensors().values()} == {"meta"}
    assert_same(batch.to("cpu"), batch)


@pytest.mark.cuda
def test_pinned_and_to_the_gpu_and_back(make_builder):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    batch = make_builder(slice_features=True).range(40, 60, 2, seed=1)
    pinned = batch.pin_memory()
    assert all(tensor.is_pinned() for tensor in pinned.tensors().values())
    assert_same(pinned.to("cuda").to("cpu"), batch)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 9), st.integers(1, 6), st.integers(1, 12))
def test_sliced_rows_are_those_of_the_table_each_once(seed, rows, width, size):
    g = torch.Generator().manual_seed(seed)
    index = torch.randint(-1, size, (rows, width), generator=g)
    table, other = torch.randn(size, 3, generator=g), torch.arange(size)
    place, (part, numbers) = slice_rows(index, CPU, table, other)
    assert place.shape == index.shape
    assert torch.equal(place < 0, index < 0)
    assert torch.equal(part[place[index >= 0]], table[index[index >= 0]])
    assert torch.equal(numbers[place[index >= 0]], index[index >= 0])
    named = set(index[index >= 0].tolist())
    assert set(numbers.tolist()) == (named or {0})
    assert len(numbers) == max(len(named), 1)


def walk(builder: BatchBuilder, sliced: bool) -> list[torch.Tensor]:
    """Scores and gradients over the stream, with a memory that goes along, and at the end the memory itself."""
    torch.manual_seed(0)
    stream = builder.stream
    model = TGN(TGNConfig(dim=8, dropout=0.0), stream.edge_dim)
    memory = LocalMemory(stream.num_nodes, 8)
    seen = []
    for start in range(0, 200, 25):
        batch = builder.range(start, start + 25, 2, seed=start)
        rows = memory.read(batch.block.nodes)
        time, features = builder.time, builder.edge_features
        if sliced:
            rows, time, features = mail_tables(rows, time, features, "cpu")
        updated = model.update(rows, time, features)
        h = model.embed(updated, *batch.inputs(builder.edge_features))
        scores = model.score(h, batch.source, batch.candidate, batch.pair_features)
        model.zero_grad()
        scores.square().mean().backward()
        slots = batch.source_slot, batch.destination_slot
        own, after = rows_after_events(rows, updated, *slots, batch.event, time)
        memory.write(batch.block.nodes[own], after)
        seen += [h, scores, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
    return seen + list(memory.state_dict().values())


@pytest.mark.parametrize("edge_dim", [0, 3])
@pytest.mark.parametrize("on_disk", [False, True])
def test_sliced_features_give_the_same_answers_bit_for_bit(make_builder, make_stream, tmp_path, edge_dim, on_disk):
    stream = make_stream(edge_dim=edge_dim)
    whole = walk(make_builder(stream), sliced=False)
    if on_disk and edge_dim:
        np.save(tmp_path / "features.npy", stream.edge_features)
        stream = dataclasses.replace(stream, edge_features=np.load(tmp_path / "features.npy", mmap_mode="r"))
    builder = make_builder(stream, slice_features=True)
    for a, b in zip(walk(builder, sliced=True), whole, strict=True):
        assert torch.equal(a, b)


def test_a_sliced_batch_needs_no_other_rows(make_builder):
    """A table that holds nothing but the batch's rows: the rest is not even looked at."""
    builder = make_builder(slice_features=True)
    batch = builder.range(100, 120, 2, seed=1)
    assert len(batch.features) == len(set(batch.block.event[batch.block.event >= 0].tolist()))
    block, features = batch.inputs(torch.full_like(builder.edge_features, torch.nan))
    assert features is batch.features
    assert int(block.event.max()) == len(features) - 1
    for name in ("nodes", "roots", "root_row", "slot", "dt"):
        assert getattr(block, name) is getattr(batch.block, name)


def test_slicing_later_is_the_same(make_builder):
    stream = make_builder().stream
    plain = make_builder(stream).range(100, 120, 2, seed=1)
    builder = make_builder(stream, slice_features=True)
    assert_same(builder.slice(plain), builder.range(100, 120, 2, seed=1))
    assert plain.features is None


@pytest.mark.parametrize("strategy", ["recent", "uniform"])
def test_a_clone_builds_the_same_batches_in_a_thread_of_its_own(make_builder, strategy):
    builder = make_builder(strategy=strategy, slice_features=True)
    expected = [builder.range(start, start + 10, 3, seed=1) for start in range(0, 300, 10)]
    clone = builder.clone()
    assert clone.edge_features is builder.edge_features
    assert clone.pairs is builder.pairs
    found: list[Batch] = []
    thread = threading.Thread(
        target=lambda: found.extend(clone.range(start, start + 10, 3, seed=1) for start in range(0, 300, 10))
    )
    thread.start()
    again = [builder.range(start, start + 10, 3, seed=1) for start in reversed(range(0, 300, 10))]
    thread.join()
    for one, other, third in zip(found, expected, reversed(again), strict=True):
        assert_same(one, other)
        assert_same(third, other)


def test_the_seed_of_a_clone_is_its_own(make_builder):
    builder = make_builder(strategy="uniform")
    clone = builder.clone()
    expected = builder.range(200, 260, 1, seed=1)
    clone.sampler.seed = 77
    assert not torch.equal(clone.range(200, 260, 1, seed=1).block.event, expected.block.event)
    assert_same(builder.range(200, 260, 1, seed=1), expected)


def test_ids_that_do_not_fit_a_key_are_refused(make_builder):
    ends = np.arange(8)
    huge = dataclasses.replace(EventStream.from_arrays(ends, ends, ends), num_nodes=2**60)
    builder = make_builder()
    with pytest.raises(ConfigError, match="64-bit key"):
        BatchBuilder(huge, builder.sampler, builder.negatives)
