import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tgscale.errors import RunError
from tgscale.train import rundir
from tgscale.train.rundir import RunDirectory

CONFIG = {"data": "data/x", "train": {"lr": 0.001, "epochs": 3}, "window": None}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def with_one_epoch(path: Path) -> Path:
    with RunDirectory.create(path, CONFIG) as run:
        run.log("epoch", iteration=1, loss=0.5)
    return path


def test_a_new_run_holds_config_and_environment(tmp_path):
    path = tmp_path / "runs" / "a"
    with RunDirectory.create(path, CONFIG) as run:
        assert run.checkpoints == RunDirectory.checkpoints_of(path) == path / "checkpoints"
        assert run.checkpoints.is_dir()
        run.write_result({"test": {"mrr": 0.9}})
    assert yaml.safe_load((path / "config.yaml").read_text()) == RunDirectory.read_config(path) == CONFIG
    assert json.loads((path / "environment.json").read_text())["torch"]
    assert json.loads((path / "result.json").read_text()) == {"test": {"mrr": 0.9}}


def test_an_existing_run_is_refused(tmp_path):
    path = with_one_epoch(tmp_path / "a")
    with pytest.raises(RunError, match=r"already holds a run: go on with it by --resume, or give another --run"):
        RunDirectory.create(path, {"other": 1})
    assert RunDirectory.read_config(path) == CONFIG


def test_a_run_with_a_checkpoint_alone_is_refused_too(tmp_path):
    run = RunDirectory.create(tmp_path / "a", CONFIG)
    (run.checkpoints / "step-1").mkdir()
    (run.checkpoints / "step-1" / "state.json").write_text("{}")
    run.close()
    with pytest.raises(RunError, match="already holds a run"):
        RunDirectory.create(tmp_path / "a", CONFIG)


def test_a_run_that_never_got_anywhere_is_taken_over(tmp_path):
    RunDirectory.create(tmp_path / "a", {"first": 1}).close()
    RunDirectory.create(tmp_path / "a", {"second": 2}).close()
    assert RunDirectory.read_config(tmp_path / "a") == {"second": 2}


def test_an_empty_directory_is_accepted_and_a_foreign_one_refused(tmp_path):
    RunDirectory.create(tmp_path, CONFIG).close()
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("x")
    with pytest.raises(RunError, match=r"not empty \(it holds chapter1\.tex\)"):
        RunDirectory.create(foreign, CONFIG)
    assert (foreign / "chapter1.tex").read_text() == "x"


def test_a_file_and_a_place_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(RunError, match="is a file"):
        RunDirectory.create(file, CONFIG)
    with pytest.raises(RunError, match=r"cannot be written \(Not a directory\)"):
        RunDirectory.create(file / "below", CONFIG)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(RunError, match=r"cannot be written \(Permission denied\)"):
        RunDirectory.create(tmp_path / "a", CONFIG)


def test_a_second_live_run_is_refused_and_the_lock_ends_with_the_first(tmp_path):
    with RunDirectory.create(tmp_path / "a", CONFIG) as run:
        run.log("epoch", iteration=1)
        with pytest.raises(RunError, match="in use"):
            RunDirectory.open(tmp_path / "a")
        with pytest.raises(RunError, match="in use"):
            RunDirectory.create(tmp_path / "a", CONFIG)
    RunDirectory.open(tmp_path / "a").close()


def test_the_lock_vanishes_with_a_killed_process(tmp_path):
    code = (
        "import sys, time\n"
        "from tgscale.train.rundir import RunDirectory\n"
        "run = RunDirectory.create(sys.argv[1], {})\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(RunError, match="in use"):
            RunDirectory.open(tmp_path / "a")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    RunDirectory.open(tmp_path / "a").close()


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no") as caught, RunDirectory.create(tmp_path / "a", CONFIG):
        raise ValueError("no")
    assert not (tmp_path / "a").exists()
    assert "a held nothing worth keeping yet and was removed" in caught.value.__notes__[0]


def test_a_run_that_fails_later_keeps_what_it_has(tmp_path):
    def fail():
        with RunDirectory.create(tmp_path / "a", CONFIG) as run:
            run.log("epoch", iteration=1, loss=0.5)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert lines(tmp_path / "a") == [{"kind": "epoch", "iteration": 1, "loss": 0.5}]
    assert RunDirectory.read_config(tmp_path / "a") == CONFIG


def test_a_failed_resume_removes_nothing(tmp_path):
    RunDirectory.create(tmp_path / "a", CONFIG).close()
    with pytest.raises(ValueError, match="no"), RunDirectory.open(tmp_path / "a"):
        raise ValueError("no")
    assert RunDirectory.read_config(tmp_path / "a") == CONFIG


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.open(tmp_path / "missing")
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(RunError, match="cannot be read"):
        RunDirectory.read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("- 1")
    with pytest.raises(RunError, match="holds no mapping"):
        RunDirectory.read_config(tmp_path)


def test_metrics_are_flushed_and_plain_json(tmp_path):
    with RunDirectory.create(tmp_path / "a", CONFIG) as run:
        run.log("epoch", iteration=1, loss=float("nan"), mrr=0.5, path=Path("x"), rates=(1, 2))
        expected = {"kind": "epoch", "iteration": 1, "loss": None, "mrr": 0.5, "path": "x", "rates": [1, 2]}
        assert lines(tmp_path / "a") == [expected]


def test_scalars_reach_tensorboard(tmp_path):
    with RunDirectory.create(tmp_path / "a", CONFIG) as run:
        run.log("epoch", iteration=1, loss=0.5, note="text", better=True)
        run.log("epoch", iteration=2, loss=0.25)
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["epoch/loss"]
    assert [(e.step, e.value) for e in events.Scalars("epoch/loss")] == [(1, 0.5), (2, 0.25)]


def test_resuming_drops_later_and_broken_lines(tmp_path):
    with RunDirectory.create(tmp_path / "a", CONFIG) as run:
        run.log("static", loss=0.1)
        for epoch in (1, 2, 3):
            run.log("epoch", iteration=epoch, loss=float(epoch))
    with open(tmp_path / "a" / "metrics.jsonl", "a") as file:
        file.write('{"kind": "epoch", "epo')  # a crash in the middle of a line
    with RunDirectory.open(tmp_path / "a") as run:
        run.truncate_metrics(1)
        run.log("epoch", iteration=2, loss=20.0)
    assert [(line["kind"], line.get("iteration"), line["loss"]) for line in lines(tmp_path / "a")] == [
        ("static", None, 0.1),
        ("epoch", 1, 1.0),
        ("epoch", 2, 20.0),
    ]
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("epoch/loss")] == [(1, 1.0), (2, 20.0)]


def test_a_killed_writer_leaves_the_old_result_or_the_new(tmp_path):
    with RunDirectory.create(tmp_path / "a", CONFIG) as run:
        run.write_result({"mrr": 1})

        def die_in_the_middle():
            rundir.write_atomically.__globals__["os"].replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            run.write_result({"mrr": 2})

        process = multiprocessing.get_context("fork").Process(target=die_in_the_middle)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == {"mrr": 1}
