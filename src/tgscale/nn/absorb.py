"""Absorbing mail on a CPU: rows with mail are picked, put together and run through the GRU in a few kernels.

The arithmetic is that of :class:`torch.nn.GRUCell` on ``x = [mail || edge features || phi(dt)]`` and state ``h``. What
is saved: a node's mail begins with its own memory as it was when the mail was left, and that is the memory that it has
now (both are written together, :func:`tgscale.memory.local.rows_after_events`). So ``h`` is the first part of ``x``,
and its products with both weights of the reset and update gates are one product with their sum.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

from tgscale.nn.fast_math import sigmoid, tanh
from tgscale.nn.gather_attention import FAST_MATH, SINE, feature_row, padded_phase
from tgscale.nn.gemm import gemm
from tgscale.nn.prefetch import prefetch_row

_AHEAD = 4


@numba.njit(cache=True, nogil=True)
def _with_mail(mail_event):
    rows = np.empty(len(mail_event), np.int64)
    found = 0
    for u in range(len(mail_event)):
        if mail_event[u] >= 0:
            rows[found] = u
            found += 1
    return rows[:found]


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _assemble(rows, mail, edge, mail_event, dt, omega, bias, sine, x):
    """x = [mail || edge features || phi(dt)] of the rows; the columns behind are scratch."""
    chunk = 64
    for c in numba.prange((len(rows) + chunk - 1) // chunk):
        phi = np.empty(len(omega), x.dtype)
        for i in range(c * chunk, min(len(rows), (c + 1) * chunk)):
            if i + _AHEAD < len(rows):
                prefetch_row(edge, mail_event[rows[i + _AHEAD]])
                prefetch_row(mail, rows[i + _AHEAD])
            u = rows[i]
            feature_row(x[i], mail[u], edge[mail_event[u]], dt[u], omega, bias, sine, phi)


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _gates(rows, x, gate, inner, b_x, b_h, out):
    """Gates r, z, n in place of their sums in ``gate``; new states into the rows of ``out``."""
    D = inner.shape[1]
    for i in numba.prange(len(rows)):
        a, q, h, new = gate[i], inner[i], x[i], out[rows[i]]
        r, z, n = a[:D], a[D : 2 * D], a[2 * D : 3 * D]
        for d in range(D):
            r[d] = sigmoid(r[d] + (b_x[d] + b_h[d]))
        for d in range(D):
            z[d] = sigmoid(z[d] + (b_x[D + d] + b_h[D + d]))
        for d in range(D):
            q[d] += b_h[2 * D + d]
        for d in range(D):
            n[d] = tanh(n[d] + b_x[2 * D + d] + r[d] * q[d])
        for d in range(D):
            new[d] = n[d] + z[d] * (h[d] - n[d])


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _gates_backward(rows, x, gate, inner, grad, grad_gate, grad_inner):
    """Gradients of the gates' sums, and of the product of the state within the candidate."""
    D = inner.shape[1]
    one = grad.dtype.type(1)
    for i in numba.prange(len(rows)):
        a, q, h, g, out, out_inner = gate[i], inner[i], x[i], grad[rows[i]], grad_gate[i], grad_inner[i]
        r, z, n = a[:D], a[D : 2 * D], a[2 * D : 3 * D]
        out_r, out_z, out_n = out[:D], out[D : 2 * D], out[2 * D : 3 * D]
        # A loop each: with more arrays than this the compiler gives up telling them apart, and does not vectorise.
        for d in range(D):
            out_n[d] = g[d] * (one - z[d]) * (one - n[d] * n[d])
        for d in range(D):
            out_inner[d] = out_n[d] * r[d]
        for d in range(D):
            out_r[d] = out_inner[d] * q[d] * (one - r[d])
        for d in range(D):
            out_z[d] = (h[d] - n[d]) * z[d] * (one - z[d])
        for d in range(D):
            out_z[d] *= g[d]


class _Absorb(torch.autograd.Function):
    """Gradients for the weights alone: what is read from the memory is not differentiated (DistTGL, TGN)."""

    @staticmethod
    def forward(
        ctx: Any, memory: Tensor, mail: Tensor, dt: Tensor, edge: Tensor, mail_event: Tensor,
        omega: Tensor, bias: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor,
    ) -> Tensor:  # fmt: skip
        D, width = memory.shape[1], w_x.shape[1]
        rows = _with_mail(mail_event.numpy())
        padded = memory.new_empty(len(rows), width + 1)  # the kernels take it whole: rows of a view are slow
        table = edge.numpy()
        sine = SINE.astype(padded.numpy().dtype)
        _assemble(
            rows, mail.numpy(), table, mail_event.numpy(), dt.numpy(), padded_phase(omega), padded_phase(bias),
            sine, padded.numpy(),
        )  # fmt: skip
        x = padded[:, :width]
        weight = w_x.clone()
        weight[: 2 * D, :D] += w_h[: 2 * D]
        gate, inner = gemm(x, weight.t()), gemm(x[:, :D], w_h[2 * D :].t())
        out = memory.clone()
        biases = b_x.detach().numpy(), b_h.detach().numpy()
        _gates(rows, padded.numpy(), gate.numpy(), inner.numpy(), biases[0], biases[1], out.numpy())
        ctx.rows = rows
        ctx.save_for_backward(padded, gate, inner)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        padded, gate, inner = ctx.saved_tensors
        D, x = inner.shape[1], padded[:, :-1]
        grad_gate, grad_inner = torch.empty_like(gate), torch.empty_like(inner)
        arrays = (padded, gate, inner, grad.contiguous(), grad_gate, grad_inner)
        _gates_backward(ctx.rows, *(a.numpy() for a in arrays))
        grad_x = gemm(grad_gate.t(), x)
        grad_h = torch.cat([grad_x[: 2 * D, :D], gemm(grad_inner.t(), x[:, :D])])
        bias = grad_gate.sum(0)
        return *([None] * 7), grad_x, grad_h, bias, torch.cat([bias[: 2 * D], grad_inner.sum(0)])


def can_absorb(cell: nn.Module, memory: Tensor, mail: Tensor, omega: Tensor) -> bool:
    """Whether :func:`absorb` applies: a GRU on a CPU, and no gradient but that of its weights."""
    tracked = torch.is_grad_enabled() and (memory.requires_grad or mail.requires_grad or omega.requires_grad)
    return isinstance(cell, nn.GRUCell) and memory.device.type == "cpu" and not tracked


def absorb(
    cell: nn.GRUCell, memory: Tensor, mail: Tensor, mail_dt: Tensor, edge_features: Tensor, mail_event: Tensor,
    omega: Tensor, bias: Tensor,
) -> Tensor:  # fmt: skip
    """Memory after absorbing mail, ``[U, D]``; nodes without mail keep theirs.

    Args:
        cell: the GRU.
        memory: ``[U, D]``.
        mail: ``[U, 2 D]``; where there is mail, its first half equals ``memory``.
        mail_dt: mail's time minus memory's time, ``[U]``, int64.
        edge_features: by event id, ``[E, F]``.
        mail_event: event id that left the mail, ``[U]``, int64; -1 for none.
        omega, bias: the time encoding, ``[T]``.
    """
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    inputs = (memory.contiguous(), mail.contiguous(), mail_dt, edge_features, mail_event)
    return _Absorb.apply(*inputs, omega, bias, *weights)
