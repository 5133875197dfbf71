import pytest
import torch
from torch.nn import functional as F

from tgscale.nn import gemm as gemm_module
from tgscale.nn.linear import linear


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("shape", [(9, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_torch_forward_and_backward(numpy, shape, bias, monkeypatch):
    monkeypatch.setattr(gemm_module, "prefers_numpy", lambda: numpy)
    torch.manual_seed(0)
    x, whole = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in (shape, (5, 10)))
    weight = whole[:, 2:9]  # columns of a larger matrix, as in the attention layer
    b = torch.randn(5, dtype=torch.float64, requires_grad=True) if bias else None
    results = []
    for function in (F.linear, linear):
        out = function(x, weight, b)
        grads = torch.autograd.grad((out * torch.arange(5)).square().sum(), [x, whole] + [b] * bias)
        results.append([out, *grads])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_nothing_is_computed_that_nobody_asked_for():
    x, weight = torch.randn(4, 3), torch.randn(2, 3, requires_grad=True)
    linear(x, weight, torch.zeros(2)).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(2, 3))
    assert x.grad is None
