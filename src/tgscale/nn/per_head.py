"""A small matrix product per attention head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tgscale.nn.dispatch import on_cpu_kernels
from tgscale.nn.gemm import gemm


class _PerHead(torch.autograd.Function):
    """One GEMM per head straight into and out of strided slices: on CPU, einsum goes through copies and a slow bmm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        out = x.new_empty(x.shape[0], weight.shape[0], weight.shape[2])
        for h in range(weight.shape[0]):
            gemm(x[:, h], weight[h], out[:, h])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
        for h in range(weight.shape[0]):
            gemm(grad[:, h], weight[h].t(), grad_x[:, h])
            gemm(x[:, h].t(), grad[:, h], grad_weight[h])
        return grad_x, grad_weight


def per_head_product(x: Tensor, weight: Tensor) -> Tensor:
    """Each head's rows times each head's matrix: ``[R, H, A], [H, A, B] -> [R, H, B]``."""
    if on_cpu_kernels(x):
        return _PerHead.apply(x, weight)
    return torch.einsum("rha,hab->rhb", x, weight)
