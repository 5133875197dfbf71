"""Every snapshot model against its paper's equations in dense matrices, from edges to outputs, on three nodes."""

import math

import numpy as np
import pytest
import torch
from torch.func import functional_call

from tgscale.data.snapshots import SnapshotSequence
from tgscale.models.a3tgcn import A3TGCN
from tgscale.models.evolvegcn import EvolveGCN
from tgscale.models.gclstm import GCLSTM
from tgscale.models.gconv_gru import GConvGRU
from tgscale.models.lrgcn import LRGCN
from tgscale.models.mpnn_lstm import MPNNLSTM
from tgscale.models.tgcn import TGCN
from tgscale.nn.graph_conv import ChebyshevConv, GraphConv, RelationalConv
from tgscale.snapshot.tensors import SnapshotData

N, F, C, W = 3, 2, 4, 3
# (step, src, dst, weight, type): the second step has a self loop, the third an isolated node.
EDGES = [(0, 0, 1, 2.0, 0), (0, 1, 2, 0.5, 1), (0, 2, 1, 1.0, 0)]
EDGES += [(1, 1, 0, 3.0, 1), (1, 1, 1, 0.5, 0), (1, 0, 2, 1.0, 0)]
EDGES += [(2, 2, 0, 1.5, 0), (2, 0, 2, 1.5, 1)]


@pytest.fixture
def toy():
    """Features ``[W, N, F]``, and what gives the adjacencies of a step."""
    step, src, dst, weight, kind = zip(*EDGES, strict=True)
    x = np.random.default_rng(0).normal(size=(W, N, F)).astype(np.float32)
    columns = {"edge_weight": weight, "edge_type": kind, "node_features": x, "num_nodes": N}
    sequence = SnapshotSequence.from_arrays(step, src, dst, **columns)
    group = SnapshotData(sequence, dtype=torch.float64).whole()
    return group.x, group.at


def dense(t, only=None):
    """``A[dst, src]`` of a step: weights, or 1 for each edge of one type."""
    matrix = np.zeros((N, N))
    for step, src, dst, weight, kind in EDGES:
        if step == t and only in (None, kind):
            matrix[dst, src] = weight if only is None else 1
    return matrix


def normalised(t):
    """``D^-1/2 (A + I) D^-1/2``; a node with a self loop keeps its weight in place of I."""
    matrix = dense(t)
    matrix[np.diag_indices(N)] = [loop or 1 for loop in matrix.diagonal()]
    degree = matrix.sum(axis=1)
    return matrix / np.sqrt(np.outer(degree, degree))


def laplacian(t):
    """``2 L / lambda_max - I``, ``L = I - D^-1/2 A D^-1/2`` without self loops; lambda_max is twice L's largest entry.

    With D the weights that leave a node, as PyTorch Geometric has it for directed graphs.
    """
    matrix = dense(t)
    np.fill_diagonal(matrix, 0)
    degree = matrix.sum(axis=0)
    inverse = np.array([1 / math.sqrt(d) if d else 0 for d in degree])
    full = np.eye(N) - inverse[:, None] * matrix * inverse
    return 2 * full / (2 * full.max()) - np.eye(N)


def mean_over(t, kind):
    matrix = dense(t, kind)
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def weights_of(model):
    """Weights by name, in NumPy; none is 0, so that each counts."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=p.dtype) / 2)
    return {name: p.detach().numpy() for name, p in model.double().named_parameters()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def beside(*parts):
    return np.concatenate(parts, axis=1)


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gcn(w, name, x, t):
    return normalised(t) @ x @ w[f"{name}.lin.weight"].T + w[f"{name}.bias"]


def cheb(w, name, x, t, order):
    terms = [np.eye(N), laplacian(t)]
    while len(terms) < order:
        terms.append(2 * laplacian(t) @ terms[-1] - terms[-2])
    return sum(terms[k] @ x @ w[f"{name}.lins.{k}.weight"].T for k in range(order)) + w[f"{name}.bias"]


def rgcn(w, name, x, t, bases):
    out = x @ w[f"{name}.root"] + w[f"{name}.bias"]
    for r in range(2):
        table = w[f"{name}.weight"]
        out = out + mean_over(t, r) @ x @ (np.einsum("b,bio->io", w[f"{name}.comp"][r], table) if bases else table[r])
    return out


def same(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_graph_conv(toy):
    x, at = toy
    conv = GraphConv(F, C)
    w = {f"conv.{name}": p for name, p in weights_of(conv).items()}
    for t in range(W):
        same(conv(x[t], at(t)), gcn(w, "conv", x[t].numpy(), t))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_chebyshev_conv(toy, order):
    x, at = toy
    conv = ChebyshevConv(F, C, order)
    w = {f"conv.{name}": p for name, p in weights_of(conv).items()}
    for t in range(W):
        same(conv(x[t], at(t)), cheb(w, "conv", x[t].numpy(), t, order))


@pytest.mark.parametrize("bases", [None, 3])
def test_relational_conv(toy, bases):
    x, at = toy
    conv = RelationalConv(F, C, 2, bases)
    w = {f"conv.{name}": p for name, p in weights_of(conv).items()}
    for t in range(W):
        same(conv(x[t], at(t)), rgcn(w, "conv", x[t].numpy(), t, bases))


def tgcn_step(w, x, h, t, prefix=""):
    z = sigmoid(linear(w, f"{prefix}linear_z", beside(gcn(w, f"{prefix}conv_z", x, t), h)))
    r = sigmoid(linear(w, f"{prefix}linear_r", beside(gcn(w, f"{prefix}conv_r", x, t), h)))
    n = np.tanh(linear(w, f"{prefix}linear_h", beside(gcn(w, f"{prefix}conv_h", x, t), r * h)))
    return z * h + (1 - z) * n


def test_tgcn(toy):
    x, at = toy
    model = TGCN(F, C)
    w, h, states = weights_of(model), np.zeros((N, C)), []
    for t in range(W):
        h = tgcn_step(w, x[t].numpy(), h, t)
        states.append(h)
    same(model(x, at), np.stack(states))


@pytest.mark.parametrize("compat", [False, True])
def test_a3tgcn(toy, compat):
    x, at = toy
    model = A3TGCN(F, C, W, compat)
    w, h, out = weights_of(model), np.zeros((N, C)), 0
    for t in range(W):
        h = tgcn_step(w, x[t].numpy(), np.zeros((N, C)) if compat else h, t, "tgcn.")
        out = out + np.exp(w["attention"][t]) / np.exp(w["attention"]).sum() * h
    same(model(x, at), out)


def lstm(i, f, g, o, c):
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("bases", [None, 3])
def test_lrgcn(toy, bases):
    x, at = toy
    model = LRGCN(F, C, 2, bases)
    w, h, c, states = weights_of(model), np.zeros((N, C)), np.zeros((N, C)), []
    for t in range(W):
        gates = [rgcn(w, f"conv_x_{g}", x[t].numpy(), t, bases) + rgcn(w, f"conv_h_{g}", h, t, bases) for g in "ifco"]
        h, c = lstm(*gates, c)
        states.append(h)
    same(model(x, at), np.stack(states))


@pytest.mark.parametrize("order", [1, 3])
def test_gclstm(toy, order):
    x, at = toy
    model = GCLSTM(F, C, order)
    w, h, c, states = weights_of(model), np.zeros((N, C)), np.zeros((N, C)), []
    for t in range(W):
        gates = [x[t].numpy() @ w[f"W_{g}"] + cheb(w, f"conv_{g}", h, t, order) + w[f"b_{g}"] for g in "ifco"]
        h, c = lstm(*gates, c)
        states.append(h)
    same(model(x, at), np.stack(states))


@pytest.mark.parametrize("order", [1, 3])
def test_gconv_gru(toy, order):
    x, at = toy
    model = GConvGRU(F, C, order)
    w, h, states = weights_of(model), np.zeros((N, C)), []
    for t in range(W):
        now = x[t].numpy()
        z, r = (
            sigmoid(cheb(w, f"conv_x_{g}", now, t, order) + cheb(w, f"conv_h_{g}", h, t, order)) for g in ("z", "r")
        )
        n = np.tanh(cheb(w, "conv_x_h", now, t, order) + cheb(w, "conv_h_h", r * h, t, order))
        h = z * h + (1 - z) * n
        states.append(h)
    same(model(x, at), np.stack(states))


@pytest.mark.parametrize("variant", ["O", "H"])
def test_evolvegcn(toy, variant):
    x, at = toy
    model = EvolveGCN(F, C, variant)
    w, outs = weights_of(model), []
    weight, (ih, hh) = w["initial_weight"][0], (w[f"recurrent_layer.weight_{k}_l0"] for k in ("ih", "hh"))
    for t in range(W):
        now = x[t].numpy()
        seen = weight
        if variant == "H":
            score = np.tanh(now @ w["scorer"] / np.linalg.norm(w["scorer"]))
            best = np.argsort(-score)[:F]
            seen = now[best] * score[best, None]
        of_x = np.split(seen @ ih.T + w["recurrent_layer.bias_ih_l0"], 3, axis=1)
        of_h = np.split(weight @ hh.T + w["recurrent_layer.bias_hh_l0"], 3, axis=1)
        r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        weight = (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * weight
        outs.append(normalised(t) @ now @ weight)
    same(model(x, at), np.stack(outs))


def lstm_over(w, name, x):
    h = c = np.zeros((N, C))
    states = []
    for now in x:
        gates = now @ w[f"{name}.weight_ih_l0"].T + w[f"{name}.bias_ih_l0"]
        gates = gates + h @ w[f"{name}.weight_hh_l0"].T + w[f"{name}.bias_hh_l0"]
        h, c = lstm(*np.split(gates, 4, axis=1), c)
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize("training", [False, True])
def test_mpnn_lstm(toy, training):
    x, at = toy
    model = MPNNLSTM(F, C, W, dropout=0.0).train(training)
    w = weights_of(model)

    def layer(x, number):
        out = np.maximum([gcn(w, f"_convolution_{number}", x[t], t) for t in range(W)], 0)
        mean, var = (out.mean((0, 1)), out.var((0, 1))) if training else (0, 1)
        scaled = (out - mean) / np.sqrt(var + 1e-5)
        return scaled * w[f"_batch_norm_{number}.weight"] + w[f"_batch_norm_{number}.bias"]

    first = layer(x.numpy(), 1)
    states = lstm_over(w, "_recurrent_1", np.concatenate([first, layer(first, 2)], axis=2))
    ends = states[-1], lstm_over(w, "_recurrent_2", states)[-1]
    same(model(x, at), beside(*ends, x[0].numpy(), x[1:, :, -1].numpy().T))


MODELS = {
    "tgcn": lambda: TGCN(F, 3),
    "a3tgcn": lambda: A3TGCN(F, 3, W),
    "lrgcn": lambda: LRGCN(F, 2, 2, bases=1),
    "gclstm": lambda: GCLSTM(F, 2, 3),
    "gconv_gru": lambda: GConvGRU(F, 2, 2),
    "evolvegcn_o": lambda: EvolveGCN(F, 3, "O"),
    "evolvegcn_h": lambda: EvolveGCN(F, 3, "H"),
    "mpnn_lstm": lambda: MPNNLSTM(F, 2, W, dropout=0.0),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_gradients_are_those_of_finite_differences(toy, make):
    x, at = toy
    torch.manual_seed(0)
    model = make().double()
    names = [name for name, _ in model.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def run(x, *weights):
        return functional_call(model, dict(zip(names, weights, strict=True)), (x, at))

    assert torch.autograd.gradcheck(run, (x.clone().requires_grad_(), *weights))
