"""Two workers give the bits of one, and end when something breaks."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tgscale.data.snapshot_store import open_snapshots
from tgscale.errors import ConfigError, RunError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors import calibrate as module
from tgscale.snapshot.executors import make_executor
from tgscale.snapshot.executors.calibrate import EXECUTORS, choose_executor
from tgscale.snapshot.trainer import train_snapshots
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace


@pytest.fixture
def make_engine(make_config):
    def make(**changes):
        config = make_config(**changes)
        return SnapshotEngine(config, open_snapshots(config.data))

    return make


def gradient_of(engine, name, groups, trace=None):
    executor = EXECUTORS[name](engine, trace or Trace())
    gradient = torch.zeros(sum(p.numel() for p in engine.modules.parameters()))
    try:
        outcome = executor.run(groups, 1, 0.5, gradient)
        again = torch.zeros_like(gradient)
        executor.run(groups[::-1], 1, 0.5, again)
    finally:
        executor.close()
    assert torch.equal(gradient, again)  # in whatever order
    assert sorted(each.group for each in outcome.times) == sorted(groups)
    return gradient, outcome


@pytest.mark.parametrize("task", ["regression", "link"])
@pytest.mark.parametrize("model", ["tgcn", "lrgcn", "evolvegcn_h"])
def test_threads_give_the_same_bits(make_engine, model, task):
    engine = make_engine(model=model, task=task)
    one, told = gradient_of(engine, "serial", [5, 2, 9, 0, 7])
    trace = Trace(record=True)
    two, told_too = gradient_of(engine, "streams", [5, 2, 9, 0, 7], trace)
    assert torch.equal(one, two)
    assert told.loss == told_too.loss
    assert one.abs().sum() > 0
    names: dict[str, set[str]] = {}
    for event in trace.events():
        names.setdefault(event["tid"].rstrip(" 01"), set()).add(event["name"])
    assert names == {"trainer": {"wait for workers"}, "worker": {"graph", "nn", "backward", "wait for work"}}


def test_the_gradient_is_that_of_the_scaled_sum(make_engine):
    engine = make_engine()
    found, outcome = gradient_of(engine, "serial", [1, 3])
    loss = engine.loss(1, 1) + engine.loss(3, 1)
    (0.5 * loss).backward()
    torch.testing.assert_close(found, torch.cat([p.grad.flatten() for p in engine.modules.parameters()]))
    assert outcome.loss == pytest.approx(float(loss.detach()))


def test_an_error_in_a_thread_is_raised_and_ends_both(make_engine, monkeypatch):
    engine = make_engine()
    ahead = engine.ahead
    monkeypatch.setattr(engine, "ahead", lambda group, epoch: ahead(group, epoch) if group != 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gradient_of(engine, "streams", [1, 3, 5])


def test_models_with_statistics_are_refused(make_engine):
    engine = make_engine(model="mpnn_lstm")
    for name in ("streams", "processes"):
        with pytest.raises(ConfigError, match="executor serial"):
            EXECUTORS[name](engine, Trace())
    choice = choose_executor(make_engine(model="mpnn_lstm", train__epochs=10**6), 1, 1)
    assert choice.name == "serial"


def test_nothing_is_tried_where_there_is_nothing_to_choose(make_engine, monkeypatch):
    assert "one group" in choose_executor(make_engine(groups_per_step=1), 1, 1).why
    why = choose_executor(make_engine(), 1, 1).why
    assert re.fullmatch(r"one worker, as training takes about \d\.\d s, too little for trying others to pay", why)
    assert "one group at a time" in choose_executor(make_engine(partition="vertex"), 2, 2).why
    monkeypatch.setattr(module, "_cores", lambda: 1)
    assert "core" in choose_executor(make_engine(train__epochs=10**6), 1, 1).why


def test_the_fastest_is_taken_and_weights_stay(make_engine, monkeypatch):
    engine = make_engine(train__epochs=10**6)
    before = [p.clone() for p in engine.modules.parameters()]
    monkeypatch.setattr(module, "_cores", lambda: 2)
    monkeypatch.setattr(module, "WORTH_PROCESSES", float("inf"))
    executor, choice = make_executor("auto", engine, Trace(), Ranks())
    executor.close()
    assert set(choice.seconds) == {"serial", "streams"}
    assert executor.name == choice.name
    assert all(torch.equal(a, b) for a, b in zip(before, engine.modules.parameters(), strict=True))
    for fake, best in (({"serial": 1.0, "streams": 0.5}, "streams"), ({"serial": 1.0, "streams": 0.99}, "serial")):
        monkeypatch.setattr(module, "_time", lambda make, *rest, fake=fake: fake[make.name])
        assert choose_executor(engine, 1, 1).name == best


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_give_the_same_bits_and_leave_nothing(make_engine):
    engine = make_engine(task="link")
    shared = set(os.listdir("/dev/shm"))
    one, _ = gradient_of(engine, "serial", [5, 2, 9, 0])
    two, told = gradient_of(engine, "processes", [5, 2, 9, 0])
    assert torch.equal(one, two)
    assert {each.worker for each in told.times} == {0, 1}
    assert set(os.listdir("/dev/shm")) <= shared


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_worker_ends_the_run_in_words(make_engine):
    engine = make_engine()
    executor = EXECUTORS["processes"](engine, Trace())
    gradient = torch.zeros(sum(p.numel() for p in engine.modules.parameters()))
    executor.run([0, 1, 2], 0, 1.0, gradient)
    victim = executor.processes[1]
    os.kill(victim.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(RunError, match=rf"worker 1 \(process {victim.pid}\) was killed by SIGKILL"):
        executor.run([0, 1, 2], 0, 1.0, gradient)
    executor.close()
    assert time.monotonic() - began < 30
    assert not any(process.is_alive() for process in executor.processes)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_with_processes_equals_a_serial_one(make_config, tmp_path):
    results = [
        train_snapshots(make_config(executor=name, run=tmp_path / name, profile=True))
        for name in ("serial", "processes")
    ]
    assert results[0]["test"] == results[1]["test"]
    assert results[1]["train"]["executor"] == "processes"
    children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
    names = [path.read_text() for path in (Path(f"/proc/{pid}/cmdline") for pid in children) if path.exists()]
    assert not any("spawn_main" in name for name in names)
