import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.graph.adjacency import Adjacency
from tgscale.graph.bases import address_table, apply_bases, gather_bases, scatter_bases


def adjacency(rng, N):
    """Two graphs, the second without edges."""
    edges = int(rng.integers(0, 4 * N))
    src, dst = rng.integers(0, N, (2, edges))
    return Adjacency.from_edges(np.array([0, edges, edges]), src, dst, rng.normal(size=edges), N, N)


@pytest.mark.parametrize("chebyshev", [False, True])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    N=st.sampled_from([1, 4, 300]),
    C=st.integers(1, 9),
    names=st.sampled_from(["A", "AB", "ABA", "BAAB"]),
    graph=st.integers(0, 1),
)
def test_kernels_equal_plain_operators_and_their_gradient(chebyshev, seed, N, C, names, graph):
    rng = np.random.default_rng(seed)
    matrices = {name: adjacency(rng, N) for name in "AB"}
    bases = [None, *(matrices[name] for name in names)]  # one matrix may differ from term to term
    if not chebyshev:
        bases = bases[::-1]
    x = torch.from_numpy(rng.normal(size=(N, C))).requires_grad_()
    expected = apply_bases(bases, torch.tensor([graph]), x, chebyshev)
    out = np.empty(expected.shape)
    gather_bases(address_table(bases, np.array([graph]))[0], chebyshev, x.detach().numpy(), out)
    np.testing.assert_allclose(out, expected.detach(), rtol=1e-10, atol=1e-10)

    grad, grad_x = torch.from_numpy(rng.normal(size=expected.shape)), np.empty((N, C))
    wanted = torch.autograd.grad(expected, x, grad)[0]
    scatter_bases(address_table(bases, np.array([graph]), transposed=True)[0], chebyshev, grad.numpy(), grad_x)
    np.testing.assert_allclose(grad_x, wanted, rtol=1e-9, atol=1e-9)
