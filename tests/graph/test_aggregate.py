import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.graph import aggregate as module
from tgscale.graph.adjacency import Adjacency
from tgscale.graph.aggregate import aggregate, aggregate_reference


def random_adjacency(seed=0, graphs=3, rows=7, cols=5, edges=40, dtype=np.float64):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.sort(rng.integers(0, edges + 1, graphs - 1)), [edges]])
    src, dst = rng.integers(0, cols, edges), (rng.random(edges) ** 2 * rows).astype(int)
    return Adjacency.from_edges(offsets, src, dst, rng.normal(size=edges).astype(dtype), rows, cols)


def case(seed, steps, F, one_graph=False, dtype=np.float64, **sizes):
    adj = random_adjacency(seed, dtype=dtype, **sizes)
    g = torch.Generator().manual_seed(seed)
    graphs = torch.randint(0, 1 if one_graph else adj.num_graphs, (steps,), generator=g)
    return adj, graphs, torch.randn(steps, adj.num_cols, F, generator=g, dtype=adj.dtype, requires_grad=True)


def output_and_gradient(function, adj, graphs, x):
    out = function(adj, graphs, x)
    weight = torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)  # no symmetry to hide behind
    return [out, *torch.autograd.grad((out * weight).sum(), x)]


cases = st.builds(
    case,
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 4),
    F=st.sampled_from([1, 2, 3, 4, 7, 8, 16, 31, 32, 63, 100]),
    one_graph=st.booleans(),
    graphs=st.integers(1, 4),
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    edges=st.integers(0, 60),
)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_the_kernel_equals_the_reference_forward_and_backward(arguments):
    for fast, slow in zip(
        output_and_gradient(aggregate, *arguments), output_and_gradient(aggregate_reference, *arguments), strict=True
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_sparse_products_equal_the_reference(arguments):
    adj, graphs, x = arguments
    torch.testing.assert_close(
        module._sparse(adj, graphs.numpy(), x.detach()), aggregate_reference(*arguments), rtol=1e-11, atol=1e-11
    )


def test_gradients_are_those_of_finite_differences():
    adj, graphs, x = case(1, 2, 3)
    assert torch.autograd.gradcheck(lambda x: aggregate(adj, graphs, x), x)


def test_a_worked_example():
    adj = Adjacency.from_edges(
        np.array([0, 2, 3]), np.array([0, 1, 1]), np.array([1, 1, 0]), np.array([2.0, 3.0, 5.0]), 2, 2
    )
    x = torch.tensor([[[1.0, 10.0], [100.0, 1000.0]]], dtype=torch.float64).expand(3, 2, 2)
    out = aggregate(adj, torch.tensor([0, 1, 0]), x)
    first = [[0, 0], [2 * 1 + 3 * 100, 2 * 10 + 3 * 1000]]
    assert out.tolist() == [first, [[500, 5000], [0, 0]], first]


@pytest.mark.parametrize("F", [2, 48])
def test_float32_is_close_to_float64(F):
    adj, graphs, x = case(2, 3, F, dtype=np.float32)
    fast = output_and_gradient(aggregate, adj, graphs, x)
    slow = output_and_gradient(aggregate_reference, adj.double(), graphs, x.detach().double().requires_grad_())
    for a, b in zip(fast, slow, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def test_half_precision_features_are_summed_in_float32():
    adj, graphs, x = case(2, 3, 8, dtype=np.float32)
    half = x.detach().bfloat16().requires_grad_()
    out, grad = output_and_gradient(aggregate, adj, graphs, half)
    assert out.dtype == grad.dtype == torch.bfloat16
    torch.testing.assert_close(out, aggregate(adj, graphs, half.float()).bfloat16(), rtol=0, atol=0)


def test_strided_features_and_an_expanded_gradient():
    adj, graphs, x = case(3, 3, 6)
    wide = torch.cat([x, x], dim=2).detach()[:, :, 3:9].requires_grad_()
    out = aggregate(adj, graphs, wide)
    out.sum().backward()
    torch.testing.assert_close(out, aggregate_reference(adj, graphs, wide), rtol=1e-11, atol=1e-11)
    transposed = aggregate_reference(adj.transposed, graphs, torch.ones_like(out))
    torch.testing.assert_close(wide.grad, transposed, rtol=1e-11, atol=1e-11)


def test_no_snapshots_and_no_features():
    adj, graphs, _ = case(0, 3, 1)
    assert aggregate(adj, graphs[:0], torch.zeros(0, 5, 4, dtype=torch.float64)).shape == (0, 7, 4)
    assert aggregate(adj, graphs, torch.zeros(3, 5, 0, dtype=torch.float64)).shape == (3, 7, 0)


def test_nan_is_not_hidden():
    adj, graphs, x = case(0, 3, 4, edges=200)
    with torch.no_grad():
        x[:, 2] = torch.nan
    assert aggregate(adj, graphs, x).isnan().any()


def test_results_do_not_depend_on_threads():
    arguments = case(4, 3, 5, rows=9000, cols=9000, edges=30000)
    threads, before = torch.get_num_threads(), numba.get_num_threads()
    results = []
    try:
        torch.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        for count in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(count)
            results.append(output_and_gradient(aggregate, *arguments))
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(threads)
    adj, graphs, x = arguments
    parallel = torch.empty_like(results[0][0])
    module._parallel(*adj.arrays, graphs.numpy(), x.detach().numpy(), parallel.detach().numpy(), 3)
    for other in [*results[1:], [parallel]]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=False))


def test_what_does_not_fit_is_refused():
    adj, graphs, x = case(0, 3, 4)
    with pytest.raises(ConfigError, match=r"features are \[3, 4, 4\] for 3 snapshots: expected \[3, 5, any\]"):
        aggregate(adj, graphs, x[:, :4])
    with pytest.raises(ConfigError, match=r"graph [345] was asked for, expected 0 to 2"):
        aggregate(adj, graphs + 3, x)
    with pytest.raises(ConfigError, match=r"float32 and the adjacency is torch\.float64"):
        aggregate(adj, graphs, x.float())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_equals_cpu():
    adj, graphs, x = case(5, 4, 8)
    moved = (adj.to("cuda"), graphs, x.detach().cuda().requires_grad_())
    weight = torch.sin(torch.arange(4 * 7 * 8, dtype=x.dtype)).view(4, 7, 8)
    results = []
    for a, s, v in ((adj, graphs, x), moved):
        out = aggregate(a, s, v)
        results.append([out.cpu(), torch.autograd.grad((out * weight.to(out.device)).sum(), v)[0].cpu()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
