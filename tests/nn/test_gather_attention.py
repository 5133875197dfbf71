import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.nn.gather_attention import GatherAttention, gather_attention_reference


def case(seed, R, k, H, D, F, T, dropout=True, dtype=torch.float64, learned=True):
    g = torch.Generator().manual_seed(seed)
    U, E, Q = 7, 11, 5
    event = torch.randint(0, E, (R, k), generator=g)
    event[torch.arange(k) >= torch.randint(0, k + 1, (R, 1), generator=g)] = -1
    return {
        "query": torch.randn(Q, H, D + F + T + 1, generator=g).to(dtype).requires_grad_(),
        "query_row": torch.randint(0, Q, (R,), generator=g),
        "z": torch.randn(U, D, generator=g).to(dtype).requires_grad_(),
        "slot": torch.randint(0, U, (R, k), generator=g),
        "event": event,
        "edge": torch.randn(E, F, generator=g).to(dtype),
        "dt": torch.randint(0, 1000, (R, k), generator=g),
        "omega": (10 ** -torch.linspace(0, 3, T)).to(dtype).requires_grad_(learned),
        "bias": torch.randn(T, generator=g).to(dtype).requires_grad_(learned),
        "keep": (torch.rand(R, H, k, generator=g) > 0.3).to(dtype) / 0.7 if dropout else None,
        "slope": 0.2,
    }


def outputs_and_gradients(function, arguments):
    out = function(*arguments.values())
    weight = torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)  # no symmetry to hide behind
    wanted = [x for x in arguments.values() if isinstance(x, torch.Tensor) and x.requires_grad]
    return [out, *torch.autograd.grad((out * weight).sum(), wanted)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    R=st.integers(1, 70),
    k=st.integers(1, 5),
    H=st.integers(1, 3),
    D=st.integers(1, 20),
    F=st.sampled_from([0, 1, 17]),
    T=st.integers(1, 20),
    dropout=st.booleans(),
    learned=st.booleans(),
)
def test_kernels_equal_the_reference_forward_and_backward(seed, R, k, H, D, F, T, dropout, learned):
    arguments = case(seed, R, k, H, D, F, T, dropout, learned=learned)
    for fast, slow in zip(
        outputs_and_gradients(GatherAttention.apply, arguments),
        outputs_and_gradients(gather_attention_reference, arguments),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_float32_is_close_to_float64():
    double = case(0, 50, 4, 2, 8, 6, 8, learned=False)
    single = {
        k: v.float().detach().requires_grad_(v.requires_grad)
        if isinstance(v, torch.Tensor) and v.is_floating_point()
        else v
        for k, v in double.items()
    }
    for a, b in zip(
        outputs_and_gradients(GatherAttention.apply, single),
        outputs_and_gradients(GatherAttention.apply, double),
        strict=True,
    ):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_time_phase_keeps_its_digits_over_years_in_seconds():
    arguments = case(0, 4, 3, 1, 2, 0, 6, dropout=False, learned=False)
    arguments["dt"] = torch.full((4, 3), 1_600_000_000)
    fast, slow = (f(*arguments.values()) for f in (GatherAttention.apply, gather_attention_reference))
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)


def test_a_root_without_a_past_gets_zeros_and_gives_no_gradient():
    arguments = case(0, 3, 2, 1, 2, 2, 2)
    arguments["event"][:] = -1
    out, *gradients = outputs_and_gradients(GatherAttention.apply, arguments)
    assert not out.any()
    assert not any(g.any() for g in gradients)


def test_one_neighbor_is_returned_as_it_is():
    arguments = case(0, 1, 1, 1, 2, 1, 1, dropout=False)
    arguments["event"][:] = 3
    out = GatherAttention.apply(*arguments.values())
    phi = torch.cos(arguments["dt"][0, 0].double() * arguments["omega"] + arguments["bias"])
    expected = torch.cat([arguments["z"][arguments["slot"][0, 0]], arguments["edge"][3], phi, torch.ones(1)])
    torch.testing.assert_close(out[0, 0], expected, rtol=1e-9, atol=1e-9)


def test_nan_is_not_hidden():
    arguments = case(0, 3, 2, 1, 2, 2, 2, dropout=False)
    arguments["event"][:] = 0
    with torch.no_grad():
        arguments["z"][:] = torch.nan
    assert GatherAttention.apply(*arguments.values()).isnan().any()


def test_results_do_not_depend_on_threads():
    import numba

    arguments = case(3, 200, 5, 2, 8, 4, 8)
    before = numba.get_num_threads()
    try:
        results = []
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            results.append(outputs_and_gradients(GatherAttention.apply, arguments))
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_equals_cpu():
    arguments = case(0, 50, 4, 2, 8, 6, 8)
    moved = {
        k: v.detach().cuda().requires_grad_(v.requires_grad) if isinstance(v, torch.Tensor) else v
        for k, v in arguments.items()
    }
    for a, b in zip(
        outputs_and_gradients(GatherAttention.apply, arguments),
        [x.cpu() for x in outputs_and_gradients(gather_attention_reference, moved)],
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
