import pytest
import torch

from tgscale.nn.residual_norm import dropout_mask, residual_norm, residual_norm_reference


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (70, 5), (300, 100)])
def test_kernels_equal_the_reference_forward_and_backward(dropout, rows, width):
    g = torch.Generator().manual_seed(0)
    y, own = (torch.randn(n, width, generator=g).double().requires_grad_() for n in (rows, 9))
    gamma, beta = (torch.randn(width, generator=g).double().requires_grad_() for _ in range(2))
    row = torch.randint(0, 9, (rows,), generator=g)
    keep = (torch.rand(rows, width, generator=g) > 0.3).double() / 0.7 if dropout else None
    results = []
    for function in (residual_norm, residual_norm_reference):
        h = function(y, own, row, keep, gamma, beta, 1e-5)
        loss = (h * torch.sin(torch.arange(h.numel())).view_as(h)).sum()
        results.append([h, *torch.autograd.grad(loss, (y, own, gamma, beta))])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_a_nan_is_shown():
    y = torch.tensor([[1.0, float("nan"), 2.0]])
    h = residual_norm(
        y, torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), None, torch.ones(3), torch.zeros(3), 1e-5
    )
    assert h.isnan().any()


def test_masks_drop_their_share_and_follow_the_generator():
    torch.manual_seed(1)
    mask = dropout_mask(401, 499, p=0.2, dtype=torch.float32)
    assert set(mask.unique().tolist()) == {0.0, 1.25}
    share = (mask == 0).double()
    assert abs(share.mean() - 0.2) < 4 * (0.16 / mask.numel()) ** 0.5
    neighbors = (share[:, 1:] * share[:, :-1]).mean()  # independent of the one beside it
    assert abs(neighbors - 0.04) < 4 * (0.04 / mask.numel()) ** 0.5
    assert not torch.equal(dropout_mask(401, 499, p=0.2, dtype=torch.float32), mask)
    torch.manual_seed(1)
    assert torch.equal(dropout_mask(401, 499, p=0.2, dtype=torch.float32), mask)
