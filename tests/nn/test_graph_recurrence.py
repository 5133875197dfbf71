import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.graph.adjacency import Adjacency
from tgscale.nn import graph_recurrence
from tgscale.nn.graph_recurrence import (
    gru_graph_scan,
    gru_graph_scan_reference,
    lstm_graph_scan,
    lstm_graph_scan_reference,
)

GRAPHS = 3


def adjacency(rng, N, dtype=np.float64):
    """Three graphs, the second without edges."""
    edges = rng.integers(0, 4 * N, GRAPHS) * [1, 0, 1]
    offsets = np.concatenate([[0], np.cumsum(edges)])
    src, dst = rng.integers(0, N, (2, offsets[-1]))
    return Adjacency.from_edges(offsets, src, dst, rng.normal(0, 0.4, offsets[-1]).astype(dtype), N, N)


def case(cell, seed=0, w=3, N=5, C=4, bases="AI", start=True, dtype=torch.float64):
    """``bases``: a letter per matrix, I the identity; "cheb3" for three Chebyshev polynomials of one matrix."""
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    chebyshev = bases.startswith("cheb")
    numpy_dtype = np.float32 if dtype == torch.float32 else np.float64
    matrices = {name: adjacency(rng, N, numpy_dtype) for name in "AB"}
    names = "I" + "A" * (int(bases[4:]) - 1) if chebyshev else bases
    tensor = lambda *s: (torch.randn(*s, generator=g, dtype=dtype) * 0.5).requires_grad_()  # noqa: E731
    gates = tensor(w, N, (3 if cell == "gru" else 4) * C)
    graphs = torch.from_numpy(rng.integers(0, GRAPHS, w))
    weights = [tensor(len(names), C, k * C) for k in ((2, 1) if cell == "gru" else (4,))]
    states = [tensor(N, C) if start else None for _ in range(1 if cell == "gru" else 2)]
    return gates, [matrices.get(name) for name in names], graphs, *weights, *states, chebyshev


def outputs_and_gradients(function, arguments):
    out = function(*arguments)
    out = out if isinstance(out, tuple) else (out,)
    weights = [torch.sin(torch.arange(x.numel(), dtype=x.dtype)).view_as(x) for x in out]  # no symmetry to hide behind
    loss = sum((x * weight).sum() for x, weight in zip(out, weights, strict=True))
    wanted = [x for x in arguments if isinstance(x, torch.Tensor) and x.requires_grad]
    return [*out, *torch.autograd.grad(loss, wanted)]


SCANS = {
    "gru": (gru_graph_scan, gru_graph_scan_reference),
    "lstm": (lstm_graph_scan, lstm_graph_scan_reference),
}
cases = {
    "seed": st.integers(0, 2**31),
    "w": st.integers(1, 4),
    "N": st.sampled_from([1, 2, 5, 300]),
    "C": st.integers(1, 9),
    "bases": st.sampled_from(["I", "A", "AI", "IAB", "ABA", "cheb1", "cheb2", "cheb3", "cheb5"]),
    "start": st.booleans(),
}


@pytest.mark.parametrize("cell", SCANS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_kernels_equal_the_reference_forward_and_backward(cell, data):
    arguments = data.draw(st.builds(case, st.just(cell), **cases))
    fast, slow = (outputs_and_gradients(scan, arguments) for scan in SCANS[cell])
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bases", ["AI", "cheb4"])
@pytest.mark.parametrize("cell", SCANS)
def test_gradients_are_those_of_finite_differences(cell, bases):
    arguments = case(cell, 1, w=3, N=3, C=2, bases=bases)
    wanted = [i for i, x in enumerate(arguments) if isinstance(x, torch.Tensor) and x.requires_grad]

    def function(*tensors):
        changed = list(arguments)
        for i, x in zip(wanted, tensors, strict=True):
            changed[i] = x
        return SCANS[cell][0](*changed)

    assert torch.autograd.gradcheck(function, [arguments[i] for i in wanted])


def dense(adj, graph):
    matrix = np.zeros((adj.num_rows, adj.num_cols))
    offsets, indptr, neighbor, weight = adj.arrays
    for r in range(adj.num_rows):
        row = slice(offsets[graph] + indptr[graph, r], offsets[graph] + indptr[graph, r + 1])
        np.add.at(matrix[r], neighbor[row], weight[row])
    return torch.from_numpy(matrix)


def polynomials(bases, graph, h, chebyshev):
    if not chebyshev:
        return [h if adj is None else dense(adj, graph) @ h for adj in bases]
    blocks = [h, *[dense(adj, graph) @ h for adj in bases[1:2]]]
    for adj in bases[2:]:
        blocks.append(2 * dense(adj, graph) @ blocks[-1] - blocks[-2])
    return blocks


@pytest.mark.parametrize("bases", ["ABI", "cheb4"])
def test_the_lstm_is_the_equations_with_dense_matrices(bases):
    gates, matrices, graphs, u, h, c, chebyshev = case("lstm", 2, bases=bases)
    states, last = lstm_graph_scan(gates, matrices, graphs, u, h, c, chebyshev)
    for t in range(len(gates)):
        blocks = polynomials(matrices, graphs[t], h, chebyshev)
        pre = gates[t] + sum(block @ u[b] for b, block in enumerate(blocks))
        i, f, g, o = pre.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        torch.testing.assert_close(states[t], h, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(last, c, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bases", ["ABI", "cheb4"])
def test_the_gru_is_the_equations_with_dense_matrices(bases):
    gates, matrices, graphs, u_zr, u_n, h, chebyshev = case("gru", 3, bases=bases)
    states = gru_graph_scan(gates, matrices, graphs, u_zr, u_n, h, chebyshev)
    for t in range(len(gates)):
        g_z, g_r, g_n = gates[t].chunk(3, dim=1)
        blocks = polynomials(matrices, graphs[t], h, chebyshev)
        q_z, q_r = sum(block @ u_zr[b] for b, block in enumerate(blocks)).chunk(2, dim=1)
        z, r = torch.sigmoid(g_z + q_z), torch.sigmoid(g_r + q_r)
        blocks = polynomials(matrices, graphs[t], r * h, chebyshev)
        n = torch.tanh(g_n + sum(block @ u_n[b] for b, block in enumerate(blocks)))
        h = z * h + (1 - z) * n
        torch.testing.assert_close(states[t], h, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell", SCANS)
def test_without_gradients_the_states_are_the_same_bits(cell):
    arguments = case(cell, 4, w=5, N=40, bases="cheb3")
    kept = SCANS[cell][0](*arguments)
    with torch.no_grad():
        bare = SCANS[cell][0](*arguments)
    for a, b in zip(kept, bare, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cell", SCANS)
def test_float32_is_close_to_float64(cell):
    single = case(cell, 5, w=4, N=30, C=16, bases="ABI", dtype=torch.float32)
    double = [
        x.detach().double().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for x in single
    ]
    double[1] = [None if adj is None else adj.double() for adj in single[1]]
    fast, slow = outputs_and_gradients(SCANS[cell][0], single), outputs_and_gradients(SCANS[cell][1], double)
    for a, b in zip(fast, slow, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cell", SCANS)
def test_several_threads_take_parallel_operators_and_give_the_same(cell, monkeypatch):
    arguments = case(cell, 6, bases="ABI")
    one = outputs_and_gradients(SCANS[cell][0], arguments)
    monkeypatch.setattr(graph_recurrence, "thread_count", lambda _: 2)
    for a, b in zip(one, outputs_and_gradients(SCANS[cell][0], arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_no_steps():
    gates, matrices, graphs, u, h, c, _ = case("lstm")
    states, last = lstm_graph_scan(gates[:0], matrices, graphs[:0], u, h, c)
    assert states.shape == (0, 5, 4)
    assert torch.equal(last, c)


def test_what_does_not_fit_is_refused():
    gates, matrices, graphs, u, *_ = case("lstm")
    with pytest.raises(ConfigError, match=r"graphs is \[2\] on cpu: expected \[3\]"):
        lstm_graph_scan(gates, matrices, graphs[:2], u)
    with pytest.raises(ConfigError, match=r"graph [345] was asked for, expected 0 to 2 in matrix 0"):
        lstm_graph_scan(gates, matrices, graphs + 3, u)
    with pytest.raises(ConfigError, match="matrix 0 is 5 x 5, expected 4 x 4"):
        lstm_graph_scan(gates[:, :4], matrices, graphs, u)
    with pytest.raises(ConfigError, match=r"matrix 0 is torch\.float64 and the state is torch\.float32"):
        lstm_graph_scan(gates.float(), matrices, graphs, u)
    with pytest.raises(ConfigError, match="begin with the identity alone"):
        lstm_graph_scan(gates, matrices, graphs, u, chebyshev=True)
    with pytest.raises(ConfigError, match=r"u is \[1, 4, 16\], expected \[2, 4, 16\]"):
        lstm_graph_scan(gates, matrices, graphs, u[:1])
    with pytest.raises(ConfigError, match="at least"):
        lstm_graph_scan(gates, [], graphs, u)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("bases", ["ABI", "cheb3"])
@pytest.mark.parametrize("cell", SCANS)
def test_gpu_equals_cpu(cell, bases):
    arguments = case(cell, 7, bases=bases)
    moved = [
        x.detach().cuda().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for x in arguments
    ]
    moved[1] = [None if adj is None else adj.to("cuda") for adj in arguments[1]]
    for a, b in zip(SCANS[cell][0](*arguments), SCANS[cell][0](*moved), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-10, atol=1e-10)
