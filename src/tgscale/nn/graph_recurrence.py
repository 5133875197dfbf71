"""Recurrent cells that aggregate their own state over the graph of each step: LRGCN, GC-LSTM, GConvGRU.

Each step's state goes through a list of matrices (:mod:`tgscale.graph.bases`) that all gates share: relations and the
identity, or Chebyshev polynomials. What does not depend on the state is in ``gates`` already. On the CPU a window is
one kernel call forward and one backward, with hand-written gradients. Elsewhere the references run as they are, and so
they do where a step is large enough to be worth several threads: their operators are parallel one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.errors import ConfigError
from tgscale.graph.bases import Bases, address_table, apply_bases, check_bases
from tgscale.graph.parallel import thread_count
from tgscale.nn import graph_recurrence_numba as kernels
from tgscale.nn.blas_threads import single_threaded_blas
from tgscale.nn.recurrence import expect, gate_sizes, has_kernel, lstm_cell, state


def lstm_graph_scan(
    gates: Tensor,
    bases: Bases,
    graphs: Tensor,
    u: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    chebyshev: bool = False,
) -> tuple[Tensor, Tensor]:
    """An LSTM whose state is aggregated: ``lstm_cell(gates[t] + sum_b T_b(h) @ u[b], c)`` at each step.

    With relations and the identity this is LRGCN (Li et al., KDD 2019); with Chebyshev polynomials GC-LSTM (Chen et
    al., Applied Intelligence 2022).

    Args:
        gates: the input's part of the pre-activations with biases, in the order i, f, g, o, ``[w, N, 4C]``, float32
            or float64.
        bases: ``B`` square matrices in the dtype of ``gates``; None is the identity.
        graphs: the graph that each step shows, ``[w]``, int64, on the CPU.
        u: recurrent weights, ``[B, C, 4C]``.
        h0, c0: state before the window, ``[N, C]``; None: zeros.
        chebyshev: ``bases`` is ``[None, L, L, ...]`` and ``T_b = 2 L T_(b-1) - T_(b-2)`` from ``b = 2`` on.

    Returns:
        ``h`` after each step, ``[w, N, C]``, and the last ``c``, ``[N, C]``. Beside them ``(5 + B) C`` numbers per step
        and node are kept for the backward pass; without gradients, ``(6 + B) C`` per node.

    Raises:
        ConfigError: shapes, dtypes or graphs that do not fit.
    """
    _, N, C = _check(gates, 4, bases, graphs, chebyshev)
    expect("u", u, (len(bases), C, 4 * C))
    expect("h0", h0, (N, C))
    expect("c0", c0, (N, C))
    if not _one_call(gates):
        return lstm_graph_scan_reference(gates, bases, graphs, u, h0, c0, chebyshev)
    return _LSTMGraphScan.apply(gates, bases, graphs.numpy(), u, h0, c0, chebyshev)


def lstm_graph_scan_reference(
    gates: Tensor,
    bases: Bases,
    graphs: Tensor,
    u: Tensor,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    chebyshev: bool = False,
) -> tuple[Tensor, Tensor]:
    """``lstm_graph_scan`` in plain tensor operations and ``aggregate``, on any device."""
    zeros = gates.new_zeros(gates.shape[1], gates.shape[2] // 4)
    h, c = zeros if h0 is None else h0, zeros if c0 is None else c0
    states = []
    for t, gate in enumerate(gates):
        h, c = lstm_cell(gate + apply_bases(bases, graphs[t : t + 1], h, chebyshev) @ u.flatten(0, 1), c)
        states.append(h)
    return torch.stack(states) if states else gates.new_zeros(0, *zeros.shape), c


def gru_graph_scan(
    gates: Tensor,
    bases: Bases,
    graphs: Tensor,
    u_zr: Tensor,
    u_n: Tensor,
    h0: Tensor | None = None,
    chebyshev: bool = False,
) -> Tensor:
    """A GRU whose state is aggregated: GConvGRU (Seo et al., ICONIP 2018, equation 9).

    For each step, with ``gates = [g_z || g_r || g_n]``::

        [z || r] = sigmoid([g_z || g_r] + sum_b T_b(h) @ u_zr[b])
        n        = tanh(g_n + sum_b T_b(r * h) @ u_n[b])
        h        = z * h + (1 - z) * n

    Args:
        gates: the input's part of the pre-activations with biases, ``[w, N, 3C]``, float32 or float64.
        u_zr: ``[B, C, 2C]``; u_n: ``[B, C, C]``.
        bases, graphs, h0, chebyshev: as for ``lstm_graph_scan``.

    Returns:
        The state after each step, ``[w, N, C]``. Beside it ``(3 + 2B) C`` numbers per step and node are kept for the
        backward pass; without gradients, as many per node.

    Raises:
        ConfigError: shapes, dtypes or graphs that do not fit.
    """
    _, N, C = _check(gates, 3, bases, graphs, chebyshev)
    expect("u_zr", u_zr, (len(bases), C, 2 * C))
    expect("u_n", u_n, (len(bases), C, C))
    expect("h0", h0, (N, C))
    if not _one_call(gates):
        return gru_graph_scan_reference(gates, bases, graphs, u_zr, u_n, h0, chebyshev)
    return _GRUGraphScan.apply(gates, bases, graphs.numpy(), u_zr, u_n, h0, chebyshev)


def gru_graph_scan_reference(
    gates: Tensor,
    bases: Bases,
    graphs: Tensor,
    u_zr: Tensor,
    u_n: Tensor,
    h0: Tensor | None = None,
    chebyshev: bool = False,
) -> Tensor:
    """``gru_graph_scan`` in plain tensor operations and ``aggregate``, on any device."""
    C = gates.shape[2] // 3
    h = gates.new_zeros(gates.shape[1], C) if h0 is None else h0
    states = []
    for t, gate in enumerate(gates):
        gathered = apply_bases(bases, graphs[t : t + 1], h, chebyshev)
        z, r = torch.sigmoid(gate[:, : 2 * C] + gathered @ u_zr.flatten(0, 1)).split(C, dim=1)
        gathered = apply_bases(bases, graphs[t : t + 1], r * h, chebyshev)
        n = torch.tanh(gate[:, 2 * C :] + gathered @ u_n.flatten(0, 1))
        h = z * h + (1 - z) * n
        states.append(h)
    return torch.stack(states) if states else gates.new_zeros(0, gates.shape[1], C)


def _check(gates: Tensor, per_channel: int, bases: Bases, graphs: Tensor, chebyshev: bool) -> tuple[int, int, int]:
    sizes = gate_sizes(gates, per_channel)
    if graphs.shape != (sizes[0],) or graphs.device.type != "cpu":
        raise ConfigError(
            f"graphs is {list(graphs.shape)} on {graphs.device}: expected [{sizes[0]}], one per step, on the CPU."
        )
    check_bases(bases, graphs, sizes[1], gates.dtype, chebyshev)
    return sizes


def _one_call(gates: Tensor) -> bool:
    return has_kernel(gates) and thread_count(gates.shape[1]) == 1


class _LSTMGraphScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        bases: Bases,
        graphs: np.ndarray,
        u: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        chebyshev: bool,
    ) -> tuple[Tensor, Tensor]:
        w, N, C = gates.shape[0], gates.shape[1], gates.shape[2] // 4
        training = any(ctx.needs_input_grad)
        kept = w if training else 1
        cat, act = gates.new_empty(kept, N, len(bases) * C), gates.new_empty(kept, N, 4 * C)
        c, out = gates.new_empty(w if training else min(w, 2), N, C), gates.new_empty(w, N, C)
        fixed = (u.flatten(0, 1).contiguous(), state(h0, gates, C), state(c0, gates, C))
        table = address_table(bases, graphs)
        with single_threaded_blas:
            kernels.lstm_graph_forward(_array(gates), table, chebyshev, *map(_array, (*fixed, cat, act, c, out)))
        if training:
            ctx.save_for_backward(*fixed, cat, act, c)
            ctx.bases, ctx.graphs, ctx.chebyshev = bases, graphs, chebyshev
        return out, c[(w - 1) % len(c)].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Any, ...]:
        u, h0, c0, cat, act, c = ctx.saved_tensors
        grad_gates, du = torch.empty_like(act), torch.empty_like(u)
        grad_h0, grad_c0 = torch.empty_like(grad_c), torch.empty_like(grad_c)
        table = address_table(ctx.bases, ctx.graphs, transposed=True)
        tensors = (u, h0, c0, cat, act, c, grad_gates, grad_h0, grad_c0, du)
        with single_threaded_blas:
            kernels.lstm_graph_backward(_array(grad), _array(grad_c), table, ctx.chebyshev, *map(_array, tensors))
        du = du.view(len(ctx.bases), -1, du.shape[1])
        return grad_gates, None, None, du, grad_h0 if len(h0) else None, grad_c0 if len(c0) else None, None


class _GRUGraphScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        bases: Bases,
        graphs: np.ndarray,
        u_zr: Tensor,
        u_n: Tensor,
        h0: Tensor | None,
        chebyshev: bool,
    ) -> Tensor:
        w, N, C = gates.shape[0], gates.shape[1], gates.shape[2] // 3
        training = any(ctx.needs_input_grad)
        kept = w if training else 1
        cat_h, cat_rh = (gates.new_empty(kept, N, len(bases) * C) for _ in range(2))
        zr, n, out = gates.new_empty(kept, N, 2 * C), gates.new_empty(kept, N, C), gates.new_empty(w, N, C)
        fixed = (u_zr.flatten(0, 1).contiguous(), u_n.flatten(0, 1).contiguous(), state(h0, gates, C))
        table = address_table(bases, graphs)
        tensors = (*fixed, cat_h, cat_rh, zr, n, out)
        with single_threaded_blas:
            kernels.gru_graph_forward(_array(gates), table, chebyshev, *map(_array, tensors))
        if training:
            ctx.save_for_backward(*tensors)
            ctx.bases, ctx.graphs, ctx.chebyshev = bases, graphs, chebyshev
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        u_zr, u_n, h0, *_, out = ctx.saved_tensors
        w, N, C = out.shape
        grad_gates, grad_h0 = out.new_empty(w, N, 3 * C), out.new_empty(N, C)
        du_zr, du_n = torch.empty_like(u_zr), torch.empty_like(u_n)
        table = address_table(ctx.bases, ctx.graphs, transposed=True)
        tensors = (*ctx.saved_tensors, grad_gates, grad_h0, du_zr, du_n)
        with single_threaded_blas:
            kernels.gru_graph_backward(_array(grad), table, ctx.chebyshev, *map(_array, tensors))
        B = len(ctx.bases)
        grads = grad_gates, None, None, du_zr.view(B, C, 2 * C), du_n.view(B, C, C)
        return *grads, grad_h0 if len(h0) else None, None


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()
