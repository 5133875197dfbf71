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
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import SnapshotData

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


def sparse_sequence(nodes=900, steps=W + 2, edges=40, seed=0, levels=2):
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
