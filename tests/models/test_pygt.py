"""Equal outputs and gradients with PyTorch Geometric Temporal's layers, from edges on, where it is installed.

Random directed graphs that change from step to step, with weights, edge types, self loops and isolated nodes. Each
layer that is compared here was found to be equal; where it differs from the paper, a test says in what.
"""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.gconv_gru import GConvGRU
from tgscale.models.lrgcn import LRGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.pygt import load_pygt
from tgscale.models.tgcn import TGCN
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.tensors import SnapshotData

N, F, C, W, R = 13, 4, 6, 5, 3
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def pygt():
    """Its recurrent layers."""
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    if "torch_sparse" not in sys.modules:  # only a type of it is used; its wheels lag behind torch
        stub = types.ModuleType("torch_sparse")
        stub.SparseTensor = type("SparseTensor", (), {})
        sys.modules["torch_sparse"] = stub
    return pytest.importorskip(
        "torch_geometric_temporal.nn.recurrent", reason="PyTorch Geometric Temporal is not installed"
    )


@pytest.fixture(autouse=True)
def _float64():
    """Its layers make hidden states of the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Snapshots:
    """The same random snapshots for both sides."""

    def __init__(self, seed, nodes=N, features=F, window=W, density=0.2):
        rng = np.random.default_rng(seed)
        there = rng.random((window, nodes, nodes)) < density
        there[:, -1], there[:, :, -1] = False, False  # one isolated node
        step, src, dst = np.nonzero(there)
        weight = rng.uniform(0.1, 2, len(step)).astype(np.float32)
        kind = rng.integers(0, R, len(step))
        x = rng.normal(size=(window, nodes, features)).astype(np.float32)
        assert (src == dst).any()
        self.steps = []
        for t in range(window):
            rows = step == t
            edges = torch.from_numpy(np.stack([src[rows], dst[rows]]))
            self.steps.append((edges, torch.from_numpy(weight[rows]).double(), torch.from_numpy(kind[rows])))
        self.x = torch.from_numpy(x).double()
        order = rng.permutation(len(step))
        columns = {"edge_weight": weight[order], "edge_type": kind[order], "node_features": x, "num_nodes": nodes}
        sequence = SnapshotSequence.from_arrays(step[order], src[order], dst[order], **columns)
        self.data = SnapshotData(sequence, dtype=torch.float64)

    def ours(self, model, planned):
        group = self.data.whole()
        if not planned:
            return model(group.x, group.at)
        plan = Plan(model)
        plan.keep(group)
        return plan.run(group)


def gru_like(layer, data):
    """Hidden states of a layer that takes and gives one."""
    h, states = None, []
    for x, (edges, weight, _) in zip(data.x, data.steps, strict=True):
        h = layer(x, edges, weight, h)
        states.append(h)
    return torch.stack(states)


def gclstm(layer, data):
    h = c = None
    states = []
    for x, (edges, weight, _) in zip(data.x, data.steps, strict=True):
        h, c = layer(x, edges, weight, h, c)
        states.append(h)
    return torch.stack(states)


def lrgcn(layer, data):
    h = c = None
    states = []
    for x, (edges, _, kind) in zip(data.x, data.steps, strict=True):
        h, c = layer(x, edges, kind, h, c)
        states.append(h)
    return torch.stack(states)


def evolvegcn(layer, data):
    layer.reinitialize_weight()
    return torch.stack([layer(x, edges, weight) for x, (edges, weight, _) in zip(data.x, data.steps, strict=True)])


def mpnn_lstm(layer, data):
    """It takes a window as one graph of as many parts."""
    edges = torch.cat([edges + t * len(data.x[0]) for t, (edges, _, _) in enumerate(data.steps)], dim=1)
    weight = torch.cat([weight for _, weight, _ in data.steps])
    return layer(data.x.flatten(0, 1), edges, weight)


LAYERS = {
    "tgcn": (lambda p: p.TGCN(F, C), lambda: TGCN(F, C), gru_like),
    "gconv_gru-1": (lambda p: p.GConvGRU(F, C, 1), lambda: GConvGRU(F, C, 1), gru_like),
    "gconv_gru-3": (lambda p: p.GConvGRU(F, C, 3), lambda: GConvGRU(F, C, 3), gru_like),
    "gclstm-1": (lambda p: p.GCLSTM(F, C, 1), lambda: GCLSTM(F, C, 1), gclstm),
    "gclstm-2": (lambda p: p.GCLSTM(F, C, 2), lambda: GCLSTM(F, C, 2), gclstm),
    "gclstm-4": (lambda p: p.GCLSTM(F, C, 4), lambda: GCLSTM(F, C, 4), gclstm),
    "lrgcn": (lambda p: p.LRGCN(F, C, R, None), lambda: LRGCN(F, C, R), lrgcn),
    "lrgcn-bases": (lambda p: p.LRGCN(F, C, R, 2), lambda: LRGCN(F, C, R, 2), lrgcn),
    "evolvegcn_o": (lambda p: p.EvolveGCNO(F), lambda: EvolveGCN(F, F, "O"), evolvegcn),
    "evolvegcn_h": (lambda p: p.EvolveGCNH(N, F), lambda: EvolveGCN(F, F, "H"), evolvegcn),
    "mpnn_lstm": (lambda p: p.MPNNLSTM(F, C, N, W, 0.0), lambda: MPNNLSTM(F, C, W, 0.0), mpnn_lstm),
}


def randomize(layer, seed):
    """Biases that begin at 0 would hide mistakes."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g) / 2)


def backward(out):
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()


def equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("planned", [False, True], ids=["reference", "planned"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_equal(pygt, name, seed, planned):
    make_theirs, make_ours, run = LAYERS[name]
    theirs, ours, data = make_theirs(pygt), make_ours(), Snapshots(seed)
    randomize(theirs, seed)
    load_pygt(ours, theirs)
    expected, found = run(theirs, data), data.ours(ours, planned)
    equal(found, expected)
    backward(expected)
    backward(found)
    grads, buffers = make_ours(), dict(theirs.named_buffers())
    load_pygt(grads, {name: p.grad for name, p in theirs.named_parameters()} | buffers)
    for (weight, expected_grad), p in zip(grads.named_parameters(), ours.parameters(), strict=True):
        assert p.grad is not None, weight
        equal(p.grad, expected_grad.detach())


@pytest.mark.parametrize("planned", [False, True], ids=["reference", "planned"])
@pytest.mark.parametrize("seed", SEEDS)
def test_mpnn_lstm_is_equal_in_evaluation(pygt, seed, planned):
    """By the running means of batch normalisation, which training leaves behind and weights bring along."""
    theirs, ours, data = pygt.MPNNLSTM(F, C, N, W, 0.5), MPNNLSTM(F, C, W, 0.5), Snapshots(seed)
    mpnn_lstm(theirs, data)
    assert theirs._batch_norm_1.running_mean.abs().min() > 0
    load_pygt(ours, theirs)
    equal(data.ours(ours.eval(), planned), mpnn_lstm(theirs.eval(), data))


@pytest.mark.parametrize("seed", SEEDS)
def test_a3tgcn_is_equal_in_compat_mode_alone(pygt, seed):
    """It shows the periods of one snapshot, on one graph, and never hands the hidden state on."""
    theirs, data = pygt.A3TGCN(F, C, W), Snapshots(seed)
    randomize(theirs, seed)
    edges, weight, _ = data.steps[0]
    expected = theirs(data.x.permute(1, 2, 0), edges, weight)
    columns = {"edge_weight": weight.numpy(), "node_features": data.x.numpy(), "graph_of": np.zeros(W, np.int64)}
    static = SnapshotSequence.from_arrays(np.zeros(len(weight), np.int64), *edges.numpy(), **columns)
    data.data = SnapshotData(static, dtype=torch.float64)
    for planned in (False, True):
        compat, paper = A3TGCN(F, C, W, compat=True), A3TGCN(F, C, W)
        load_pygt(compat, theirs)
        load_pygt(paper, theirs)
        equal(data.ours(compat, planned), expected)
        assert (data.ours(paper, planned) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["O", "H"])
def test_evolvegcn_hands_weights_on_from_call_to_call(pygt, variant):
    """So a group that begins anew is equal to a fresh layer, and not to one that has seen a group before."""
    theirs = pygt.EvolveGCNO(F) if variant == "O" else pygt.EvolveGCNH(N, F)
    randomize(theirs, 0)
    ours, data = EvolveGCN(F, F, variant), Snapshots(0)
    load_pygt(ours, theirs)
    equal(data.ours(ours, True), evolvegcn(theirs, data))
    steps = zip(data.x, data.steps, strict=True)
    again = torch.stack([theirs(x, edges, weight) for x, (edges, weight, _) in steps])
    assert (data.ours(ours, True) - again).abs().max() > 1e-3
    theirs.reinitialize_weight()
    equal(data.ours(ours, True), evolvegcn(theirs, data))


@pytest.mark.parametrize(("features", "nodes"), [(3, 21), (4, 4)])
def test_evolvegcn_h_picks_as_many_nodes_as_there_are_features(pygt, features, nodes):
    """Its layer asks for a share of the nodes, which rounding or a share of 1 makes another number: it fails there."""
    torch.set_default_dtype(torch.float32)  # where 3 / 21 * 21 is above 3
    theirs, ours = pygt.EvolveGCNH(nodes, features), EvolveGCN(features, features, "H").double()
    load_pygt(ours, theirs)
    data = Snapshots(0, nodes, features)
    edges, weight, _ = data.steps[0]
    with pytest.raises(RuntimeError):
        theirs(data.x[0].float(), edges, weight.float())
    assert data.ours(ours, True).shape == (W, nodes, features)


def test_lrgcn_of_snapshots_without_types_is_that_of_type_0(pygt):
    """Its example passes edge weights, which are 1, as types, of which it knows 0 alone: PyG 2.8 refuses that."""
    theirs, ours, data = pygt.LRGCN(F, C, 1, 1), LRGCN(F, C, 1, 1), Snapshots(0)
    load_pygt(ours, theirs)
    data.steps = [(edges, weight, torch.zeros_like(kind)) for edges, weight, kind in data.steps]
    step = np.repeat(np.arange(W), [len(weight) for _, weight, _ in data.steps])
    src, dst = torch.cat([edges for edges, _, _ in data.steps], dim=1).numpy()
    sequence = SnapshotSequence.from_arrays(step, src, dst, node_features=data.x.numpy())
    data.data = SnapshotData(sequence, dtype=torch.float64)
    equal(data.ours(ours, True), lrgcn(theirs, data))


# Without that library: what is refused.


def state(model, **changes):
    """The layer's state dict, as PyTorch Geometric Temporal names it."""
    names = {"tgcn.": "_base_tgcn.", "attention": "_attention", "scorer": "pooling_layer.select.weight"}
    found = {}
    for name, value in model.state_dict().items():
        theirs = next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)
        found[theirs] = value[None] if name == "scorer" else value
    return {k: v for k, v in {**found, **changes}.items() if v is not None}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "make",
    [
        *(make for _, make, _ in LAYERS.values()),
        lambda: A3TGCN(F, C, W),
    ],
    ids=[*LAYERS, "a3tgcn"],
)
def test_weights_are_copied_by_their_names(make, seed):
    source, model = make(), make()
    randomize(source, seed)
    load_pygt(model, state(source))
    for (name, p), expected in zip(model.state_dict().items(), source.state_dict().values(), strict=True):
        assert torch.equal(p, expected), name
        assert p.data_ptr() != expected.data_ptr()


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (lambda: TGCN(F, C), {"conv_z.bias": None}, "lacks conv_z.bias"),
        (lambda: TGCN(F, C), {"other": torch.zeros(1)}, "also has other"),
        (lambda: TGCN(F, C), {"recurrent.conv_z.bias": torch.zeros(C)}, "give the layer alone"),
        (lambda: TGCN(F, C), {"conv_z.bias": torch.zeros(C + 1)}, r"conv_z.bias .* is \[7\], here it is \[6\]"),
        (lambda: A3TGCN(F, C, W), {"_attention": torch.zeros(W + 1)}, "attention .* same features, hidden"),
        (lambda: LRGCN(F, C, R), {"conv_x_i.comp": torch.zeros(R, 2)}, "number of bases"),
        (lambda: EvolveGCN(F, F, "H"), {"pooling_layer.select.weight": None}, "variant H"),
        (lambda: EvolveGCN(F, F, "O"), {"pooling_layer.select.weight": torch.zeros(1, F)}, "variant O"),
        (lambda: EvolveGCN(F, F, "H"), {"pooling_layer.select.weight": torch.zeros(1, F + 1)}, r"scorer .* \[5\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(make, changes, message):
    model = make()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    source = make()
    randomize(source, 1)
    with pytest.raises(ConfigError, match=message):
        load_pygt(model, state(source, **changes))
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="Linear is no layer"):
        load_pygt(nn.Linear(2, 2), {})
