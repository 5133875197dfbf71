"""Whole runs: what they write, that they learn, and that they go on where they were cut."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DivergedError, RunError
from tgscale.snapshot import trainer as module
from tgscale.snapshot.config import replace
from tgscale.snapshot.loop import SnapshotLoop
from tgscale.snapshot.trainer import evaluate_snapshots, load_config, train_snapshots


def weights_of(run):
    from tgscale.train.checkpoint import Checkpointer

    return Checkpointer(run / "checkpoints" / "steps").load()[1]["shared"]["modules"]


class Cut(BaseException):
    """Stands for a power failure."""


def cut_after(monkeypatch, steps):
    taken, step = [0], SnapshotLoop.step

    def counted(self):
        if taken[0] == steps:
            raise Cut
        taken[0] += 1
        return step(self)

    monkeypatch.setattr(SnapshotLoop, "step", counted)


@pytest.mark.parametrize("steps", [1, 2, 5, 7])
@pytest.mark.parametrize("model", ["tgcn", "mpnn_lstm"])
def test_a_resumed_run_equals_an_uninterrupted_one(make_config, tmp_path, monkeypatch, model, steps):
    config = make_config(model=model, checkpoint_every=1, train__epochs=3)
    whole = train_snapshots(replace(config, run=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        cut_after(patch, steps)
        with pytest.raises(Cut):
            train_snapshots(replace(config, run=tmp_path / "cut"))
    resumed = train_snapshots(load_config(tmp_path / "cut"), resume=True)
    assert resumed["test"] == whole["test"]
    assert resumed["train"]["iterations"] == whole["train"]["iterations"]
    for name, value in weights_of(tmp_path / "whole").items():
        assert torch.equal(value, weights_of(tmp_path / "cut")[name]), name
    lines = [[json.loads(line) for line in (tmp_path / run / "metrics.jsonl").open()] for run in ("whole", "cut")]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]


def test_what_a_run_writes_and_evaluate_reads(make_config):
    config = make_config()
    result = train_snapshots(config)
    assert json.loads((config.run / "result.json").read_text())["test"] == result["test"]
    assert result["train"]["groups"] == 18
    assert result["train"]["iterations"] == 2 * 4
    again = evaluate_snapshots(config.run, "test", quiet=True)
    assert again["metrics"] == result["test"]
    assert again["baselines"] == result["baselines"]
    with pytest.raises(RunError, match="already holds a run"):
        train_snapshots(config)


def test_regression_learns_what_neighbors_tell(make_config):
    result = train_snapshots(make_config(model="tgcn", train__epochs=30, net__hidden=16, train__patience=0))
    assert result["test"]["rmse"] < 0.9 * result["baselines"]["persistence"]["rmse"]
    assert result["test"]["rmse"] < 0.9 * result["baselines"]["historical average"]["rmse"]


def test_each_validation_is_told_in_a_line(make_config, capsys):
    config = make_config(quiet=False)
    train_snapshots(config)
    told = capsys.readouterr().err.splitlines()
    first = json.loads((config.run / "metrics.jsonl").read_text().splitlines()[0])
    seconds = first["seconds"] + first["val_seconds"]
    words = f"loss {first['loss']:.4g}, val RMSE {first['val_rmse']:.4f} (best so far), {seconds:.1f} s"
    assert f"epoch 1/2: {words}" in told
    assert [line.partition(":")[0] for line in told[-2:]] == ["final pass over val", "test"]
    assert not [line for line in told if line.startswith("val:")]


def test_links_are_learned(make_config):
    result = train_snapshots(make_config(task="link", train__epochs=15))
    assert result["test"]["mrr"] > result["baselines"]["edgebank"]["mrr"] - 0.02


def test_other_options_on_resume_are_refused(make_config, monkeypatch):
    config = make_config()
    with monkeypatch.context() as patch:
        cut_after(patch, 5)
        with pytest.raises(Cut):
            train_snapshots(config)
    with pytest.raises(ConfigError, match="other options"):
        train_snapshots(replace(config, window=3), resume=True)


@pytest.fixture
def labelled(slides, tmp_path):
    """The data of every run here, with two classes of edges."""
    sequence = open_snapshots(slides)
    labels = np.arange(sequence.num_edges) % 2
    save_snapshots(dataclasses.replace(sequence, edge_label=labels), tmp_path / "labelled")
    return tmp_path / "labelled"


def fill_with_nan(monkeypatch, at, epochs_done):
    """Let all weights be NaN when ``SnapshotLoop.<at>`` has been called after so many epochs."""
    method = getattr(SnapshotLoop, at)

    @torch.no_grad()
    def poisoned(self):
        out = method(self)
        if self.epoch == epochs_done:
            for weight in self.engine.modules.parameters():
                weight.fill_(float("nan"))
        return out

    monkeypatch.setattr(SnapshotLoop, at, poisoned)


@pytest.mark.parametrize(
    ("at", "epochs_done", "what"),
    [("begin_epoch", 1, "the loss is nan"), ("end_epoch", 2, "a score of validation is NaN")],
)
@pytest.mark.parametrize("task", ["regression", "link", "edge"])
def test_a_model_that_diverged_is_refused_and_the_best_before_it_kept(
    make_config, labelled, tmp_path, monkeypatch, task, at, epochs_done, what
):
    config = make_config(data=labelled, task=task, train__epochs=4, train__schedule="constant", checkpoint_every=1)
    first = train_snapshots(replace(config, run=tmp_path / "first", train__epochs=1))
    with monkeypatch.context() as patch:
        fill_with_nan(patch, at, epochs_done)
        with pytest.raises(DivergedError, match=rf"at epoch 2: {what}\. .*of epoch 1, are kept in .*run/.*best\. .*lr"):
            train_snapshots(config)
    assert evaluate_snapshots(config.run, quiet=True)["metrics"] == first["test"]
    assert not (config.run / "result.json").exists()


def test_a_model_that_diverges_at_once_keeps_nothing(make_config, monkeypatch):
    fill_with_nan(monkeypatch, "begin_epoch", 0)
    with pytest.raises(DivergedError, match=r"diverged at epoch 1: the loss is nan\. No weights were kept"):
        train_snapshots(make_config())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_is_not_the_best(make_config, monkeypatch, value):
    evaluate = module.evaluate_part
    monkeypatch.setattr(module, "evaluate_part", lambda *given, **how: evaluate(*given, **how) | {"rmse": value})
    with pytest.raises(DivergedError, match=f"epoch 1: rmse of validation is {value}"):
        train_snapshots(make_config())


def save_with_gaps(path, empty):
    """Save 20 snapshots of labelled edges, some of them without any."""
    rng = np.random.default_rng(0)
    step = np.repeat([step for step in range(20) if step not in empty], 6)
    (src, dst), label = rng.integers(0, 9, (2, len(step))), rng.integers(0, 2, len(step))
    save_snapshots(SnapshotSequence.from_arrays(step, src, dst, num_nodes=9, num_steps=20, edge_label=label), path)


@pytest.mark.parametrize("task", ["link", "edge"])
@pytest.mark.parametrize(
    ("options", "empty", "message"),
    [
        ({}, range(14), r"the snapshots to train on have no edges \(steps 1 to 13\)"),
        ({}, range(14, 17), r"the snapshots to validate on have no edges \(steps 14 to 16\)"),
        ({}, range(17, 20), r"the snapshots to test on have no edges \(steps 17 to 19\): choose other shares"),
        ({"train__loss_on": "last"}, range(4, 14), r"the snapshots to train on have no edges \(steps 4 to 13\)"),
    ],
)
def test_a_part_without_edges_is_refused_before_the_run(make_config, tmp_path, task, options, empty, message):
    save_with_gaps(tmp_path / "gaps", empty)
    config = make_config(data=tmp_path / "gaps", task=task, **options)
    with pytest.raises(ConfigError, match=message):
        train_snapshots(config)
    assert not config.run.exists()


@pytest.mark.parametrize("task", ["link", "edge"])
def test_some_snapshots_of_a_part_may_have_no_edges(make_config, tmp_path, task):
    save_with_gaps(tmp_path / "gaps", empty=range(0, 20, 2))
    assert train_snapshots(make_config(data=tmp_path / "gaps", task=task))["train"]["epochs"] == 2


def test_the_cost_of_groups_is_fitted_and_said(make_config):
    assert train_snapshots(make_config(train__epochs=1))["train"]["cost_of_groups"] is None
    config = make_config(costs="measured", train__epochs=1)
    fitted = train_snapshots(replace(config, run=config.run / "other"))["train"]["cost_of_groups"]
    assert len(fitted["coefficients"]) == 5
    assert fitted["groups"] == 18
    assert max(fitted["coefficients"]) > 0


def test_profile_writes_a_timeline(make_config):
    config = make_config(profile=True, train__epochs=1)
    train_snapshots(config)
    events = json.loads((config.run / module.TIMELINE).read_text())["traceEvents"]
    assert {"graph", "nn", "backward", "optimizer"} <= {event["name"] for event in events}
