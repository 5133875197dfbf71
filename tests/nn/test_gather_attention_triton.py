"""The Triton kernels against the reference: on a GPU where there is one, else under Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.graph.block import Block
from tgscale.nn import gather_attention as gather_attention_module
from tgscale.nn.attention import TemporalAttention
from tgscale.nn.gather_attention import GatherAttention, gather_attention, gather_attention_reference
from tgscale.nn.time_encoding import TimeEncoding

from .test_attention import block_and_tables
from .test_gather_attention import case, outputs_and_gradients

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("triton was imported without its interpreter, and there is no GPU", allow_module_level=True)
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

from tgscale.nn.gather_attention_triton import GatherAttentionTriton, gather_attention_triton  # noqa: E402


def moved(arguments, dtype=None):
    """The arguments on the device under test, as leaves."""

    def move(x):
        if not isinstance(x, torch.Tensor):
            return x
        kind = dtype if dtype and x.is_floating_point() else x.dtype
        return x.detach().to(DEVICE, kind).requires_grad_(x.requires_grad)

    return {name: move(x) for name, x in arguments.items()}


def check(arguments, tolerance=1e-9, dtype=None):
    found = outputs_and_gradients(GatherAttentionTriton.apply, moved(arguments, dtype))
    expected = outputs_and_gradients(gather_attention_reference, arguments)
    for fast, slow in zip(found, expected, strict=True):
        torch.testing.assert_close(fast.cpu().to(slow.dtype), slow, rtol=tolerance, atol=tolerance)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    R=st.integers(1, 12),
    k=st.integers(1, 5),
    H=st.integers(1, 3),
    D=st.integers(1, 20),
    F=st.sampled_from([0, 1, 17]),
    T=st.integers(1, 20),
    dropout=st.booleans(),
    learned=st.booleans(),
)
def test_kernels_equal_the_reference_forward_and_backward(seed, R, k, H, D, F, T, dropout, learned):
    check(case(seed, R, k, H, D, F, T, dropout, learned=learned))


def test_rows_of_several_blocks():
    """The width of the paper's model: no part fills its last block."""
    check(case(0, 4, 10, 2, 100, 172, 100))


def test_a_node_of_many_visits():
    arguments = case(1, 30, 4, 2, 5, 3, 4)
    arguments["slot"][:] = 2
    check(arguments)


def test_float32_is_close_to_float64():
    check(case(0, 20, 4, 2, 8, 6, 8, learned=False), 1e-4, torch.float32)


def test_a_bfloat16_query_gives_bfloat16_and_sums_in_float32():
    arguments = case(0, 20, 4, 2, 8, 6, 8, learned=False)
    mixed = moved(arguments, torch.float32)
    mixed["query"] = arguments["query"].detach().to(DEVICE, torch.bfloat16).requires_grad_()
    exact = {**arguments, "query": mixed["query"].detach().double().cpu().requires_grad_()}
    owed = torch.randn(20, 2, 23, generator=torch.Generator().manual_seed(1)).bfloat16()
    out = GatherAttentionTriton.apply(*mixed.values())
    found = [out, *torch.autograd.grad(out, [mixed["query"], mixed["z"]], owed.to(DEVICE))]
    assert [x.dtype for x in found] == [torch.bfloat16, torch.bfloat16, torch.float32]
    out = gather_attention_reference(*exact.values())
    expected = [out, *torch.autograd.grad(out, [exact["query"], exact["z"]], owed.double())]
    for fast, slow, bits in zip(found, expected, (7, 7, 20), strict=True):
        assert (fast.double().cpu() - slow).abs().max() < 2.0**-bits * slow.abs().max()


def test_time_phase_keeps_its_digits_over_years_in_seconds():
    arguments = case(0, 4, 3, 1, 2, 0, 6, dropout=False, learned=False)
    arguments["dt"] = torch.full((4, 3), 1_600_000_000)
    check(arguments, 1e-5, torch.float64)
    out = GatherAttentionTriton.apply(*moved(arguments, torch.float32).values())
    torch.testing.assert_close(
        out.cpu().double(), gather_attention_reference(*arguments.values()), rtol=0, atol=1e-5, check_stride=False
    )


def test_a_root_without_a_past_gets_zeros_and_gives_no_gradient():
    arguments = case(0, 3, 2, 1, 2, 2, 2)
    arguments["event"][:] = -1
    out, *gradients = outputs_and_gradients(GatherAttentionTriton.apply, moved(arguments))
    assert not out.any()
    assert not any(g.any() for g in gradients)


def test_no_roots_at_all():
    arguments = moved(case(0, 1, 2, 1, 2, 2, 2))
    for name in ("query_row", "slot", "event", "dt", "keep"):
        arguments[name] = arguments[name][:0]
    out, *gradients = outputs_and_gradients(GatherAttentionTriton.apply, arguments)
    assert out.shape == (0, 1, 7)
    assert not any(g.any() for g in gradients)


def test_nan_is_not_hidden():
    arguments = case(0, 3, 2, 1, 2, 2, 2, dropout=False)
    arguments["event"][:] = 0
    with torch.no_grad():
        arguments["z"][:] = torch.nan
    assert GatherAttentionTriton.apply(*moved(arguments).values()).isnan().any()


def test_gradients_are_the_same_each_time():
    arguments = moved(case(3, 20, 5, 2, 8, 4, 8), torch.float32)
    first, second = (outputs_and_gradients(GatherAttentionTriton.apply, arguments) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_whole_layer(monkeypatch):
    """As a model calls them: plain tensor operations around the kernels, against the CPU's kernels."""
    block, z, edge = block_and_tables(R=12)
    layer = TemporalAttention(10, 6, TimeEncoding(7, learned=True), 8, heads=2, dropout=0.0).double()
    found = []
    for implementation in (GatherAttention.apply, gather_attention_triton):
        monkeypatch.setattr(gather_attention_module, "_implementation", lambda query, use=implementation: use)
        device = "cpu" if implementation is GatherAttention.apply else DEVICE
        layer.to(device).zero_grad()
        here = Block(*(x.to(device) for x in vars(block).values() if x is not None))
        h = layer(z.to(device), here, edge.to(device))
        h.sin().sum().backward()
        found.append([h.detach().cpu(), *(p.grad.cpu().clone() for p in layer.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton brings its assembler for Linux alone")
@pytest.mark.parametrize("types", [("fp32", "fp32"), ("bf16", "fp32"), ("fp64", "fp64")])
def test_kernels_compile_for_a_gpu_that_need_not_be_there(types, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("triton_compile.py")
    done = subprocess.run(
        [sys.executable, script, *types],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sizes = dict(line.split() for line in done.stdout.splitlines())
    assert len(sizes) == 5
    assert all(int(size) > 1000 for size in sizes.values())


@pytest.mark.cuda
@pytest.mark.skipif(DEVICE != "cuda", reason="no GPU on this machine")
def test_gpu_takes_the_kernels():
    out = gather_attention(*moved(case(0, 5, 2, 1, 2, 2, 2)).values())
    assert type(out.grad_fn).__name__ == "GatherAttentionTritonBackward"
