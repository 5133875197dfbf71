"""A captured step: on a CPU the same step into tensors that stay; on a GPU the replay gives what the eager one does."""

import pytest
import torch

from tgscale.data.snapshot_store import open_snapshots
from tgscale.errors import ConfigError
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.captured import CapturedExecutor
from tgscale.snapshot.executors.serial import SerialExecutor
from tgscale.snapshot.trainer import train_snapshots
from tgscale.train.trace import Trace

GROUPS = [5, 2, 9, 0]


@pytest.fixture
def make_engine(make_config):
    def make(device="cpu", **changes):
        config = make_config(**changes)
        return SnapshotEngine(config, open_snapshots(config.data), device)

    return make


def steps_of(engine, make, steps=3):
    """Losses and weights of some steps of plain descent, in place, on the same groups."""
    executor = make(engine, Trace())
    parameters = list(engine.modules.parameters())
    gradient = torch.zeros(sum(p.numel() for p in parameters), device=engine.device)
    losses = []
    for step in range(steps):
        gradient.zero_()
        losses.append(executor.run(GROUPS, step, 0.1 * (step + 1), gradient).loss)
        with torch.no_grad():
            for p, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
                p -= 0.01 * part.view_as(p)
    executor.close()
    return losses, torch.cat([p.detach().flatten() for p in parameters])


@pytest.mark.parametrize("model", ["tgcn", "a3tgcn", "lrgcn", "evolvegcn_o", "evolvegcn_h"])
def test_a_fixed_step_is_the_eager_step(make_engine, model):
    eager, weights = steps_of(make_engine(model=model, task="regression"), SerialExecutor)
    fixed, weights_too = steps_of(make_engine(model=model, task="regression"), CapturedExecutor)
    assert eager == fixed
    assert len(set(eager)) == 3
    assert torch.equal(weights, weights_too)


def test_results_stay_where_they_are(make_engine):
    """What a replay needs: the same memory at each use."""
    engine = make_engine(task="regression")
    executor = CapturedExecutor(engine, Trace())
    where = executor.gradient.data_ptr(), executor.loss.data_ptr(), executor.scale.data_ptr()
    gradient = torch.zeros_like(executor.gradient)
    executor.run(GROUPS, 0, 1.0, gradient)
    assert set(executor.steps) == set(GROUPS)
    assert (executor.gradient.data_ptr(), executor.loss.data_ptr(), executor.scale.data_ptr()) == where


def test_what_differs_from_step_to_step_is_refused(make_engine):
    with pytest.raises(ConfigError, match="batch statistics"):
        CapturedExecutor(make_engine(model="mpnn_lstm", task="regression"), Trace())
    with pytest.raises(ConfigError, match="draws other edges"):
        CapturedExecutor(make_engine(task="link"), Trace())


def test_what_the_host_lays_out_is_refused_on_a_gpu(make_engine, monkeypatch):
    engine = make_engine(model="lrgcn", task="regression")
    monkeypatch.setattr(engine, "device", torch.device("cuda"))
    with pytest.raises(ConfigError, match="aggregates in each group"):
        CapturedExecutor(engine, Trace())


def test_a_run_with_it_is_the_run_without(make_config, tmp_path):
    names = ("serial", "graph")
    runs = [train_snapshots(make_config(run=tmp_path / name, executor=name, task="regression")) for name in names]
    assert runs[0]["test"] == runs[1]["test"]
    assert runs[1]["train"]["executor"] == "graph"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("model", ["tgcn", "a3tgcn", "evolvegcn_o"])
def test_a_replay_is_the_eager_step(make_engine, model):
    eager, weights = steps_of(make_engine("cuda", model=model, task="regression"), SerialExecutor)
    replayed, weights_too = steps_of(make_engine("cuda", model=model, task="regression"), CapturedExecutor)
    torch.testing.assert_close(torch.tensor(eager), torch.tensor(replayed))
    torch.testing.assert_close(weights, weights_too)
