"""What holds for every model of event streams, whatever its equations are."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.runs import same
from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.memory.local import NoMemory
from tgscale.models.config import OPTIONS, ModelConfig
from tgscale.models.stream_models import STREAM_MODELS
from tgscale.stream import engine as engine_module
from tgscale.stream.config import replace, with_model
from tgscale.stream.device_loop import DeviceLoop, uses_device_graph
from tgscale.stream.launch import place_memories
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.trainer import evaluate, load_config, resume, train_stream
from tgscale.train.checkpoint import Checkpointer
from tgscale.train.distributed import Ranks

CPU = torch.device("cpu")
MODELS = list(STREAM_MODELS)
OTHERS = MODELS[1:]  # TGN has tests of its own in most of these matters
WITH_MEMORY = ["jodie", "dyrep", "apan"]
NARROW = {"model__pair_encoding": False}  # what is seen is then the model's own doing

each_model = pytest.mark.parametrize("name", MODELS)
each_other = pytest.mark.parametrize("name", OTHERS)


def altered(stream: EventStream, since: int) -> EventStream:
    """The stream with all events from one on replaced."""
    rng = np.random.default_rng(9)
    src, dst, features = (np.array(c) for c in (stream.src, stream.dst, stream.edge_features))
    src[since:] = rng.permutation(src[since:])
    dst[since:] = rng.permutation(dst[since:])
    features[since:] += 5
    return dataclasses.replace(
        EventStream.from_arrays(
            src, dst, np.array(stream.time), num_nodes=stream.num_nodes, edge_features=features,
            num_sources=stream.num_sources,
        )
    )  # fmt: skip


def scores_of(engine, stop: int, size: int = 20) -> torch.Tensor:
    engine.model.eval()
    engine.memory.reset()
    with torch.no_grad():
        batches = [engine.builder.range(at, min(at + size, stop), 3, seed=at) for at in range(0, stop, size)]
        return torch.cat([engine.score(batch) for batch in batches])


@each_model
@pytest.mark.parametrize("options", [NARROW, {}, {"sampling__roots": "node"}, {"sampling__strategy": "uniform"}])
def test_no_event_moves_a_score_before_it(make_engine, make_stream, name, options):
    """Altering everything from event t on leaves all scores of events before t as they are.

    To 1e-12: other roots in a batch of both make other shapes, and so other orders of summation.
    """
    stream, at = make_stream(times=100), 150
    at = int(np.searchsorted(stream.time, stream.time[at]))  # ties: the first event of that time
    one = make_engine(stream, double=True, model__name=name, **options)
    other = make_engine(altered(stream, at), double=True, model__name=name, **options)
    other.model.load_state_dict(one.model.state_dict())
    # The negatives of both are drawn from the same nodes.
    other.builder.negatives = one.builder.negatives
    a, b = scores_of(one, 300), scores_of(other, 300)
    torch.testing.assert_close(a[:at], b[:at], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(a[at:], b[at:], rtol=1e-3)


@each_other
def test_training_beats_chance_on_the_generators_stream(make_engine, train, name):
    """Guessing gets an MRR of 0.09 against 49 candidates. No pair encoding: what is learned is the model's own."""
    engine = make_engine(
        generate_stream(events=4000, seed=0), model__name=name, model__dim=16, model__pair_encoding=False,
        train__epochs=12, train__batch_size=100, train__lr=5e-3, eval__exclude_own=True,
    )  # fmt: skip
    losses = train(engine)
    assert losses[-1] < 0.85 * losses[0]
    assert engine.evaluate("val").mrr > 0.18


@each_other
def test_evaluation_by_threads_equals_that_of_one(make_engine, monkeypatch, one_thread, name):
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(engine_module, "score_threads", lambda device, threads=threads: threads)
        engine = make_engine(model__name=name, train__batch_size=7, sampling__strategy="uniform")
        torch.set_num_threads(1)
        engine.advance(0, engine.split.train)
        scores = [engine.evaluate(part) for part in ("val", "test")]
        columns = [(s.reciprocal_rank, s.positive, s.negative) for s in scores]
        results.append([*columns, engine.memory.state_dict().values()])
    for one, several in zip(*results, strict=True):
        for a, b in zip(one, several, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_advancing_the_memory_gives_what_scoring_leaves(make_engine, name):
    engine = make_engine(model__name=name, double=True)
    scores_of(engine, 100)
    scored = engine.memory.state_dict()
    engine.memory.reset()
    for start in range(0, 100, 20):
        engine.advance(start, start + 20)
    for column, value in engine.memory.state_dict().items():
        torch.testing.assert_close(value, scored[column], rtol=1e-12, atol=1e-12)
    assert (scored["mail_event"] >= 0).any()


@each_other
@pytest.mark.parametrize("mode", ["pretrained", "features", "cotrained"])
def test_static_memory_of_every_kind(make_engine, make_stream, train, tmp_path, name, mode):
    features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    stream = dataclasses.replace(make_stream(), node_features=features)
    engine = make_engine(
        stream, model__name=name, static__mode=mode, static__cache=tmp_path, static__dim=6, train__epochs=1
    )
    table = engine.model.static.table.clone()
    losses = train(engine)
    assert np.isfinite(losses).all()
    assert table.any()
    assert torch.equal(table, engine.model.static.table) == (mode != "cotrained")


@each_other
def test_sliced_features_give_the_same_bits(make_engine, train, name):
    results = []
    for sliced in (False, True):
        engine = make_engine(model__name=name, pipeline__slice_features=sliced, train__epochs=1)
        results.append((train(engine), engine.evaluate("val").mrr, engine.memory.state_dict()))
    (loss, mrr, memory), (loss_sliced, mrr_sliced, memory_sliced) = results
    assert loss == loss_sliced
    assert mrr == mrr_sliced
    assert all(torch.equal(memory[name], memory_sliced[name]) for name in memory)


@each_other
def test_batches_from_the_cache_and_made_ahead_give_the_same_bits(make_engine, train, tmp_path, name):
    save_stream(make_engine().stream, tmp_path / "data")
    losses = [
        train(make_engine(model__name=name, data=tmp_path / "data", train__epochs=1, **options))
        for options in ({}, {"pipeline__cache": tmp_path / "cache"}, {"pipeline__cache": tmp_path / "cache"},
                        {"pipeline__depth": 2})
    ]  # fmt: skip
    assert losses[0] == losses[1] == losses[2] == losses[3]


@pytest.mark.parametrize("name", [name for name in OTHERS if STREAM_MODELS[name].fixed_shapes])
def test_the_device_step_equals_the_usual_one(make_engine, name):
    options = {"model__name": name, "train__epochs": 1}
    options |= {"model__dropout": 0.0} if "dropout" in OPTIONS[name] else {}
    engines = [make_engine(double=True, **options) for _ in range(2)]
    usual, whole = (cls.in_process(e) for cls, e in zip((TrainingLoop, DeviceLoop), engines, strict=True))
    for loop in (usual, whole):
        loop.run(loop.schedule.iterations)
    assert usual.mean_loss() == pytest.approx(whole.mean_loss(), rel=1e-9)
    for key, weight in engines[0].model.state_dict().items():
        torch.testing.assert_close(engines[1].model.state_dict()[key], weight, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in OTHERS if not STREAM_MODELS[name].fixed_shapes])
def test_a_device_step_that_cannot_be_is_refused(make_config, name):
    with pytest.raises(ConfigError, match=f"device_graph on cannot be: model {name} counts"):
        uses_device_graph(make_config(model__name=name, device_graph="on"), CPU)
    assert not uses_device_graph(make_config(model__name=name), torch.device("cuda"))


@each_other
@pytest.mark.parametrize("layout", ["2x1x1", "1x1x2", "1x2x1", "2x2x2"])
def test_every_layout_trains(make_engine, train, name, layout):
    engine = make_engine(model__name=name, emulate=layout, train__epochs=4, train__warm_start="replay")
    assert np.isfinite(train(engine)).all()
    assert engine.evaluate("val").mrr > 0


@pytest.fixture
def config(tmp_path, make_stream, make_config):
    save_stream(make_stream(), tmp_path / "data")
    return make_config(data=tmp_path / "data", run=tmp_path / "run", static__cache=tmp_path / "cache", train__epochs=3)


class Interrupt(Exception):
    pass


def final_state(run):
    _, state = Checkpointer(run / "checkpoints" / "steps").load()
    result = json.loads((run / "result.json").read_text())
    state["shared"].pop("seconds")
    return state, {part: result[part] for part in ("val", "test", "baselines", "protocol", "model")}


@each_other
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config, monkeypatch, tmp_path, name):
    config = with_model(config, name)
    result = train_stream(config)
    assert result["model"] == name
    whole = final_state(config.run)
    assert load_config(config.run).model.name == name
    assert evaluate(config.run, quiet=True)["metrics"] == result["test"]
    run, original = tmp_path / "interrupted", TrainingLoop.step

    def dies(self):
        if self.iteration == 17:
            torch.rand(7)
            raise Interrupt
        return original(self)

    monkeypatch.setattr(TrainingLoop, "step", dies)
    with pytest.raises(Interrupt):
        train_stream(replace(config, run=run))
    monkeypatch.undo()
    resume(run)
    assert same(final_state(run), whole)


@pytest.mark.parametrize("name", ["tgat", "graphmixer"])
def test_a_model_without_memory_keeps_nothing(make_engine, name):
    engine = make_engine(model__name=name)
    assert isinstance(engine.memory, NoMemory)
    _, memories = place_memories(engine.config, engine, Ranks())
    loop = TrainingLoop(engine, TrainingLoop.in_process(engine).schedule, memories)
    loop.run(3)
    assert loop.rows_written == 0
    assert all(column.numel() == 0 for column in loop.memory_of(0).values())


def test_batches_that_can_only_be_scored_have_no_past(make_engine):
    builder = make_engine(model__name="apan").builder
    assert builder.range(40, 60, 1, seed=0).past_slot.shape == (40, 4)
    assert builder.range(40, 60, 1, seed=0, with_past=False).past_slot is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "jodie", "heads": 4}, "model.heads is 4, and model jodie has no such option.*tgn or apan or tgat"),
        ({"name": "tgn", "mails": 5}, "model tgn has no such option.*choose apan"),
        ({"name": "graphmixer", "gap": 0}, "model.gap is 0"),
        ({"name": "apan", "mails": 1}, "2 or more"),
        ({"name": "tgat", "dim": 7}, "does not divide"),
        ({"name": "tgnn"}, "choose one of tgn, jodie"),
    ],
)
def test_options_that_a_model_does_not_have_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        ModelConfig(**options)


def test_a_model_comes_with_the_sampling_of_its_paper(make_config):
    assert with_model(make_config(), "tgat").sampling.strategy == "uniform"
    assert with_model(make_config(), "jodie").sampling.strategy == "recent"
    with pytest.raises(ConfigError, match="Did you mean graphmixer"):
        with_model(make_config(), "graphmixr")
