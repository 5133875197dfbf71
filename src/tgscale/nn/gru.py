"""The GRU cell on CPU: the arithmetic of :class:`torch.nn.GRUCell`, without gradients that nobody asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgscale.nn.dispatch import on_cpu_kernels
from tgscale.nn.gemm import gemm


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor) -> Tensor:
        D = h.shape[1]
        gate_x = gemm(x, w_x.t()).add_(b_x)
        gate_h = gemm(h, w_h.t()).add_(b_h)
        r, z = torch.sigmoid_(gate_x[:, : 2 * D].add_(gate_h[:, : 2 * D])).split(D, dim=1)
        inner = gate_h[:, 2 * D :]
        n = gate_x[:, 2 * D :].addcmul_(r, inner).tanh_()
        ctx.save_for_backward(x, h, w_x, w_h, r, z, n, inner)
        return torch.lerp(n, h, z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, h, w_x, w_h, r, z, n, inner = ctx.saved_tensors
        D = h.shape[1]
        pre_n = grad * (1 - z) * (1 - n * n)
        gate_x = grad.new_empty(len(grad), 3 * D)
        torch.mul(pre_n * inner, r * (1 - r), out=gate_x[:, :D])
        torch.mul(grad * (h - n), z * (1 - z), out=gate_x[:, D : 2 * D])
        gate_x[:, 2 * D :] = pre_n
        gate_h = gate_x.clone()
        gate_h[:, 2 * D :].mul_(r)
        grad_x = gemm(gate_x, w_x) if ctx.needs_input_grad[0] else None
        grad_h = gemm(gate_h, w_h).addcmul_(grad, z) if ctx.needs_input_grad[1] else None
        return grad_x, grad_h, gemm(gate_x.t(), x), gemm(gate_h.t(), h), gate_x.sum(0), gate_h.sum(0)


def _mixed(cell: nn.GRUCell, x: Tensor, h: Tensor) -> Tensor:
    """Products in autocast's type, gates and states in the state's: a state that is rounded at each event drifts."""
    from_x = F.linear(x, cell.weight_ih, cell.bias_ih).to(h.dtype)
    from_h = F.linear(h, cell.weight_hh, cell.bias_hh).to(h.dtype)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = from_x.chunk(3, dim=1), from_h.chunk(3, dim=1)
    n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    return torch.lerp(n, h, torch.sigmoid(x_z + h_z))


def gru_cell(cell: nn.GRUCell, x: Tensor, h: Tensor) -> Tensor:
    """``cell(x, h)``: inputs ``[U, in]``, state ``[U, dim]`` -> ``[U, dim]``."""
    if torch.is_autocast_enabled(x.device.type):
        return _mixed(cell, x, h)
    if not on_cpu_kernels(x) or len(x) == 0:
        return cell(x, h)
    return _GRU.apply(x, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
