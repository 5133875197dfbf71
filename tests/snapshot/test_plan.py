"""Planned against reference, for every model and every rewrite: the same numbers and the same gradients."""

import pytest
import torch

from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.gconv_gru import GConvGRU
from tgscale.models.lrgcn import LRGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.tgcn import TGCN
from tgscale.nn.program import topological
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites

from .views import DenseView

F, C, W = 3, 4, 5
MODELS = {
    "tgcn": lambda: TGCN(F, C),
    "a3tgcn": lambda: A3TGCN(F, C, W),
    "a3tgcn-compat": lambda: A3TGCN(F, C, W, compat=True),
    "lrgcn": lambda: LRGCN(F, C, 2),
    "lrgcn-bases": lambda: LRGCN(F, C, 2, bases=3),
    "gclstm-1": lambda: GCLSTM(F, C, 1),
    "gclstm": lambda: GCLSTM(F, C, 2),
    "gclstm-4": lambda: GCLSTM(F, C, 4),
    "gconv_gru": lambda: GConvGRU(F, C, 3),
    "evolvegcn_o": lambda: EvolveGCN(F, C, "O"),
    "evolvegcn_h": lambda: EvolveGCN(F, C, "H"),
    "mpnn_lstm": lambda: MPNNLSTM(F, C, W),
}
STEPS = ["share", "associate", "fold", "fuse", "merge", "hoist", "cache", "distinct"]
PLANS = {
    "as-written": Rewrites.none(),
    **{f"only-{name}": Rewrites.only(name) for name in STEPS},
    **{f"first-{k}": Rewrites.only(*STEPS[:k]) for k in range(2, len(STEPS))},
    "not-fused": Rewrites(fuse=False),
    "all": Rewrites(),
}


def outcome(run, model, seed=1):
    torch.manual_seed(seed)
    model.zero_grad()
    out = run()
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out, *(torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())]


@pytest.mark.parametrize("rewrites", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_plan_equals_the_reference(make, rewrites):
    torch.manual_seed(0)
    model, view = make().double(), DenseView.random(W, features=F)
    expected = outcome(lambda: model(view.x, view.at), model)
    plan = Plan(model, rewrites)
    plan.keep(view)
    found = outcome(lambda: plan.run(view), model)
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-12)


def test_kept_values_are_those_of_the_groups_own_steps():
    model, whole = TGCN(F, C).double(), DenseView.random(9, features=F)
    plan = Plan(model)
    plan.keep(whole)
    part = whole.part(3, W)
    torch.testing.assert_close(plan.run(part), model(part.x, part.at))


@pytest.mark.parametrize(
    ("name", "written", "remaining"),
    [("tgcn", 3, 0), ("a3tgcn", 3, 0), ("lrgcn", 16, 2), ("gclstm", 4, 1), ("gconv_gru", 12, 4), ("evolvegcn_o", 1, 0)],
)
def test_aggregations_that_remain(name, written, remaining):
    """As the reference's table has it: none for T-GCN and A3T-GCN, one per relation or term for what convolves H."""
    model, view = MODELS[name]().double(), DenseView.random(W, features=F)
    Plan(model, Rewrites.none()).run(view)
    assert len(view.calls) == written * W
    plan = Plan(model)
    plan.keep(view)
    view.calls.clear()
    plan.run(view)
    assert len(view.calls) == remaining * W


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("evolve")])
def test_recurrences_are_fused(name):
    nodes = topological(Plan(MODELS[name]()).program.roots())
    compat = name == "a3tgcn-compat"
    assert sum(node.op == "scan" for node in nodes) == {"mpnn_lstm": 2}.get(name, 0 if compat else 1)
    assert compat or not any(node.op == "state" for node in nodes)


def test_what_a_state_that_stays_zero_adds_is_left_out():
    """The reset gate of a T-GCN acts on the state alone, and its products are 0 where no state is handed on."""
    model = MODELS["a3tgcn-compat"]().double()
    used = {str(node.attrs[0]) for node in topological(Plan(model).program.roots()) if node.op == "parameter"}
    assert not any("_r" in name for name in used)
    assert any("_z" in name for name in used)
    everything = topological(Plan(model, Rewrites(fold=False)).program.roots())
    assert any("conv_r" in str(node.attrs) for node in everything)
    assert not any(node.op == "state" for node in topological(Plan(model).program.roots()))


def test_biases_of_merged_products_are_added_within_them():
    """Each gate has two biases, of its convolution and of its linear layer; one operator adds all."""
    nodes = [node for node in topological(Plan(MODELS["a3tgcn-compat"]()).program.roots()) if node.per_node]
    assert [node.op for node in nodes if node.op in ("matmul", "affine", "add")] == ["affine"]
