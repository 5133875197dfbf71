import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.errors import ConfigError
from tgscale.nn import recurrence
from tgscale.nn.recurrence import (
    gru_scan,
    gru_scan_reference,
    lstm_cell,
    lstm_cell_reference,
    lstm_scan,
    lstm_scan_reference,
)


def leaves(seed, *shapes, dtype=torch.float64):
    """Random tensors that want a gradient; None for a shape of None."""
    g = torch.Generator().manual_seed(seed)
    return [None if s is None else torch.randn(*s, generator=g, dtype=dtype).requires_grad_() for s in shapes]


def gru_case(seed=0, w=3, N=5, C=4, start=True, dtype=torch.float64):
    return leaves(seed, (w, N, 3 * C), (C, 2 * C), (C, C), (N, C) if start else None, dtype=dtype)


def lstm_case(seed=0, w=3, N=5, C=4, start=True, cell=True, dtype=torch.float64):
    shapes = (w, N, 4 * C), (C, 4 * C), (N, C) if start else None, (N, C) if cell else None
    return leaves(seed, *shapes, dtype=dtype)


def outputs_and_gradients(function, arguments):
    out = function(*arguments)
    out = out if isinstance(out, tuple) else (out,)
    weights = [torch.sin(torch.arange(x.numel(), dtype=x.dtype)).view_as(x) for x in out]  # no symmetry to hide behind
    loss = sum((x * weight).sum() for x, weight in zip(out, weights, strict=True))
    return [*out, *torch.autograd.grad(loss, [x for x in arguments if x is not None])]


def agree(fast, slow, arguments, tolerance=1e-10):
    for a, b in zip(outputs_and_gradients(fast, arguments), outputs_and_gradients(slow, arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# More nodes than a tile of rows, and than a part of tiles, come with the larger choices.
sizes = {
    "seed": st.integers(0, 2**31),
    "w": st.integers(1, 4),
    "N": st.sampled_from([1, 2, 5, 257, 600]),
    "C": st.integers(1, 9),
    "start": st.booleans(),
}


@settings(max_examples=40, deadline=None)
@given(st.builds(gru_case, **sizes))
def test_gru_equals_the_reference_forward_and_backward(arguments):
    agree(gru_scan, gru_scan_reference, arguments)


@settings(max_examples=40, deadline=None)
@given(st.builds(lstm_case, **sizes, cell=st.booleans()))
def test_lstm_equals_the_reference_forward_and_backward(arguments):
    agree(lstm_scan, lstm_scan_reference, arguments)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), N=st.sampled_from([1, 7, 300, 3000]), C=st.integers(1, 9))
def test_cell_equals_the_reference_on_both_sides_of_the_size_that_decides(seed, N, C):
    agree(lstm_cell, lstm_cell_reference, leaves(seed, (N, 4 * C), (N, C)))


def test_the_cell_kernel_is_used_for_large_steps(monkeypatch):
    called = []
    monkeypatch.setattr(recurrence, "lstm_cell_reference", lambda *_: called.append(1) or (None, None))
    lstm_cell(*leaves(0, (3000, 32), (3000, 8)))
    assert not called
    lstm_cell(*leaves(0, (3, 32), (3, 8)))
    assert called


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(gru_scan, gru_case(1, w=3, N=2, C=3))
    assert torch.autograd.gradcheck(lstm_scan, lstm_case(1, w=3, N=2, C=3))


def test_the_gru_is_the_equations_of_tgcn():
    """One node, one channel, by hand; torch.nn.GRU would put the reset after the product."""
    gates, u_zr, u_n, h0 = gru_case(2, w=1, N=1, C=1)
    g, h = gates[0, 0], h0[0, 0]
    z, r = torch.sigmoid(g[0] + h * u_zr[0, 0]), torch.sigmoid(g[1] + h * u_zr[0, 1])
    n = torch.tanh(g[2] + r * h * u_n[0, 0])
    torch.testing.assert_close(gru_scan(gates, u_zr, u_n, h0)[0, 0, 0], z * h + (1 - z) * n)


def test_the_lstm_is_the_one_of_torch():
    gates, u, h0, c0 = lstm_case(3, w=4, N=6, C=5)
    lstm = torch.nn.LSTM(20, 5, dtype=torch.float64)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.eye(20))
        lstm.weight_hh_l0.copy_(u.t())
        lstm.bias_ih_l0.zero_()
        lstm.bias_hh_l0.zero_()
    expected, (_, last) = lstm(gates, (h0[None], c0[None]))
    h, c = lstm_scan(gates, u, h0, c0)
    torch.testing.assert_close(h, expected)
    torch.testing.assert_close(c, last[0])


@pytest.mark.parametrize(("scan", "case"), [(gru_scan, gru_case), (lstm_scan, lstm_case)])
@pytest.mark.parametrize("start", [True, False])
def test_without_gradients_the_states_are_the_same_bits(scan, case, start):
    arguments = case(4, w=5, N=300, C=8, start=start)
    with torch.no_grad():
        bare = scan(*arguments)
    kept = scan(*arguments)
    for a, b in zip(bare, kept, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("scan", "reference", "case"),
    [(gru_scan, gru_scan_reference, gru_case), (lstm_scan, lstm_scan_reference, lstm_case)],
)
def test_float32_is_close_to_float64(scan, reference, case):
    double = case(5, w=4, N=30, C=16)
    single = [x.detach().float().requires_grad_() for x in double]
    for a, b in zip(outputs_and_gradients(scan, single), outputs_and_gradients(reference, double), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("scan", "case"), [(gru_scan, gru_case), (lstm_scan, lstm_case)])
def test_a_gradient_can_be_taken_twice_from_one_graph(scan, case):
    arguments = case(6, N=10)
    out = scan(*arguments)
    loss = out[0].sum() if isinstance(out, tuple) else out.sum()
    first = torch.autograd.grad(loss, arguments, retain_graph=True, allow_unused=True)
    for a, b in zip(first, torch.autograd.grad(loss, arguments, allow_unused=True), strict=True):
        assert torch.equal(a, b)


def test_strided_gates():
    wide, u_zr, u_n, h0 = gru_case(7, w=3, N=4, C=6)
    narrow = wide.detach()[:, :, 3:15].requires_grad_()
    agree(
        gru_scan,
        gru_scan_reference,
        [narrow, u_zr[:4, :8], u_n[:4, :4], h0[:, :4]],
    )


def test_no_steps_and_no_nodes():
    gates, u_zr, u_n, h0 = gru_case()
    assert gru_scan(gates[:0], u_zr, u_n, h0).shape == (0, 5, 4)
    assert gru_scan(gates[:, :0], u_zr, u_n).shape == (3, 0, 4)
    gates, u, h0, c0 = lstm_case()
    h, c = lstm_scan(gates[:0], u, h0, c0)
    assert h.shape == (0, 5, 4)
    assert torch.equal(c, c0)


def test_nan_is_not_hidden():
    arguments = gru_case(0, N=4)
    with torch.no_grad():
        arguments[0][0, 2, 0] = torch.nan
    assert gru_scan(*arguments)[:, 2, 0].isnan().all()


@pytest.mark.parametrize(("scan", "case"), [(gru_scan, gru_case), (lstm_scan, lstm_case)])
def test_results_do_not_depend_on_threads(scan, case):
    arguments = case(9, w=3, N=5000, C=8)
    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    recurrence, "thread_count", lambda _, count=threads: count
                )  # the kernel that 2 would take
                results.append(outputs_and_gradients(scan, arguments))
    finally:
        numba.set_num_threads(numba_threads)
        torch.set_num_threads(torch_threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_half_precision_takes_the_reference():
    arguments = [x.detach().bfloat16() for x in gru_case()]
    assert torch.equal(gru_scan(*arguments), gru_scan_reference(*arguments))


def test_what_does_not_fit_is_refused():
    gates, u_zr, u_n, h0 = gru_case()
    with pytest.raises(ConfigError, match=r"gates are \[3, 5, 11\]: expected \[steps, nodes, 3 \* channels\]"):
        gru_scan(gates[:, :, :11], u_zr, u_n)
    with pytest.raises(ConfigError, match=r"u_zr is \[4, 4\], expected \[4, 8\]"):
        gru_scan(gates, u_n, u_n)
    with pytest.raises(ConfigError, match=r"h0 is \[4, 4\], expected \[5, 4\]"):
        gru_scan(gates, u_zr, u_n, h0[:4])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize(("scan", "case"), [(gru_scan, gru_case), (lstm_scan, lstm_case)])
def test_gpu_equals_cpu(scan, case):
    arguments = case(10)
    moved = [x.detach().cuda().requires_grad_() for x in arguments]
    out, moved_out = scan(*arguments), scan(*moved)
    for a, b in zip(out, moved_out, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-10, atol=1e-10)
