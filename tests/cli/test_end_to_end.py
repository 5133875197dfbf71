"""The commands as a user runs them, each in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tgscale.train.checkpoint import Checkpointer

TGSCALE = [sys.executable, "-c", "from tgscale.cli import main; main()"]
TRAIN = ["train", "--data", "data", "--train.epochs", "3", "--device", "cpu", "--threads", "1", "--quiet"]


def tgscale(folder: Path, *argv: str) -> str:
    done = subprocess.run([*TGSCALE, *argv], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_after_the_first_epoch(folder: Path, run: str) -> None:
    process = subprocess.Popen([*TGSCALE, *TRAIN, "--run", run], cwd=folder)
    deadline = time.monotonic() + 250
    while not Checkpointer(folder / run / "checkpoints" / "epochs").steps():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def without_clock(value):
    """A result without what depends on when and how fast it was made."""
    volatile = {"seconds", "seconds_per_epoch", "events_per_second", "val_seconds", "peak_memory_bytes", "environment"}
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if key not in volatile}
    return value


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    tgscale(tmp_path, "data", "generate", "stream", "--out", "data", "--events", "5000", "--nodes", "300")
    tgscale(tmp_path, *TRAIN, "--run", "whole")
    kill_after_the_first_epoch(tmp_path, "broken")
    assert not (tmp_path / "broken" / "result.json").exists()
    tgscale(tmp_path, "train", "--resume", "broken")

    results = [json.loads((tmp_path / run / "result.json").read_text()) for run in ("whole", "broken")]
    assert without_clock(results[0]) == without_clock(results[1])
    logs = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("whole", "broken")]
    epochs = [[without_clock(json.loads(line)) for line in log] for log in logs]
    assert [line["epoch"] for line in epochs[0]] == [1, 2, 3]
    assert epochs[0] == epochs[1]
    for kind in ("best", "epochs"):
        (step, state), (other_step, other) = (
            Checkpointer(tmp_path / run / "checkpoints" / kind).load() for run in ("whole", "broken")
        )
        assert step == other_step
        assert state["model"].keys() == other["model"].keys()
        assert all(torch.equal(tensor, other["model"][name]) for name, tensor in state["model"].items())

    printed = json.loads(tgscale(tmp_path, "evaluate", "broken", "--json"))
    assert printed["metrics"] == results[0]["test"]


@pytest.mark.slow
def test_two_runs_may_not_share_a_directory(tmp_path):
    tgscale(tmp_path, "data", "generate", "stream", "--out", "data", "--events", "2000", "--nodes", "300")
    tgscale(tmp_path, *TRAIN, "--run", "a", "--train.epochs", "1")
    again = subprocess.run([*TGSCALE, *TRAIN, "--run", "a"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 5
    assert again.stderr == "tgscale: a already holds a run: go on with it by --resume, or give another --run.\n"
