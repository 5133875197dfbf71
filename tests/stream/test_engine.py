import dataclasses

import numpy as np
import pytest
import torch

from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError
from tgscale.stream.engine import StreamEngine


def scores_of(engine, events):
    """Scores of all events up to ``events``, in batches, memory going on."""
    engine.model.eval()
    engine.memory.reset()
    size = engine.config.train.batch_size
    with torch.no_grad():
        parts = [
            engine.score(engine.builder.range(i, min(i + size, events), 5, seed=1)) for i in range(0, events, size)
        ]
    return torch.cat(parts)


def altered(stream: EventStream, first: int) -> EventStream:
    """The same stream, but everything about events ``first`` and later is different."""
    rng = np.random.default_rng(99)
    src, dst, time, features = (np.array(x) for x in (stream.src, stream.dst, stream.time, stream.edge_features))
    n = stream.num_events - first
    src[first:] = rng.integers(0, 15, n)
    dst[first:] = rng.permutation(dst[first:])
    time[first:] = time[first] + np.sort(rng.integers(0, 1000, n))
    features[first:] = rng.normal(size=features[first:].shape)
    return EventStream.from_arrays(
        src, dst, time, num_nodes=stream.num_nodes, edge_features=features, num_sources=stream.num_sources
    )


@pytest.mark.parametrize("times", [None, 40])  # few and many ties
@pytest.mark.parametrize("preset", ["default", "disttgl"])
@pytest.mark.parametrize("first", [101, 140, 199])
def test_nothing_of_the_future_moves_a_score(make_engine, make_stream, times, preset, first, monkeypatch):
    stream = make_stream(times=times)
    while stream.time[first] == stream.time[first - 1]:
        first += 1
    monkeypatch.setattr(EventStream, "destinations", np.arange(15, 30))  # the population is not what is tested
    model_state = None
    results = []
    for variant in (stream, altered(stream, first)):
        engine = make_engine(variant, preset, static__mode="none", double=True)
        if engine.builder.pairs:  # the time span of the training events is a constant of a run, and not what is tested
            engine.builder.pairs.scale = 0.1
        if model_state is None:
            model_state = engine.model.state_dict()
        engine.model.load_state_dict(model_state)
        results.append(scores_of(engine, 260)[:first])
    # Not bit for bit: another number of distinct nodes in the batch of `first` rounds its products differently.
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


def test_the_leakage_test_can_fail(make_engine, make_stream):
    """Altering an event does move the scores after it."""
    stream = make_stream()
    engine, other = (
        make_engine(s, "disttgl", static__mode="none", double=True) for s in (stream, altered(stream, 100))
    )
    other.model.load_state_dict(engine.model.state_dict())
    assert not torch.allclose(scores_of(engine, 260)[150:], scores_of(other, 260)[150:])


@pytest.mark.parametrize("preset", ["default", "disttgl"])
def test_same_seed_same_bits(make_engine, train, preset, tmp_path):
    def losses_and_weights(seed):
        engine = make_engine(
            preset=preset, seed=seed, static__cache=tmp_path / str(np.random.default_rng().integers(2**40))
        )
        losses = train(engine)
        return losses, engine.model.state_dict(), engine.memory.state_dict()

    (losses, weights, memory), (losses2, weights2, memory2), (losses3, _, _) = map(losses_and_weights, (0, 0, 1))
    assert losses == losses2
    assert losses != losses3
    assert all(torch.equal(weights[k], weights2[k]) for k in weights)
    assert all(torch.equal(memory[k], memory2[k]) for k in memory)


def test_scores_equal_the_textbook_forward(make_engine, monkeypatch):
    """Absorbed, de-duplicated, kernel-made scores equal the plain order of operations, event by event."""
    engine = make_engine(double=True)
    fast = scores_of(engine, 120)
    monkeypatch.setattr(engine.model.attention, "forward", engine.model.attention.reference)
    torch.testing.assert_close(fast, scores_of(engine, 120), rtol=1e-9, atol=1e-9)


def test_evaluation_does_not_depend_on_how_candidates_are_grouped(make_engine):
    """A candidate's score is the same beside other candidates: with 5 negatives and with 2."""
    engine = make_engine(double=True)
    engine.model.eval()
    with torch.no_grad():
        five = engine.score(engine.builder.range(0, 20, 5, seed=3))
        engine.memory.reset()
        two = engine.score(engine.builder.range(0, 20, 2, seed=3))
    torch.testing.assert_close(five[:, :3], two, rtol=1e-12, atol=1e-12)


def test_training_lowers_the_loss_and_beats_chance(make_engine, make_stream, train):
    engine = make_engine(make_stream(events=2000), eval__exclude_own=True, train__epochs=6, train__schedule="constant")
    chance = untrained_mrr(engine)
    losses = train(engine)
    assert losses[-1] < 0.75 * losses[0]
    assert engine.evaluate("val").mrr > 3 * chance


def untrained_mrr(engine):
    engine.memory.reset()
    return engine.evaluate("val").mrr


@pytest.mark.parametrize("mode", ["none", "pretrained", "cotrained", "features"])
def test_static_modes_train(make_engine, make_stream, train, mode, tmp_path):
    stream = make_stream()
    features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    stream = dataclasses.replace(stream, node_features=features)
    engine = make_engine(stream, static__mode=mode, static__cache=tmp_path, static__dim=6)
    before = {k: v.clone() for k, v in engine.model.state_dict().items()}
    assert train(engine)[0] > 0
    if mode != "none":
        moved = not torch.equal(engine.model.static.table, before["static.table"])
        assert moved == (mode == "cotrained")
        static = engine.model.static(torch.arange(30))
        assert static.shape == (30, 8)
        assert static.any()


def test_static_features_without_features_is_refused(make_engine):
    with pytest.raises(ConfigError, match="no node features"):
        make_engine(static__mode="features")


def test_a_split_without_events_is_refused(make_engine, make_stream):
    stream = make_stream(events=4)
    with pytest.raises(ConfigError, match="leaves none for the val part"):
        make_engine(stream, eval__val=0.01, eval__test=0.01)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("preset", ["default", "disttgl"])
def test_gpu_gives_the_scores_of_the_cpu(make_config, make_stream, train, preset, tmp_path):
    config = make_config(preset, model__dropout=0.0, static__dropout=0.0, static__cache=tmp_path)
    engines = [StreamEngine(config, make_stream(), torch.device(name)) for name in ("cpu", "cuda")]
    engines[1].model.load_state_dict(engines[0].model.state_dict())
    for engine in engines:
        train(engine)
    a, b = (engine.evaluate("val") for engine in engines)
    torch.testing.assert_close(a.positive, b.positive, rtol=1e-2, atol=1e-2)
    assert abs(a.mrr - b.mrr) < 0.02


def test_earlier_events_of_a_batch_are_seen_by_sampling_but_not_by_memory(make_engine, make_stream):
    """Events 0 and 1 of one batch: the later one samples the earlier one, whose mail is not there yet."""
    stream = EventStream.from_arrays(np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3]), np.array([1, 2, 3, 4]))
    engine = make_engine(stream, "disttgl", static__mode="none", eval__val=0.25, eval__test=0.25)
    batch = engine.builder.range(0, 2, 1, seed=0)
    assert [e for e in batch.block.event[batch.source[1]].tolist() if e >= 0] == [0]
    assert (engine.memory.read(batch.block.nodes).mail_event == -1).all()


def test_events_of_new_nodes_are_those_that_training_does_not_touch(make_engine):
    stream = EventStream.from_arrays(
        np.array([0, 1, 0, 1, 0, 4]), np.array([2, 3, 2, 3, 5, 2]), np.arange(6), num_nodes=6
    )
    engine = make_engine(stream, static__mode="none", eval__val=0.17, eval__test=0.17)
    assert engine.split == Split(3, 4, 6) or engine.split == Split(3, 4, 6)
    assert engine.new_node_events("val").tolist() == [False]
    assert engine.new_node_events("test").tolist() == [True, True]


def test_the_split_that_the_source_brought_is_used(make_engine, make_stream):
    stream = dataclasses.replace(make_stream(), source_split=Split(100, 150, 300))
    assert make_engine(stream).split == Split(100, 150, 300)
    empty = dataclasses.replace(make_stream(), source_split=Split(150, 150, 300))
    with pytest.raises(ConfigError, match="brought with it leaves none for the val part"):
        make_engine(empty)


def test_pretraining_sees_training_events_alone(make_engine, make_stream, tmp_path):
    """What happens after the training events moves no pre-trained vector (the population of negatives held fixed)."""
    stream = make_stream()
    tables = []
    for variant, cache in ((stream, "a"), (altered(stream, 210), "b")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EventStream, "destinations", np.arange(15, 30))
            engine = make_engine(variant, "disttgl", static__cache=tmp_path / cache)
        assert engine.split.train == 210
        tables.append(engine.model.static.table)
    seen = tables[0].abs().sum(1) > 0
    assert torch.equal(tables[0][seen], tables[1][seen])


@pytest.mark.parametrize("preset", ["default", "disttgl"])
def test_unipartite_streams_with_self_loops_and_ties_train(make_engine, train, preset, tmp_path):
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 12, (2, 200))
    dst[::7] = src[::7]
    stream = EventStream.from_arrays(src, dst, np.sort(rng.integers(0, 20, 200)))
    engine = make_engine(stream, preset, static__cache=tmp_path, train__batch_size=64, model__dim=7, model__heads=1)
    assert np.isfinite(train(engine)).all()
    assert 0 < engine.evaluate("val").mrr < 1
