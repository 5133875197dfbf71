import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.graph.adjacency import Adjacency
from tgscale.graph.distinct import Lists, state_classes
from tgscale.nn.shared_recurrence import (
    gru_shared_scan,
    gru_shared_scan_reference,
    lstm_shared_scan,
    lstm_shared_scan_reference,
)
from tgscale.nn.shared_rows import attend_rows, attend_rows_reference, expand_rows, expand_rows_reference

SCANS = {
    "gru": (gru_shared_scan, gru_shared_scan_reference),
    "lstm": (lstm_shared_scan, lstm_shared_scan_reference),
}


def adjacency(rng, N, dtype):
    """Three graphs, the second without edges."""
    edges = rng.integers(0, 2 * N, 3) * [1, 0, 1]
    offsets = np.concatenate([[0], np.cumsum(edges)])
    src, dst = rng.integers(0, N, (2, offsets[-1]))
    return Adjacency.from_edges(offsets, src, dst, rng.normal(0, 0.4, offsets[-1]).astype(dtype), N, N)


def case(cell, seed=0, w=3, N=5, C=4, matrices=1, itself=True, levels=3, dtype=torch.float64):
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tensor = lambda *s: (torch.randn(*s, generator=g, dtype=dtype) * 0.5).requires_grad_()  # noqa: E731
    inputs = rng.integers(0, levels, (w, N)).astype(np.int32)
    inputs.flat[0] = levels - 1  # so that the table has that many rows
    graphs, numpy_dtype = rng.integers(0, 3, w), np.float32 if dtype == torch.float32 else np.float64
    if cell == "gru":
        return tensor(levels, 3 * C), state_classes(inputs, [], graphs), tensor(C, 2 * C), tensor(C, C)
    classes = state_classes(inputs, [adjacency(rng, N, numpy_dtype) for _ in range(matrices)], graphs)
    near = tensor(matrices, C, 4 * C) if matrices else None
    return tensor(levels, 4 * C), classes, tensor(C, 4 * C) if itself else None, near


def outputs_and_gradients(function, arguments):
    out = function(*arguments)
    weights = torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)  # no symmetry to hide behind
    wanted = [x for x in arguments if isinstance(x, torch.Tensor) and x.requires_grad]
    found = torch.autograd.grad((out * weights).sum(), wanted, allow_unused=True)
    return [out, *(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True))]


@pytest.mark.parametrize("cell", SCANS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_kernels_equal_the_reference_forward_and_backward(cell, data):
    sizes = {"w": st.integers(1, 4), "N": st.sampled_from([1, 2, 5, 700]), "C": st.integers(1, 9)}
    kinds = {"matrices": st.integers(0, 2), "itself": st.booleans(), "levels": st.sampled_from([1, 3, 40])}
    arguments = data.draw(st.builds(case, st.just(cell), seed=st.integers(0, 2**31), **sizes, **kinds))
    fast, slow = (outputs_and_gradients(scan, arguments) for scan in SCANS[cell])
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", SCANS)
def test_float32_and_threads(cell, monkeypatch):
    """Parts, and so sums, are the same whatever the number of threads: equal to the last bit."""
    arguments = case(cell, 2, w=3, N=1500, levels=900, dtype=torch.float32)
    fast, slow = (outputs_and_gradients(scan, arguments) for scan in SCANS[cell])
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr("tgscale.graph.parallel.ITEMS_PER_THREAD", 16)
    for a, b in zip(fast, outputs_and_gradients(SCANS[cell][0], arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("cell", SCANS)
def test_wrong_shapes_are_refused(cell):
    table, *others = case(cell)
    with pytest.raises(ConfigError, match=r"the table is \[2"):
        SCANS[cell][0](table[:2], *others)
    with pytest.raises(ConfigError, match="classes"):
        gru_shared_scan(*case("gru")[:1], case("lstm")[1], *case("gru")[2:])


def test_what_is_gathered_has_to_have_weights():
    table, classes, u_self, _ = case("lstm")
    with pytest.raises(ConfigError, match="u_near is missing"):
        lstm_shared_scan(table, classes, u_self, None)


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_expanded_and_summed(threads, monkeypatch):
    monkeypatch.setattr("tgscale.graph.parallel.ITEMS_PER_THREAD", 2**31 if threads == 1 else 16)
    index = np.random.default_rng(0).integers(0, 7, (3, 50)).astype(np.int32)
    table = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    share = torch.randn(3, dtype=torch.float64, requires_grad=True)
    places = Lists.inverse(index.ravel(), 7)
    pairs = [
        (lambda t: expand_rows(t, index, places), lambda t: expand_rows_reference(t, index), (table,)),
        (lambda t, s: attend_rows(t, s, index), lambda t, s: attend_rows_reference(t, s, index), (table, share)),
    ]
    for fast, slow, arguments in pairs:
        for a, b in zip(*(outputs_and_gradients(f, arguments) for f in (fast, slow)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
