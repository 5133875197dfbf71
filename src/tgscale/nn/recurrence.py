"""Recurrent cells over a window of steps, for models whose nodes do not meet inside the recurrence.

What does not depend on the state (aggregation, input weights, biases) is in ``gates`` already, for all steps at once;
here only the recurrence is left. On the CPU a window is one kernel call forward and one backward, with hand-written
gradients; elsewhere, and for other dtypes, the references run as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.errors import ConfigError
from tgscale.graph.parallel import parallel_lock, thread_count
from tgscale.nn import recurrence_numba as kernels
from tgscale.nn.blas_threads import single_threaded_blas

# Below this many gates torch's operators cost less than the way into a kernel and back.
_SMALLEST_CELL = 2**16


def gru_scan(gates: Tensor, u_zr: Tensor, u_n: Tensor, h0: Tensor | None = None) -> Tensor:
    """A GRU over a window, in the form of T-GCN (Zhao et al., T-ITS 2020, equations 2 to 5).

    For each step, with ``gates = [g_z || g_r || g_n]``::

        [z || r] = sigmoid([g_z || g_r] + h @ u_zr)
        n        = tanh(g_n + (r * h) @ u_n)            # the reset comes before the product, unlike torch.nn.GRU
        h        = z * h + (1 - z) * n

    Args:
        gates: the part of the pre-activations that does not depend on the state, ``[w, N, 3C]``, float32 or float64.
        u_zr: ``[C, 2C]``; u_n: ``[C, C]``.
        h0: state before the window, ``[N, C]``; None: zeros (and the first step's products are left out).

    Returns:
        The state after each step, ``[w, N, C]``. Beside it ``3C`` numbers per step and node are kept for the backward
        pass; without gradients, ``3C`` per node.

    Raises:
        ConfigError: shapes that do not fit.
    """
    _, N, C = gate_sizes(gates, 3)
    expect("u_zr", u_zr, (C, 2 * C))
    expect("u_n", u_n, (C, C))
    expect("h0", h0, (N, C))
    if not has_kernel(gates):
        return gru_scan_reference(gates, u_zr, u_n, h0)
    return _GRUScan.apply(gates, u_zr, u_n, h0)


def gru_scan_reference(gates: Tensor, u_zr: Tensor, u_n: Tensor, h0: Tensor | None = None) -> Tensor:
    """``gru_scan`` in plain tensor operations, on any device."""
    C = len(u_n)
    h = gates.new_zeros(gates.shape[1], C) if h0 is None else h0
    states = []
    for gate in gates:
        z, r = torch.sigmoid(gate[:, : 2 * C] + h @ u_zr).split(C, dim=1)
        n = torch.tanh(gate[:, 2 * C :] + (r * h) @ u_n)
        h = z * h + (1 - z) * n
        states.append(h)
    return torch.stack(states) if states else gates.new_zeros(0, gates.shape[1], C)


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The elementwise half of an LSTM step (Hochreiter and Schmidhuber 1997; with forget gate, no peepholes).

    ``[i || f || g || o] = [sigmoid || sigmoid || tanh || sigmoid](gates)``, ``c' = f * c + i * g``,
    ``h = o * tanh(c')``.

    Args:
        gates: pre-activations in the order i, f, g, o, ``[N, 4C]``.
        c: cell state, ``[N, C]``.

    Returns:
        ``h`` and ``c'``, ``[N, C]`` each. ``4C`` numbers per node are kept for the backward pass beside ``c'``.

    Raises:
        ConfigError: shapes that do not fit.
    """
    _, N, C = gate_sizes(gates[None], 4)
    expect("c", c, (N, C))
    if not has_kernel(gates) or gates.numel() < _SMALLEST_CELL:
        return lstm_cell_reference(gates, c)
    # A window of one step whose state before is zero, so that the recurrent weights play no part.
    h, last = _LSTMScan.apply(gates[None], gates.new_empty(0, 4 * C), None, c)
    return h[0], last


def lstm_cell_reference(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``lstm_cell`` in plain tensor operations, on any device."""
    i, f, g, o = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def lstm_scan(gates: Tensor, u: Tensor, h0: Tensor | None = None, c0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """An LSTM over a window: ``lstm_cell(gates[t] + h @ u, c)`` at each step.

    Args:
        gates: the input's part of the pre-activations with biases, in the order i, f, g, o, ``[w, N, 4C]``, float32
            or float64.
        u: recurrent weights, ``[C, 4C]``.
        h0, c0: state before the window, ``[N, C]``; None: zeros.

    Returns:
        ``h`` after each step, ``[w, N, C]``, and the last ``c``, ``[N, C]``. Beside them ``5C`` numbers per step and
        node are kept for the backward pass; without gradients, ``6C`` per node.

    Raises:
        ConfigError: shapes that do not fit.
    """
    _, N, C = gate_sizes(gates, 4)
    expect("u", u, (C, 4 * C))
    expect("h0", h0, (N, C))
    expect("c0", c0, (N, C))
    if not has_kernel(gates):
        return lstm_scan_reference(gates, u, h0, c0)
    return _LSTMScan.apply(gates, u, h0, c0)


def lstm_scan_reference(
    gates: Tensor, u: Tensor, h0: Tensor | None = None, c0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``lstm_scan`` in plain tensor operations, on any device."""
    zeros = gates.new_zeros(gates.shape[1], len(u))
    h, c = zeros if h0 is None else h0, zeros if c0 is None else c0
    states = []
    for gate in gates:
        h, c = lstm_cell_reference(gate + h @ u, c)
        states.append(h)
    return torch.stack(states) if states else gates.new_zeros(0, *zeros.shape), c


class _GRUScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, u_zr: Tensor, u_n: Tensor, h0: Tensor | None) -> Tensor:
        w, N, C = gates.shape[0], gates.shape[1], len(u_n)
        kept = w if any(ctx.needs_input_grad) else 1
        zr, n, out = gates.new_empty(kept, N, 2 * C), gates.new_empty(kept, N, C), gates.new_empty(w, N, C)
        fixed = (u_zr.contiguous(), u_n.contiguous(), state(h0, gates, C))
        _run(kernels.gru_forward, kernels.gru_forward_parallel, w, N, gates.contiguous(), *fixed, zr, n, out)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*fixed, zr, n, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u_zr, u_n, h0, zr, n, out = ctx.saved_tensors
        w, N, C = out.shape
        parts = kernels.part_count(N)
        grad_gates, grad_h0 = out.new_empty(w, N, 3 * C), torch.empty_like(h0)
        du_zr, du_n = out.new_empty(parts, C, 2 * C), out.new_empty(parts, C, C)
        arguments = (grad.contiguous(), u_zr, u_n, h0, zr, n, out, grad_gates, grad_h0, du_zr, du_n)
        _run(kernels.gru_backward, kernels.gru_backward_parallel, w, N, *arguments)
        return grad_gates, du_zr.sum(0), du_n.sum(0), grad_h0 if len(h0) else None


class _LSTMScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, u: Tensor, h0: Tensor | None, c0: Tensor | None) -> tuple[Tensor, Tensor]:
        w, N, C = gates.shape[0], gates.shape[1], gates.shape[2] // 4
        training = any(ctx.needs_input_grad)
        act, c = gates.new_empty(w if training else 1, N, 4 * C), gates.new_empty(w if training else min(w, 2), N, C)
        out = gates.new_empty(w, N, C)
        fixed = (u.contiguous(), state(h0, gates, C), state(c0, gates, C))
        _run(kernels.lstm_forward, kernels.lstm_forward_parallel, w, N, gates.contiguous(), *fixed, act, c, out)
        if training:
            ctx.save_for_backward(*fixed, act, c, out)
        return out, c[(w - 1) % len(c)].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        u, h0, c0, act, c, out = ctx.saved_tensors
        w, N, C = out.shape
        grad_gates, grad_h0, grad_c0 = out.new_empty(w, N, 4 * C), torch.empty_like(h0), torch.empty_like(c0)
        du = out.new_empty(kernels.part_count(N), C, 4 * C)
        arguments = (grad.contiguous(), grad_c.contiguous(), u, h0, c0, act, c, out, grad_gates, grad_h0, grad_c0, du)
        _run(kernels.lstm_backward, kernels.lstm_backward_parallel, w, N, *arguments)
        grad_u = du.sum(0) if len(u) else torch.zeros_like(u)
        return grad_gates, grad_u, grad_h0 if len(h0) else None, grad_c0 if len(c0) else None


def state(given: Tensor | None, gates: Tensor, channels: int) -> Tensor:
    """A state ``[N, channels]`` as kernels take it: no rows stand for zeros."""
    return gates.new_empty(0, channels) if given is None else given.contiguous()


def _run(serial: Callable, parallel: Callable, steps: int, num_nodes: int, *tensors: Tensor) -> None:
    arrays = [x.detach().numpy() for x in tensors]
    parts = kernels.part_count(num_nodes)
    if parts == 1 or thread_count(steps * num_nodes) == 1:
        with single_threaded_blas:
            serial(*arrays, parts, 0, parts)
        return
    with parallel_lock, single_threaded_blas:  # each thread of the kernel calls BLAS by itself
        parallel(*arrays, parts)


def has_kernel(gates: Tensor) -> bool:
    """Whether the CPU kernels take gates of this device, type and size."""
    return gates.device.type == "cpu" and gates.dtype in (torch.float32, torch.float64) and gates.numel() > 0


def gate_sizes(gates: Tensor, per_channel: int) -> tuple[int, int, int]:
    """Steps, nodes and channels of gates ``[w, N, per_channel * C]``.

    Raises:
        ConfigError: of another shape.
    """
    if gates.ndim != 3 or gates.shape[2] % per_channel:
        raise ConfigError(f"gates are {list(gates.shape)}: expected [steps, nodes, {per_channel} * channels].")
    return gates.shape[0], gates.shape[1], gates.shape[2] // per_channel


def expect(name: str, x: Tensor | None, shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape; None is none.

    Raises:
        ConfigError: as said.
    """
    if x is not None and tuple(x.shape) != shape:
        raise ConfigError(f"{name} is {list(x.shape)}, expected {list(shape)} as gates have it.")
