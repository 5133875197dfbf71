"""A sequence on a device: planned and fused runs of every model against its reference, on real sparse kernels."""

import numpy as np
import pytest
import torch

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.nn.program import Program, aggregate, dropout
from tgscale.snapshot.describe import notes
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.tensors import SnapshotData, width_of_features

from .test_plan import MODELS, F, outcome

W = 5


def random_sequence(steps=9, nodes=11, edges=25, seed=0, static=False) -> SnapshotSequence:
    rng = np.random.default_rng(seed)
    step = np.repeat(np.arange(1 if static else steps), edges)
    src, dst = rng.integers(0, nodes, (2, len(step)))
    return SnapshotSequence.from_arrays(
        step,
        src,
        dst,
        num_nodes=nodes,
        num_steps=steps,
        graph_of=np.zeros(steps, int) if static else None,
        edge_weight=rng.random(len(step)).astype(np.float32),
        edge_type=rng.integers(0, 2, len(step)),
        node_features=rng.normal(size=(steps, nodes, F)).astype(np.float32),
    )


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("rewrites", [Rewrites.none(), Rewrites()], ids=["as-written", "all"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_plan_on_a_sequence_equals_the_reference(make, rewrites, static):
    torch.manual_seed(0)
    data = SnapshotData(random_sequence(static=static), dtype=torch.float64)
    model, view = make().double(), data.group(3, W)
    expected = outcome(lambda: model(view.x, view.at), model)
    plan = Plan(model, rewrites)
    plan.keep(data.whole())
    for e, f in zip(expected, outcome(lambda: plan.run(view), model), strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


def test_nothing_is_kept_behind_dropout():
    model = MODELS["tgcn"]()

    def with_dropout():
        p = Program()
        p.returns(aggregate("gcn", dropout(p.input("x", F), 0.5)))
        return p

    model.program = with_dropout
    plan = Plan(model)
    assert plan.keep(SnapshotData(random_sequence()).whole()) == 0
    assert "dropout" in " ".join(notes(plan))


def test_nothing_is_kept_under_learned_edge_weights_and_they_get_gradients():
    data = SnapshotData(random_sequence(static=True), dtype=torch.float64)
    model = MODELS["tgcn"]().double()
    adjacency = data.adjacency("gcn")
    model.factor = torch.nn.Parameter(torch.rand(len(adjacency.weight), dtype=torch.float64))

    def learned():
        p = Program()
        p.returns(aggregate("gcn", p.input("x", F), p.parameter("factor", 1)))
        return p

    model.program = learned
    plan = Plan(model)
    assert plan.keep(data.whole()) == 0
    assert "learned" in " ".join(notes(plan))
    out = plan.run(data.group(2, W))
    dense = torch.zeros(11, 11, dtype=torch.float64)
    row = torch.repeat_interleave(torch.arange(11), adjacency.indptr[0].diff().long())
    dense.index_put_((row, adjacency.neighbor.long()), adjacency.weight * model.factor, accumulate=True)
    torch.testing.assert_close(out, dense @ data.group(2, W).x)
    out.sum().backward()
    assert model.factor.grad.abs().sum() > 0


def test_features_that_change_are_not_looked_up():
    data = SnapshotData(random_sequence(), dtype=torch.float64)
    model = MODELS["tgcn"]().double()
    plan = Plan(model)
    assert plan.keep(data.whole()) == data.x.nbytes
    data.x[4] += 1
    with pytest.raises(ValueError, match="keep"):
        plan.run(data.group(3, W))
    plan.keep(data.whole())
    view = data.group(3, W)
    torch.testing.assert_close(plan.run(view), model(view.x, view.at))


def test_learned_features_are_refused_by_the_cache_and_run_without_it():
    data = SnapshotData(random_sequence(), dtype=torch.float64)
    data.x.requires_grad_(True)
    with pytest.raises(ValueError, match="plan without cache"):
        Plan(MODELS["tgcn"]().double()).keep(data.whole())
    plan = Plan(MODELS["tgcn"]().double(), Rewrites(cache=False))
    assert plan.keep(data.whole()) == 0
    plan.run(data.group(0, W)).sum().backward()
    assert data.x.grad[:W].abs().sum() > 0
    assert data.x.grad[W:].abs().sum() == 0


def test_features_by_name():
    seq = random_sequence()
    for wanted, width in (("auto", F), ("given", F), ("degree", 2), ("both", F + 2)):
        assert SnapshotData(seq, features=wanted).x.shape[2] == width == width_of_features(seq, wanted)
    degrees = SnapshotData(seq, features="degree").x
    src, dst = seq.edges(4)
    torch.testing.assert_close(degrees[4, :, 0], torch.from_numpy(np.log1p(np.bincount(dst, minlength=11))).float())
    torch.testing.assert_close(degrees[4, :, 1], torch.from_numpy(np.log1p(np.bincount(src, minlength=11))).float())
    bare = SnapshotSequence.from_arrays([0, 1], [0, 1], [1, 0])
    with pytest.raises(ConfigError, match="degree"):
        SnapshotData(bare, features="given")
