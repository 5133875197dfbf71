"""Tasks from the command line, and by several processes."""

import json

import pytest
import torch

from tests.runs import TGSCALE, Launch, run_here
from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.train.checkpoint import Checkpointer

SMALL = ["--model.dim", "8", "--sampling.neighbors", "4", "--device", "cpu", "--train.batch-size", "100"]


def test_from_generated_classes_to_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = ["--events", "800", "--nodes", "60", "--edge-classes", "5", "--edge-features", "0"]
    assert run_here(monkeypatch, "data", "generate", "stream", "--out", "data", *sizes) == 0
    assert run_here(monkeypatch, "data", "info", "data") == 0
    assert "classes of events" in capsys.readouterr().out
    options = ["--data", "data", "--run", "run", "--task", "edge-class", "--train.epochs", "1", *SMALL]
    assert run_here(monkeypatch, "train", *options) == 0
    out = capsys.readouterr().out
    for word in ("multi-label edge classification", "F1-micro", "usual class of the pair", "val F1-micro"):
        assert word in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "edge classification"
    assert result["protocol"]["classes"] == 5
    assert {"val", "test", "baselines", "protocol", "train"} <= set(result)
    assert run_here(monkeypatch, "evaluate", "run", "--split", "val") == 0
    assert "val: multi-label edge classification" in capsys.readouterr().out
    (tmp_path / "new.csv").write_text("src,dst,time,kind\n0,50,99999999,2\n")
    assert run_here(monkeypatch, "predict", "run", "--events", "new.csv", "--out", "p.parquet") == 0
    out = capsys.readouterr().out
    assert "1 event classified in" in out
    assert "true classes" not in out
    told = ["--classes", "kind", "--overwrite"]
    assert run_here(monkeypatch, "predict", "run", "--events", "new.csv", "--out", "p.parquet", *told) == 0
    assert "true classes of 1 events: F1-micro" in capsys.readouterr().out
    assert run_here(monkeypatch, "predict", "run", "--events", "new.csv", "--top-k", "3", "--out", "q.parquet") == 2
    assert "--top-k: run was trained for task edge-class" in capsys.readouterr().err


def test_a_task_without_labels_says_how_to_import_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_stream(generate_stream(events=300, nodes=40), "data")
    code = run_here(monkeypatch, "train", "--data", "data", "--run", "run", "--task.labels", "edge_classes", "--task",
               "edge-class", *SMALL)  # fmt: skip
    assert code == 2
    assert "--edge-classes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["2x1x1", "1x2x1", "1x1x2"])
def test_real_trainers_give_the_emulators_numbers(tmp_path, layout):
    save_stream(generate_stream(events=2_000, nodes=100, edge_classes=5), tmp_path / "data")
    options = ["--data", "data", "--task", "edge-class", "--train.lr", "3e-4", "--task.lr", "1e-3", "--quiet"]
    options += ["--train.epochs", "4", "--train.patience", "0", *SMALL]
    for name, how in (("real", ["--workers", "2", "--layout", layout]), ("emulated", ["--emulate", layout])):
        launch = Launch(tmp_path, *TGSCALE, "train", *options, "--run", name, *how)
        assert launch.end() == 0, launch.printed
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("real", "emulated")]
    for part in ("val", "test"):
        for metric, value in results[0][part].items():
            assert value == pytest.approx(results[1][part][metric], abs=0.01), (part, metric)
    real, emulated = (Checkpointer(tmp_path / name / "checkpoints" / "best").load()[1]["model"] for name in
                      ("real", "emulated"))  # fmt: skip
    for name, weight in real.items():
        torch.testing.assert_close(weight, emulated[name], rtol=0.02, atol=2e-3)
