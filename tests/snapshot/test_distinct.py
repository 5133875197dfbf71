"""Distinct rows and states: the same numbers and gradients as all nodes one by one, in float64."""

import numpy as np
import pytest
import torch

from tgscale.data.snapshots import SnapshotSequence
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.gconv_gru import GConvGRU
from tgscale.models.lrgcn import LRGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.tgcn import TGCN
from tgscale.snapshot.config import SnapshotConfig, replace
from tgscale.snapshot.engine import SnapshotEngine
from tgscale.snapshot.executors.calibrate import EXECUTORS
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import SnapshotData
from tgscale.train.trace import Trace

F, C, W = 2, 4, 5
MODELS = {
    "tgcn": lambda: TGCN(F, C),
    "a3tgcn": lambda: A3TGCN(F, C, W),
    "a3tgcn-compat": lambda: A3TGCN(F, C, W, compat=True),
    "lrgcn": lambda: LRGCN(F, C, 2),
    "lrgcn-bases": lambda: LRGCN(F, C, 2, bases=3),
    "gclstm-1": lambda: GCLSTM(F, C, 1),
    "gclstm": lambda: GCLSTM(F, C, 2),
    "gclstm-3": lambda: GCLSTM(F, C, 3),
    "gconv_gru": lambda: GConvGRU(F, C, 2),
    "evolvegcn_o": lambda: EvolveGCN(F, C, "O"),
    "mpnn_lstm": lambda: MPNNLSTM(F, C, W),
}
SHARED = {"tgcn", "a3tgcn", "a3tgcn-compat", "lrgcn", "lrgcn-bases", "gclstm-1", "gclstm"}


def sparse_sequence(nodes=900, steps=W + 2, edges=40, seed=0, levels=2, **columns):
    """Few edges between few of the nodes, features of few levels: many nodes cannot differ."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, nodes // 4, (2, steps * edges))
    return SnapshotSequence.from_arrays(
        np.repeat(np.arange(steps), edges),
        *ends,
        edge_weight=rng.integers(1, 3, steps * edges).astype(np.float32),
        edge_type=rng.integers(0, 2, steps * edges),
        num_nodes=nodes,
        node_features=(rng.integers(0, levels, (steps, nodes, F)) * (np.arange(nodes) < nodes // 3)[:, None]).astype(
            np.float32
        ),
        **columns,
    )


def outcome(run, model):
    torch.manual_seed(1)
    model.zero_grad()
    out = run()
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_shared_rows_equal_the_reference(name, threads, monkeypatch):
    monkeypatch.setattr("tgscale.graph.parallel.ITEMS_PER_THREAD", 2**31 if threads == 1 else 8)
    torch.manual_seed(0)
    model, data = MODELS[name]().double(), SnapshotData(sparse_sequence(), dtype=torch.float64)
    plan, view = Plan(model), data.group(1, W)
    plan.keep(data.whole())
    assert (plan.sharing(view) is not None) == (name in SHARED)
    expected = outcome(lambda: model(view.x, view.at), model)
    found = outcome(lambda: plan.run(view), model)
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["tgcn", "a3tgcn-compat", "lrgcn", "mpnn_lstm"])
def test_what_is_wanted_of_each_embedding_is_computed_on_distinct_ones(name):
    torch.manual_seed(0)
    model, data = MODELS[name]().double(), SnapshotData(sparse_sequence(), dtype=torch.float64)
    head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(model.out_dim, 3)).double()
    both = torch.nn.ModuleList([model, head])
    plan, view, seen = Plan(model), data.group(0, W), []
    plan.keep(data.whole())
    expected = outcome(lambda: head(plan.run(view)), both)
    found = outcome(lambda: plan.run(view, then=lambda h: head(seen.append(h.shape) or h)), both)
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-11)
    rows, all_rows = seen[0][:-1].numel(), expected[0].numel() // 3
    assert (rows < all_rows) == (name in ("tgcn", "lrgcn"))


def test_data_that_do_not_repeat_are_not_shared():
    rng = np.random.default_rng(0)
    sequence = SnapshotSequence.from_arrays(
        np.arange(4),
        *rng.integers(0, 50, (2, 4)),
        edge_type=np.arange(4) % 2,
        num_nodes=50,
        node_features=rng.normal(size=(4, 50, F)),
    )
    data = SnapshotData(sequence, dtype=torch.float64)
    for name in SHARED:
        plan = Plan(MODELS[name]().double())
        plan.keep(data.whole())
        assert plan.sharing(data.group(0, 3)) is None


def test_altered_data_are_not_looked_up():
    model, data = GCLSTM(F, C, 2), SnapshotData(sparse_sequence())
    plan, view = Plan(model), data.group(0, W)
    plan.keep(data.whole())
    assert plan.sharing(view)
    data.x[0, 0] += 1
    assert plan.sharing(view) is None
    torch.testing.assert_close(plan.run(view), model(view.x, view.at))
    plan.keep(data.whole())
    torch.testing.assert_close(plan.run(view), model(view.x, view.at))


def test_indices_are_bounded(monkeypatch):
    plan, data = Plan(TGCN(F, C)), SnapshotData(sparse_sequence())
    plan.keep(data.whole())
    first = plan.sharing(data.group(0, W))
    assert first
    assert first.num_bytes > first.index.nbytes
    monkeypatch.setattr("tgscale.snapshot.distinct.MOST_BYTES", first.num_bytes)
    assert plan.sharing(data.group(1, W)) is None
    assert plan.sharing(data.group(0, W)) is first


@pytest.mark.parametrize("executor", ["serial", "streams", "graph"])
@pytest.mark.parametrize(("model", "loss_on"), [("tgcn", "all"), ("lrgcn", "last"), ("a3tgcn", "all")])
def test_training_steps_are_the_same_with_it_and_without(model, loss_on, executor, tmp_path):
    steps = 12
    target = np.random.default_rng(1).normal(size=(steps, 900, 1)).astype(np.float32)
    sequence = sparse_sequence(steps=steps, target=target)
    results = []
    for distinct in (True, False):
        config = SnapshotConfig(tmp_path, tmp_path, model=model, task="regression", window=3)
        config = replace(config, plan__distinct=distinct, net__hidden=4, net__residual=True, train__loss_on=loss_on)
        engine = SnapshotEngine(config, sequence, dtype=torch.float64)
        assert (engine.plan.sharing(engine.data.group(0, 3)) is not None) == distinct
        gradient = torch.zeros(sum(p.numel() for p in engine.modules.parameters()), dtype=torch.float64)
        worker = EXECUTORS[executor](engine, Trace())
        results.append((worker.run([2, 0, 1], 0, 0.5, gradient).loss, gradient))
        worker.close()
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-10)
