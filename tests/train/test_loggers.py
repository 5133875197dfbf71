"""Trackers: fakes that note what they are told, and the real ones where they are installed."""

import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from tests.runs import run_here
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream
from tgscale.errors import ConfigError
from tgscale.stream.loop import TrainingLoop
from tgscale.train import loggers
from tgscale.train.interrupt import Stopped
from tgscale.train.loggers import LogConfig, Tracker, check_loggers, start_loggers

OPTIONS = {
    "stream": ["--train.epochs", "2", "--model.dim", "8", "--train.batch-size", "50", "--train.patience", "0"],
    "slides": ["--train.epochs", "2", "--window", "4", "--net.hidden", "4", "--executor", "serial"],
}


class Fake:
    """Notes what it is told; several of one id share their notes."""

    runs: ClassVar[dict[str, list]] = {}

    def __init__(self, config, run, options, id):
        self.id = id or f"run-{len(self.runs)}"
        self.notes = self.runs.setdefault(self.id, [])
        self.notes.append(("start", config.project, Path(run).name, options["seed"]))

    def log(self, kind, values, iteration):
        self.notes.append((kind, values, iteration))

    def finish(self, result):
        self.notes.append(("finish", result["test"]))

    def close(self, done):
        self.notes.append(("close", done))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(Fake, "runs", {})
    monkeypatch.setitem(loggers.LOGGERS, "mlflow", Tracker("json", Fake))
    return Fake


@pytest.fixture
def tgscale(monkeypatch, tmp_path):
    """Runs a command in this process; its exit code."""
    monkeypatch.chdir(tmp_path)
    save_stream(generate_stream(events=300, nodes=40, edge_features=0), tmp_path / "stream")
    save_snapshots(generate_snapshots(nodes=60, snapshots=16, edges=80, features=2), tmp_path / "slides")

    return partial(run_here, monkeypatch)


def train(kind, *more):
    return ["train", "--data", kind, "--run", "r", "--device", "cpu", "--quiet", *OPTIONS[kind], *more]


@pytest.mark.parametrize("kind", ["stream", "slides"])
def test_a_tracker_is_told_all_that_the_directory_holds(tgscale, fake, kind):
    assert tgscale(*train(kind, "--log", "mlflow", "--log.project", "mine")) == 0
    (notes,) = fake.runs.values()
    assert notes[0] == ("start", "mine", "r", 0)
    lines = [json.loads(line) for line in Path("r/metrics.jsonl").read_text().splitlines()]
    logged = [note for note in notes if note[0] == "epoch"]
    assert [iteration for *_, iteration in logged] == [line["iteration"] for line in lines]
    for (_, values, _), line in zip(logged, lines, strict=True):
        assert values == {name: float(line[name]) for name in values}
        assert {"loss", "seconds"} <= values.keys()
    assert notes[-2] == ("finish", json.loads(Path("r/result.json").read_text())["test"])
    assert notes[-1] == ("close", True)


def test_a_resumed_run_goes_on_in_the_same_logged_run(tgscale, fake, monkeypatch):
    real = TrainingLoop.step

    def stopping(self):
        if self.iteration == 6:
            raise Stopped(2)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "step", stopping)
        assert tgscale(*train("stream", "--log", "mlflow")) == 130
    assert tgscale("train", "--resume", "r") == 0
    (notes,) = fake.runs.values()
    assert [note for note in notes if note[0] in ("start", "close")] == [
        ("start", "tgscale", "r", 0),
        ("close", False),
        ("start", "tgscale", "r", 0),
        ("close", True),
    ]
    assert [iteration for kind, _, iteration in (n for n in notes if n[0] == "epoch")] == [5, 10]


def test_what_is_not_installed_or_unknown_is_refused_before_the_work(tgscale, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(loggers.LOGGERS, "wandb", Tracker("no_such_package", Fake))
    assert tgscale(*train("stream", "--log", "wandb")) == 2
    assert "--log wandb needs the package no_such_package: pip install no_such_package" in capsys.readouterr().err
    assert tgscale(*train("slides", "--log", "wandb")) == 2
    assert tgscale(*train("stream", "--log", "mlfow")) == 2
    assert "Did you mean mlflow?" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_tracker_that_cannot_begin_is_refused_and_leaves_nothing(tgscale, monkeypatch, capsys, tmp_path):
    def broken(*_):
        raise OSError("no route to host")

    monkeypatch.setitem(loggers.LOGGERS, "mlflow", Tracker("json", broken))
    assert tgscale(*train("stream", "--log", "mlflow")) == 2
    assert "--log mlflow cannot begin (OSError: no route to host)" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_tracker_that_breaks_later_does_not_end_the_run(tgscale, fake, monkeypatch, caplog):
    def broken(self, *_):
        raise OSError("gone")

    monkeypatch.setattr(Fake, "log", broken)
    assert tgscale(*train("stream", "--log", "mlflow")) == 0
    assert caplog.text.count("mlflow does not take what is logged") == 1
    assert Path("r/result.json").exists()


def test_names():
    check_loggers(LogConfig())
    check_loggers(LogConfig(to="tensorboard"))
    with pytest.raises(ConfigError, match="choose some of mlflow, wandb"):
        check_loggers(LogConfig(to="comet"))


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_the_real_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # of MLflow 3; a server or sqlite: would do as well
    from mlflow.tracking import MlflowClient

    uri = f"file:{tmp_path}/store"
    config = LogConfig(to="mlflow", tracking_uri=uri, name="mine")
    for iteration in (1, 2):  # the second goes on with the first
        (each,) = start_loggers(config, tmp_path, {"model": {"dim": 8}})
        each.log("epoch", {"loss": 0.5, "val_hits@10": 0.25}, iteration)
        each.finish({"test": {"mrr": 0.75, "mrr_new_nodes": None}})
        each.close(done=iteration == 2)
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tgscale").experiment_id])
    assert run.info.run_name == "mine"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.dim": "8"}
    assert run.data.metrics == {"epoch/loss": 0.5, "epoch/val_hits_at_10": 0.25, "test.mrr": 0.75}
    assert [point.step for point in client.get_metric_history(run.info.run_id, "epoch/loss")] == [1, 2]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_wandb_offline(tmp_path):
    config = LogConfig(to="wandb", offline=True)
    for iteration in (1, 2):
        (each,) = start_loggers(config, tmp_path, {"seed": 0})
        each.log("epoch", {"loss": 0.5}, iteration)
        each.finish({"test": {"mrr": 0.75}})
        each.close(done=True)
    ids = json.loads((tmp_path / "loggers.json").read_text())
    written = list((tmp_path / "wandb").glob("offline-run-*"))
    assert written
    assert all(folder.name.endswith(ids["wandb"]) for folder in written)
