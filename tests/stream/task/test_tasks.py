"""What every task keeps: nothing of the future, the same bits again, emulated layouts, runs that go on."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.runs import same
from tgscale.data.store import open_stream, save_stream
from tgscale.errors import ConfigError, RunError
from tgscale.models.config import ModelConfig
from tgscale.stream.config import SamplingConfig, TaskConfig, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.task import TASKS
from tgscale.stream.task.targets import Multiclass, _against_zero
from tgscale.stream.trainer import evaluate, load_config, resume, train_stream
from tgscale.train.checkpoint import Checkpointer

LABELS = ("label", "edge_classes")


def logits_of(engine, events):
    """Logits of the first events, in batches, memory going on."""
    engine.model.eval()
    engine.memory.reset()
    size = engine.config.train.batch_size
    with torch.no_grad():
        return torch.cat([engine.score(engine.builder.range(i, i + size, 0, 0)) for i in range(0, events, size)])


def relabelled(stream, first, seed=9):
    """The same stream, but the labels of the events from ``first`` on are others."""
    order = np.random.default_rng(seed).permutation(stream.num_events - first) + first
    changed = {name: np.concatenate([getattr(stream, name)[:first], getattr(stream, name)[order]]) for name in LABELS}
    return dataclasses.replace(stream, **changed)


def altered(stream, first, seed=9):
    """The same stream, but all else of the events from ``first`` on is different, too."""
    rng = np.random.default_rng(seed)
    n, changed = stream.num_events - first, relabelled(stream, first)
    src, dst, time, features = (np.array(x) for x in (stream.src, stream.dst, stream.time, stream.edge_features))
    src[first:], dst[first:] = rng.integers(0, 15, n), rng.permutation(dst[first:])
    time[first:] = time[first] + np.sort(rng.integers(0, 1000, n))
    features[first:] = rng.normal(size=features[first:].shape)
    return dataclasses.replace(
        changed, src=src, dst=dst, time=time, edge_features=features, stored_tcsr=None, stored_pairs=None
    )


@pytest.mark.parametrize("change", [relabelled, altered])
@pytest.mark.parametrize("times", [None, 40])  # few and many ties
def test_nothing_of_the_future_moves_a_score(make_engine, labelled, kind, change, times):
    stream, first = labelled(times=times), 130
    while stream.time[first] == stream.time[first - 1]:
        first += 1
    state, found = None, []
    for variant in (stream, change(stream, first)):
        engine = make_engine(variant, double=True, **kind)
        # The time span of the training events, and how frequent their classes are, are constants of a run.
        engine.builder.pairs.scale = 0.1
        if hasattr(engine.task, "targets"):
            engine.task.targets.usual = torch.full((engine.task.targets.classes,), 1 / 3)
        state = state or engine.model.state_dict()
        engine.model.load_state_dict(state)
        found.append(logits_of(engine, 260)[:first])
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", LABELS)
def test_the_leakage_test_can_fail(make_engine, labelled, kind):
    """Labels do move the scores of later events."""
    stream = labelled()
    changes = {"task__name": "edge-class", "task__labels": kind}
    engine, other = (make_engine(s, double=True, **changes) for s in (stream, relabelled(stream, 100)))
    other.model.load_state_dict(engine.model.state_dict())
    other.task.targets.usual = engine.task.targets.usual
    assert not torch.allclose(logits_of(engine, 260)[150:], logits_of(other, 260)[150:])


def test_without_past_labels_no_label_moves_a_score(make_engine, labelled):
    stream = labelled()
    changes = {"task__name": "edge-class", "task__labels": "label", "task__past": 0}
    engine, other = (make_engine(s, double=True, **changes) for s in (stream, relabelled(stream, 0)))
    other.model.load_state_dict(engine.model.state_dict())
    assert torch.equal(logits_of(engine, 260), logits_of(other, 260))


def test_classes_of_nodes_that_are_not_of_training_are_never_seen(make_engine, labelled):
    stream = labelled()
    changes = {"task__name": "node-class", "task__labels": "node_label"}
    engine = make_engine(stream, double=True, **changes)
    hidden = engine.task.part.numpy() != 0
    node_label = np.array(stream.node_label)
    node_label[hidden & (node_label >= 0)] = 0
    other = make_engine(stream, double=True, **changes)
    other.model.load_state_dict(engine.model.state_dict())
    other.task.label = torch.from_numpy(node_label.astype(np.int64))
    shown = torch.where(other.task.part == 0, other.task.label, -1)
    other.task.shown = Multiclass(shown, other.task.classes, stream.num_nodes, "none")
    assert torch.equal(logits_of(engine, 200), logits_of(other, 200))
    batch = engine.builder.range(0, 40, 0, 0)
    losses = [e.task.loss(e.score(batch), batch) for e in (engine, other)]
    assert torch.equal(*losses)


def test_an_own_feature_is_not_seen_when_its_event_is_classified(make_engine, labelled):
    """Not even where it is the label itself."""
    stream = labelled(edge_dim=1)
    leaky = dataclasses.replace(stream, edge_features=stream.label[:, None].astype(np.float32))
    changes = {"task__name": "edge-class", "task__labels": "label", "task__past": 0}
    first = 141
    while stream.time[first] == stream.time[first - 1]:
        first += 1
    hidden = dataclasses.replace(leaky, edge_features=np.where(np.arange(300)[:, None] < first, leaky.edge_features, 7))
    engine, other = (make_engine(s, double=True, **changes) for s in (leaky, hidden))
    other.model.load_state_dict(engine.model.state_dict())
    torch.testing.assert_close(logits_of(engine, 160)[: first + 1], logits_of(other, 160)[: first + 1])


def final_state(run):
    _, state = Checkpointer(run / "checkpoints" / "steps").load()
    result = json.loads((run / "result.json").read_text())
    state["shared"].pop("seconds")
    return state, {name: result[name] for name in ("task", "protocol", "val", "test", "baselines")}


@pytest.mark.parametrize("layout", [None, "1x2x2"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(task_config, monkeypatch, tmp_path, layout):
    config = replace(task_config, emulate=layout)
    train_stream(config)
    whole = final_state(config.run)
    run = tmp_path / "interrupted"
    original = TrainingLoop.step

    def dies(self):
        if self.iteration == 7:
            torch.rand(7)
            raise InterruptedError
        return original(self)

    monkeypatch.setattr(TrainingLoop, "step", dies)
    with pytest.raises(InterruptedError):
        train_stream(replace(config, run=run, checkpoint_every=3))
    monkeypatch.undo()
    resume(run)
    assert same(final_state(run), whole)


def test_result_and_a_second_evaluation(task_config):
    result = train_stream(task_config)
    assert json.loads((task_config.run / "result.json").read_text()) == json.loads(json.dumps(result))
    metrics = set(result["test"])
    assert metrics in ({"accuracy", "f1_macro", "class_mrr"}, {"f1_micro", "f1_macro", "ap_macro"},
                       {"accuracy", "f1_macro", "node_accuracy"})  # fmt: skip
    assert "classification" in result["task"]
    assert result["baselines"]
    for values in (result["val"], result["test"], *result["baselines"].values()):
        assert set(values) == metrics
        assert all(0 <= value <= 1 for value in values.values())
    again = evaluate(task_config.run, quiet=True)
    assert again["metrics"] == result["test"]
    assert again["baselines"] == result["baselines"]
    assert evaluate(task_config.run, "val", quiet=True)["metrics"] == result["val"]
    with pytest.raises(ConfigError, match="protocols are for link prediction"):
        evaluate(task_config.run, protocol="ap", quiet=True)


def test_same_seed_same_bits(make_engine, labelled, train, kind):
    def losses_and_weights(seed):
        engine = make_engine(labelled(), seed=seed, **kind)
        return train(engine), engine.model.state_dict()

    (losses, weights), (losses2, weights2), (losses3, _) = map(losses_and_weights, (0, 0, 1))
    assert losses == losses2
    assert same(dict(weights), dict(weights2))
    assert losses != losses3


def test_an_emulated_minibatch_axis_gives_the_gradient_of_one_trainer(make_engine, labelled, kind):
    """Two trainers that share a batch come to what one trainer has of the whole, where no dropout is drawn."""
    found = []
    for changes in ({"train__batch_size": 40}, {"train__batch_size": 20, "emulate": "2x1x1"}):
        engine = make_engine(
            labelled(), double=True, model__dropout=0, task__dropout=0, train__lr_scaling="none", **changes, **kind
        )
        loop = TrainingLoop.in_process(engine)
        loop.run(3)
        found.append(torch.cat([p.flatten() for p in engine.model.parameters() if p.requires_grad]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_the_loss_is_the_mean_over_what_is_labelled(make_engine, labelled):
    """Over all training events, however they are cut into batches."""
    changes = {"task__name": "node-class", "task__labels": "node_label"}
    engine = make_engine(labelled(), double=True, **changes)
    task, train = engine.task, engine.split.train
    whole = engine.builder.range(0, train, 0, 0)
    logits = torch.randn(train, 2 * task.classes, dtype=torch.float64)
    node = torch.stack([task.src[:train], task.dst[:train]], 1)
    asked = task.part[node] == 0
    expected = torch.nn.functional.cross_entropy(logits.unflatten(1, (2, -1))[asked], task.label[node[asked]])
    torch.testing.assert_close(task.loss(logits, whole), expected)


# ---- a task on the embeddings of another run


@pytest.fixture
def link_run(task_config):
    config = replace(task_config, task__name="link", task__labels="auto", run=task_config.run.parent / "links")
    train_stream(config)
    return config.run


def best_weights(run):
    return Checkpointer(run / "checkpoints" / "best").load()[1]["model"]


@pytest.mark.parametrize("freeze", [True, False])
def test_a_head_on_the_embeddings_of_a_link_model(task_config, link_run, freeze):
    config = replace(task_config, task__init_from=link_run, task__freeze=freeze)
    result = train_stream(config)
    before, after = best_weights(link_run), best_weights(config.run)
    heads = {name for name in after if name.startswith("task_head.")}
    assert heads
    assert set(after) - heads == set(before)
    assert all(torch.equal(before[name], after[name]) for name in before) == freeze
    trained = sum(after[name].numel() for name in heads)
    assert (result["train"]["parameters"] == trained) == freeze


def test_options_of_the_model_come_from_that_run(task_config, link_run):
    config = replace(task_config, task__init_from=link_run, model=ModelConfig(), sampling=SamplingConfig())
    train_stream(config)
    assert best_weights(config.run)["task_head.out.weight"].shape[1] == 8  # the width of the run that it starts from
    assert evaluate(config.run, quiet=True)["metrics"]
    for changes in ({"model__dim": 32}, {"sampling__neighbors": 7}, {"static__mode": "cotrained"}):
        name = next(iter(changes)).replace("__", ".")
        with pytest.raises(
            ConfigError, match=rf"{name} is {changes[name.replace('.', '__')]}, and \w+ in .*leave it out"
        ):
            train_stream(replace(config, run=config.run.with_name("other"), **changes))


def test_a_run_on_snapshots_has_no_embeddings_of_events(task_config, tmp_path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "config.yaml").write_text("partition: blad\n")
    with pytest.raises(ConfigError, match="is a run on snapshots: give one on an event stream"):
        train_stream(replace(task_config, task__init_from=tmp_path / "snapshots"))


def test_embeddings_of_a_frozen_model_are_those_of_evaluation(task_config, link_run):
    config = replace(task_config, task__init_from=link_run)
    train_stream(config)
    engine = StreamEngine(load_config(config.run), open_stream(config.data), torch.device("cpu"), pretrain=False)
    engine.train_mode()
    assert not engine.model.attention.training
    assert engine.model.task_head.training


def test_other_data_are_refused(task_config, link_run, labelled, tmp_path):
    save_stream(labelled(seed=5), tmp_path / "other")
    config = replace(task_config, data=tmp_path / "other", task__init_from=link_run, run=tmp_path / "new")
    with pytest.raises(RunError, match="made anew"):
        train_stream(config)
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_not_there_is_refused(task_config, tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        train_stream(replace(task_config, task__init_from=tmp_path / "nothing"))


# ---- what is refused


@pytest.mark.parametrize("name", ["edge-class", "node-class"])
def test_data_without_labels_are_refused(make_engine, make_stream, name):
    with pytest.raises(ConfigError, match=r"has no labels for task .*-class: import it with --"):
        make_engine(make_stream(), task__name=name)


def test_columns_that_do_not_go_with_a_task_are_refused(make_engine, labelled):
    with pytest.raises(ConfigError, match="does not go with task node-class: choose auto or node_label or label"):
        make_engine(labelled(), task__name="node-class", task__labels="edge_classes")
    with pytest.raises(ConfigError, match=r"task\.unknown is for one label per event"):
        make_engine(labelled(), task__name="edge-class", task__unknown=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"past": -1}, "task.past"),
        ({"dropout": 1.0}, "task.dropout"),
        ({"val_nodes": 0.6, "test_nodes": 0.5}, "task.val_nodes 0.6 and task.test_nodes 0.5"),
        ({"val_nodes": float("nan")}, "task.val_nodes nan and task.test_nodes 0.15"),
        ({"init_from": "run"}, "task.init_from is for edge-class and node-class"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        TaskConfig(**options)


def test_a_part_that_asks_for_nothing_is_refused(make_engine, labelled):
    stream = labelled()
    node_label = np.full(stream.num_nodes, -1, np.int32)
    node_label[:2] = [0, 1]
    with pytest.raises(ConfigError, match=r"no event of the .* part has one of the"):
        make_engine(dataclasses.replace(stream, node_label=node_label), task__name="node-class")


def test_every_name_makes_a_task(make_engine, labelled):
    for name in TASKS:
        engine = make_engine(labelled(), task__name=name)
        assert engine.task.name == name


# ---- rules


def test_rules_by_a_plain_count(make_engine, labelled):
    """Last class of the pair, else of the source, else of the destination, else the most frequent in training."""
    stream = labelled(times=60)
    engine = make_engine(stream, task__name="edge-class", task__labels="label")
    first, last = engine.split.range("test")
    label = stream.label
    most = np.bincount(label[: engine.split.train]).argmax()
    right = {"most frequent class": 0, "last class of the pair": 0, "usual class of the source": 0}
    for e in range(first, last):
        before = np.flatnonzero(stream.time < stream.time[e])
        source, destination = (before[column[before] == column[e]] for column in (stream.src, stream.dst))
        pair = source[stream.dst[source] == stream.dst[e]]
        found = next((label[past[-1]] for past in (pair, source, destination) if len(past)), most)
        right["most frequent class"] += most == label[e]
        right["last class of the pair"] += found == label[e]
    rules = {name: rule.summary()["accuracy"] for name, rule in engine.evaluate_rules("test").items()}
    for name in ("most frequent class", "last class of the pair"):
        assert rules[name] == pytest.approx(right[name] / (last - first)), name


@pytest.mark.parametrize("size", [1, 7, 20, 50])
def test_a_probability_does_not_depend_on_the_place_of_a_score(size):
    score = torch.cat([torch.randn(201, dtype=torch.float64), torch.tensor([-800.0, -40.0, 0.0, 40.0, 800.0])])
    whole = _against_zero(score)
    assert torch.equal(whole, torch.cat([_against_zero(part) for part in score.split(size)]))
    torch.testing.assert_close(whole, torch.stack([-score, score], dim=-1).sigmoid(), rtol=1e-14, atol=0)
