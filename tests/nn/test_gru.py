import pytest
import torch
from torch import nn

from tgscale.nn import gemm as gemm_module
from tgscale.nn.gemm import gemm
from tgscale.nn.gru import gru_cell
from tgscale.nn.per_head import per_head_product


@pytest.fixture(params=[True, False], ids=["numpy", "torch"])
def blas(request, monkeypatch):
    monkeypatch.setattr(gemm_module, "prefers_numpy", lambda: request.param)


def test_gru_equals_torch_forward_and_backward(blas):
    torch.manual_seed(0)
    cell = nn.GRUCell(7, 5).double()
    x, h = torch.randn(9, 7).double().requires_grad_(), torch.randn(9, 5).double().requires_grad_()
    results = []
    for step in (cell, lambda x, h: gru_cell(cell, x, h)):
        out = step(x, h)
        loss = (out * torch.arange(5)).square().sum()
        results.append([out, *torch.autograd.grad(loss, [x, h, *cell.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_gru_of_no_rows():
    assert gru_cell(nn.GRUCell(7, 5), torch.empty(0, 7), torch.empty(0, 5)).shape == (0, 5)


def test_gemm_reads_and_writes_views_in_place(blas):
    torch.manual_seed(0)
    x, w = torch.randn(6, 2, 4), torch.randn(5, 4)
    out = torch.zeros(6, 2, 5)
    gemm(x[:, 1], w.t(), out[:, 1])
    torch.testing.assert_close(out[:, 1], x[:, 1] @ w.t())
    assert not out[:, 0].any()
    torch.testing.assert_close(gemm(x[:, 0].t(), x[:, 1]), x[:, 0].t() @ x[:, 1])


def test_per_head_product_equals_einsum_forward_and_backward(blas):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for product in (per_head_product, lambda x, w: torch.einsum("rha,hab->rhb", x, w)):
        out = product(x, w)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, w])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
