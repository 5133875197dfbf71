import json
import math

import pytest
import torch
import yaml

import tgscale
from tests.runs import same
from tgscale.data.store import save_stream
from tgscale.errors import ConfigError, DivergedError, RunError
from tgscale.stream import trainer as trainer_module
from tgscale.stream.config import replace
from tgscale.stream.engine import scaled_adam
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.trainer import evaluate, load_config, resume, train_stream
from tgscale.train.checkpoint import Checkpointer


@pytest.fixture
def config(tmp_path, make_stream, make_config):
    save_stream(make_stream(), tmp_path / "data")
    return make_config(data=tmp_path / "data", run=tmp_path / "run", static__cache=tmp_path / "cache", train__epochs=4)


def final_state(run):
    _, state = Checkpointer(run / "checkpoints" / "steps").load()
    result = json.loads((run / "result.json").read_text())
    for noise in (
        "seconds",
        "seconds_per_sweep",
        "processes",
        "events_per_second",
        "peak_memory_bytes",
        "peak_cuda_memory_bytes",
    ):
        result["train"].pop(noise)
    result.pop("environment")
    state["shared"].pop("seconds")
    return state, result


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("preset", ["default", "disttgl"])
@pytest.mark.parametrize("after", [0, 12, 33])
@pytest.mark.parametrize("static", ["pretrained", "cotrained"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    config, make_config, monkeypatch, tmp_path, preset, after, static
):
    config = make_config(
        preset,
        data=config.data,
        run=config.run,
        static__mode=static,
        static__cache=config.static.cache,
        static__epochs=1,
        train__epochs=4,
    )
    train_stream(config)
    whole = final_state(config.run)

    run = tmp_path / "interrupted"
    original = TrainingLoop.step

    def dies(self):
        if self.iteration == after:
            torch.rand(7)
            raise Interrupt
        return original(self)

    monkeypatch.setattr(TrainingLoop, "step", dies)
    with pytest.raises(Interrupt):
        train_stream(replace(config, run=run))
    monkeypatch.undo()
    if after == 0:  # nothing to show for it: the same command starts again
        train_stream(replace(config, run=run))
    else:
        resume(run)
    state, result = final_state(run)
    assert same(state, whole[0])
    assert result == whole[1]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2, 3, 4]


def test_result_has_what_it_promises(config):
    result = train_stream(config)
    assert json.loads((config.run / "result.json").read_text()) == json.loads(json.dumps(result))
    assert result["task"] == "link prediction"
    assert result["data"] == {"name": "events", "events": 300, "nodes": 30, "new_node_test_events": 0}
    assert result["protocol"] == {
        "name": "mrr49",
        "negatives": 49,
        "draw": "random",
        "population": "destinations",
        "population_size": 15,
        "exclude_own": False,
        "ties": trainer_module.TIES["half"],
        "average": "over all events",
        "batches_from": "the start of the part",
        "batch_size": 20,
        "seed": 0,
    }
    for part in ("val", "test"):
        assert set(result[part]) == {"mrr", "mrr_new_nodes", "ap", "auc"}
        assert 0 < result[part]["mrr"] <= 1
    assert set(result["baselines"]) == {"edgebank", "edgebank_window", "recency", "popularity"}
    assert all(0 < rule["mrr"] <= 1 for rule in result["baselines"].values())
    assert len(result["train"]["seconds_per_sweep"]) == result["train"]["epochs"] == 4
    assert result["train"]["peak_memory_bytes"] > 10**6
    assert result["environment"]["torch"] == torch.__version__


def test_evaluate_repeats_the_result(config):
    result = train_stream(config)
    for split in ("val", "test"):
        again = evaluate(config.run, split, quiet=True)
        assert again["metrics"] == result[split]
    assert again["baselines"]["recency"]["mrr"] == result["baselines"]["recency"]["mrr"]
    one = evaluate(config.run, protocol="ap", quiet=True)
    assert one["protocol"]["negatives"] == 1
    assert one["metrics"]["mrr"] > result["test"]["mrr"]  # one competitor instead of 49
    tgb = evaluate(config.run, "val", protocol="tgb", negatives_per_event=9, batch_size=7, quiet=True)
    assert (tgb["protocol"]["negatives"], tgb["protocol"]["batch_size"]) == (9, 7)
    assert 0 < tgb["metrics"]["hits@10"] <= 1
    with pytest.raises(ConfigError, match="draws from the population all"):
        evaluate(config.run, protocol="ap-tgl", population="destinations")


@pytest.mark.parametrize(("protocol", "negatives"), [("ap-tgl", None), ("ap-dyglib", "inductive"), ("tgb", None)])
def test_a_run_on_another_protocol_is_repeated_by_evaluate(config, protocol, negatives):
    options = {"eval__protocol": protocol, "eval__negatives": negatives, "eval__split": "times"}
    result = train_stream(replace(config, train__epochs=1, **options))
    again = evaluate(config.run, quiet=True)
    assert again["metrics"] == result["test"]
    assert again["protocol"] == result["protocol"]
    assert result["protocol"]["name"] == protocol


def test_evaluate_refuses_what_it_does_not_know(config, tmp_path):
    with pytest.raises(ConfigError, match="choose val or test"):
        evaluate(config.run, "train")
    with pytest.raises(RunError, match="not a run directory"):
        evaluate(tmp_path / "nothing")
    train_stream(replace(config, train__epochs=1))
    with pytest.raises(ConfigError, match="choose one of mrr49"):
        evaluate(config.run, protocol="mrr50")


def test_best_weights_are_kept_with_their_memory(config, monkeypatch):
    """With the best epoch first and ruined ones after it, the result is the best epoch's, memory included."""
    original = TrainingLoop.step

    def ruined(self):
        original(self)
        if self.iteration > 11:
            with torch.no_grad():
                for p in self.engine.model.parameters():
                    p.zero_()  # every candidate scores the same: the middle rank

    config = replace(config, train__schedule="constant", eval__exclude_own=True)
    first = train_stream(replace(config, run=config.run.with_name("one"), train__epochs=1))
    monkeypatch.setattr(TrainingLoop, "step", ruined)
    result = train_stream(config)
    assert result["train"]["best_epoch"] == 1
    assert result["train"]["epochs"] == 4
    assert result["test"] == first["test"]


@pytest.mark.parametrize(
    ("epochs", "kept"), [(0, "No weights were kept"), (1, r"of epoch 1, are kept in .*run/.*best\.")]
)
def test_a_model_that_diverged_is_refused_and_the_best_before_it_kept(config, monkeypatch, epochs, kept):
    step = TrainingLoop.step

    def ruined(self):
        step(self)
        if self.iteration > 11 * epochs:
            with torch.no_grad():
                next(iter(self.engine.model.parameters())).fill_(float("nan"))

    config = replace(config, train__schedule="constant")
    first = train_stream(replace(config, run=config.run.with_name("first"), train__epochs=1))
    monkeypatch.setattr(TrainingLoop, "step", ruined)
    words = rf"at epoch {epochs + 1}: a score of validation is NaN\. .*{kept}.*--train\.lr is {config.train.lr}"
    with pytest.raises(DivergedError, match=words):
        train_stream(config)
    assert not (config.run / "result.json").exists()
    if epochs:
        monkeypatch.undo()
        assert evaluate(config.run, quiet=True)["metrics"] == first["test"]


def test_early_stopping(config, monkeypatch):
    never_better = {"mrr": 0.5, "ap": 0.5, "auc": 0.5, "mrr_new_nodes": None}
    monkeypatch.setattr(
        trainer_module, "evaluate_parts", lambda engine, parts, *_, **__: dict.fromkeys(parts, never_better)
    )
    result = train_stream(replace(config, train__epochs=50, train__patience=3))
    assert result["train"]["epochs"] == 4  # the best one and three without a better one
    assert result["train"]["best_epoch"] == 1
    again = train_stream(load_config(config.run), resume=True)  # nothing is left to train
    assert again["train"]["epochs"] == 4
    assert again["test"] == result["test"]


def test_each_validation_is_told_in_a_line(config, capsys):
    train_stream(replace(config, train__epochs=3, quiet=False))
    told = capsys.readouterr().err.splitlines()
    lines = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
    best = 0.0
    for epoch, line in enumerate(lines, 1):
        so_far = " (best so far)" if line["val_mrr"] > best else ""
        best = max(best, line["val_mrr"])
        seconds = line["seconds"] + line["val_seconds"]
        words = f"loss {line['loss']:.4g}, val MRR {line['val_mrr']:.4f}{so_far}, {seconds:.1f} s"
        assert f"epoch {epoch}/3: {words}" in told
    assert [line.partition(":")[0] for line in told[-2:]] == ["final pass over val", "test"]
    assert not [line for line in told if line.startswith("val:")]
    train_stream(replace(config, run=config.run.with_name("quiet"), train__epochs=1, quiet=True))
    assert capsys.readouterr().err == ""


def test_a_run_is_not_overwritten(config):
    train_stream(replace(config, train__epochs=1))
    with pytest.raises(RunError, match="already holds a run"):
        train_stream(config)


def test_config_of_a_run_is_read_back(config):
    train_stream(replace(config, train__epochs=1))
    assert load_config(config.run) == replace(config, train__epochs=1, layout="1x1x1")
    with pytest.raises(ConfigError, match="begun with other options"):
        train_stream(replace(config, train__epochs=9), resume=True)
    moved = config.run.rename(config.run.with_name("moved"))
    assert load_config(moved).run == moved


def test_a_run_from_before_there_were_pair_groups_has_none(config):
    config = replace(config, train__epochs=1, model__pair_groups=())
    result = train_stream(config)
    file = config.run / "config.yaml"
    values = yaml.safe_load(file.read_text())
    assert values["model"].pop("pair_groups") == []
    file.write_text(yaml.safe_dump(values))
    assert load_config(config.run).model.pair_groups == ()
    assert evaluate(config.run, quiet=True)["metrics"]["mrr"] == result["test"]["mrr"]


def test_pretrained_table_is_cached_by_content(config, make_stream, tmp_path):
    config = replace(config, static__mode="pretrained", train__epochs=1)
    train_stream(config)
    tables = list(config.static.cache.glob("*.safetensors"))
    assert len(tables) == 1
    train_stream(replace(config, run=tmp_path / "again"))
    train_stream(replace(config, run=tmp_path / "dropout", static__dropout=0.5))  # made of the same table
    assert list(config.static.cache.glob("*")) == tables
    train_stream(replace(config, run=tmp_path / "longer", static__epochs=3))
    assert len(list(config.static.cache.glob("*.safetensors"))) == 2


def test_pretrained_vectors_of_unseen_nodes_are_zero(make_engine, make_stream, tmp_path):
    stream = make_stream(events=300, nodes=200)
    engine = make_engine(stream, "disttgl", static__cache=tmp_path)
    new = torch.from_numpy(stream.new_nodes(engine.split))
    table = engine.model.static.table
    assert 0 < new.sum() < 200
    assert not table[new].any()
    assert (table[~new].abs().sum(1) > 0).all()


def test_python_api(tmp_path, make_stream):
    tgscale.save_stream(make_stream(), tmp_path / "data")
    config = tgscale.default_config(tmp_path / "data", tmp_path / "run")
    result = tgscale.train_stream(tgscale.replace(config, train__epochs=1, model__dim=8, quiet=True))
    assert math.isfinite(result["test"]["mrr"])
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tgscale.trian  # noqa: B018
    assert set(tgscale.__all__) < set(dir(tgscale))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train__epoch": 3}, r"option train__epoch is unknown. Did you mean train__epochs\?"),
        ({"trian__epochs": 3}, r"option trian is unknown. Did you mean train\?"),
        ({"nothing": 3}, "option nothing is unknown. There are: data, run"),
        ({"train__epochs": "3"}, "train.epochs is '3', which is no number: give 1 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(config, changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(config, **changes)


def test_a_path_is_no_configuration(tmp_path):
    with pytest.raises(
        ConfigError, match=r"takes a configuration, and this is str: make one with tgscale.default_config"
    ):
        train_stream(str(tmp_path))


def test_a_run_knows_its_data(config, make_stream, monkeypatch, tmp_path):
    train_stream(replace(config, train__epochs=1))
    monkeypatch.chdir(tmp_path)
    assert evaluate(config.run, quiet=True)["metrics"]["mrr"] > 0  # from another directory
    save_stream(make_stream(seed=5), config.data, overwrite=True)
    with pytest.raises(RunError, match="was trained on"):
        evaluate(config.run)
    with pytest.raises(RunError, match="was trained on"):
        resume(config.run)


def test_evaluating_a_run_without_validated_weights_is_refused(config, tmp_path):
    train_stream(replace(config, train__epochs=1))
    (config.run / "checkpoints" / "best" / "step-00000011").rename(tmp_path / "gone")
    with pytest.raises(RunError, match="no validated weights"):
        evaluate(config.run)


def test_a_damaged_table_is_made_again_and_an_unusable_cache_refused(config, tmp_path):
    config = replace(config, static__mode="pretrained", train__epochs=1)
    train_stream(config)
    (table,) = config.static.cache.glob("*.safetensors")
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    train_stream(replace(config, run=tmp_path / "again"))
    assert table.read_bytes() == whole
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"static.cache .* cannot be used"):
        train_stream(replace(config, run=tmp_path / "third", static__cache=tmp_path / "file"))


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1000, 210, 70, 42])
def test_any_number_of_steps_has_a_learning_rate(make_engine, epochs, batch_size):
    engine = make_engine(train__epochs=epochs, train__batch_size=batch_size)
    loop, rates = TrainingLoop.in_process(engine), []
    for t in range(loop.schedule.iterations):
        loop.run(t + 1)
        rates.append(loop.optimizers[0].param_groups[0]["lr"])
    assert rates[-1] < 1e-12
    assert all(0 <= rate <= engine.config.train.lr for rate in rates)


@pytest.mark.parametrize(("scaling", "factor"), [("linear", 4), ("sqrt", 2), ("none", 1)])
def test_the_learning_rate_grows_with_the_trainers(make_engine, scaling, factor):
    engine = make_engine(emulate="2x1x2", train__lr=1e-3, train__lr_scaling=scaling)
    group = engine.optimizers()[0].param_groups[0]
    assert group["lr"] == pytest.approx(factor * 1e-3)
    assert group["betas"] == pytest.approx((0.6, 0.996) if scaling == "sqrt" else (0.9, 0.999))


def test_momentum_that_would_be_negative_is_none():
    assert scaled_adam(1e-3, 64, "sqrt")["betas"] == pytest.approx((0.0, 0.936))
    assert scaled_adam(1e-3, 1, "sqrt") == {"lr": 1e-3, "betas": pytest.approx((0.9, 0.999)), "eps": 1e-8}
