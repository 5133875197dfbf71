"""Recurrent cells on the distinct states of a group: nodes that cannot differ are computed once.

What the states are, and which nodes have which, is found once per group (:mod:`tgscale.graph.distinct`). The result
is that of :func:`~tgscale.nn.recurrence.gru_scan`, ``lstm_scan`` or ``lstm_graph_scan`` on all nodes; the gradient of a
row is the sum over the nodes that share it. On the CPU, with hand-written gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.errors import ConfigError
from tgscale.graph.distinct import StateClasses
from tgscale.graph.parallel import parallel_lock, thread_count
from tgscale.nn import shared_recurrence_numba as kernels
from tgscale.nn.blas_threads import single_threaded_blas
from tgscale.nn.recurrence import expect
from tgscale.nn.recurrence_numba import TILE

_MOST_PARTS = 8


def gru_shared_scan(table: Tensor, classes: StateClasses, u_zr: Tensor, u_n: Tensor) -> Tensor:
    """A GRU over a window in the form of :func:`tgscale.nn.recurrence.gru_scan`, one row per distinct state.

    Args:
        table: the distinct parts of the pre-activations that do not depend on the state, ``[K, 3C]``, float32 or
            float64, on the CPU.
        classes: the states, found without matrices.
        u_zr: ``[C, 2C]``; u_n: ``[C, C]``.

    Returns:
        The distinct states of all steps, ``[R, C]``; ``classes.index`` says whose each is. Beside them ``3C`` numbers
        per row are kept for the backward pass.

    Raises:
        ConfigError: shapes that do not fit.
    """
    C = len(u_n)
    _check(table, classes, 3 * C)
    if classes.num_matrices:
        raise ConfigError("this recurrence does not aggregate its state: find its classes without matrices.")
    expect("u_zr", u_zr, (C, 2 * C))
    expect("u_n", u_n, (C, C))
    return _GRU.apply(table, u_zr, u_n, classes)


def gru_shared_scan_reference(table: Tensor, classes: StateClasses, u_zr: Tensor, u_n: Tensor) -> Tensor:
    """``gru_shared_scan`` in plain tensor operations."""
    C = len(u_n)
    states: list[Tensor] = []
    for t, (rows, parent) in enumerate(_steps(classes)):
        gate = table[torch.from_numpy(classes.inputs[rows]).long()]
        h = states[-1][parent] if t else table.new_zeros(len(gate), C)
        z, r = torch.sigmoid(gate[:, : 2 * C] + h @ u_zr).split(C, dim=1)
        n = torch.tanh(gate[:, 2 * C :] + (r * h) @ u_n)
        states.append(z * h + (1 - z) * n)
    return torch.cat(states)


def lstm_shared_scan(table: Tensor, classes: StateClasses, u_self: Tensor | None, u_near: Tensor | None) -> Tensor:
    """An LSTM over a window in the form of ``lstm_scan`` or ``lstm_graph_scan``, one row per distinct state.

    The pre-activations of a row are its table row, plus ``h @ u_self`` of its state at the step before, plus
    ``g_b @ u_near[b]`` of what it gathers by matrix ``b``. Rows that gather nothing have no product with ``u_near``.

    Args:
        table: as for ``gru_shared_scan``, gates in the order i, f, g, o, ``[K, 4C]``.
        classes: the states, found with the B matrices.
        u_self: ``[C, 4C]``; None: the state itself plays no part.
        u_near: ``[B, C, 4C]``; None: nothing is gathered.

    Returns:
        The distinct states of all steps, ``[R, C]``. Beside them ``5C`` numbers per row are kept for the backward pass.

    Raises:
        ConfigError: shapes that do not fit.
    """
    C = table.shape[1] // 4
    _check(table, classes, 4 * C)
    expect("u_self", u_self, (C, 4 * C))
    expect("u_near", u_near, (classes.num_matrices, C, 4 * C))
    if (u_near is None) != (classes.num_matrices == 0):
        given = "missing" if u_near is None else f"{list(u_near.shape)}"
        raise ConfigError(f"u_near is {given}: the classes were found with {classes.num_matrices} matrices.")
    none = table.new_empty(0, 4 * C)
    return _LSTM.apply(
        table, none if u_self is None else u_self, none if u_near is None else u_near.flatten(0, 1), classes
    )


def lstm_shared_scan_reference(
    table: Tensor, classes: StateClasses, u_self: Tensor | None, u_near: Tensor | None
) -> Tensor:
    """``lstm_shared_scan`` in plain tensor operations."""
    C, B = table.shape[1] // 4, classes.num_matrices
    states: list[Tensor] = []
    cell = table.new_zeros(0, C)
    for t, (rows, parent) in enumerate(_steps(classes)):
        gate = table[torch.from_numpy(classes.inputs[rows]).long()]
        if t:
            h, c = states[-1][parent], cell[parent]
            gate = gate if u_self is None else gate + h @ u_self
            if u_near is not None:
                part = slice(rows.start * B, rows.stop * B + 1)
                start = torch.from_numpy(classes.entries.start[part])
                item = torch.from_numpy(classes.entries.item[start[0] : start[-1]]).long() - classes.offsets[t - 1]
                weight = torch.from_numpy(classes.weight[start[0] : start[-1]])
                lists = torch.arange(len(start) - 1).repeat_interleave(start.diff())
                sums = h.new_zeros(len(start) - 1, C).index_add(0, lists, weight[:, None] * states[-1][item])
                gate = gate + sums.view(len(gate), B * C) @ u_near.flatten(0, 1)
        else:
            c = table.new_zeros(len(gate), C)
        i, f, g, o = gate.chunk(4, dim=1)
        cell = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        states.append(torch.sigmoid(o) * torch.tanh(cell))
    return torch.cat(states)


def _steps(classes: StateClasses) -> list[tuple[slice, Tensor]]:
    """The rows of each step, and their parents counted from the first of the step before."""
    found = []
    for t in range(len(classes.active)):
        rows = slice(int(classes.offsets[t]), int(classes.offsets[t + 1]))
        found.append((rows, torch.from_numpy(classes.parent[rows]).long() - int(classes.offsets[max(t - 1, 0)])))
    return found


def _check(table: Tensor, classes: StateClasses, width: int) -> None:
    if table.device.type != "cpu":
        raise ConfigError(f"distinct states are computed on the CPU, and the table is on {table.device}.")
    if table.ndim != 2 or table.shape[1] != width or len(table) != classes.num_inputs:
        raise ConfigError(
            f"the table is {list(table.shape)}: expected [{classes.num_inputs}, {width}] as classes and "
            f"weights have it."
        )


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, u_zr: Tensor, u_n: Tensor, classes: StateClasses) -> Tensor:
        R, C = classes.num_rows, len(u_n)
        z, r, n, out = (table.new_empty(R, C) for _ in range(4))
        fixed = (u_zr[:, :C].contiguous(), u_zr[:, C:].contiguous(), u_n.contiguous())
        both, which = (kernels.gru_forward, kernels.gru_forward_parallel), (classes.inputs, classes.parent)
        _run(both, classes, classes.offsets, table, *which, *fixed, z, r, n, out)
        ctx.save_for_backward(*fixed, z, r, n, out)
        ctx.classes, ctx.rows = classes, len(table)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *saved, out = ctx.saved_tensors
        classes: StateClasses = ctx.classes
        C, parts = out.shape[1], _parts(classes)
        carry, grad_table = _carry(out, classes), out.new_empty(parts, ctx.rows, 3 * C)
        du, children = out.new_empty(parts, 3, C, C), (classes.children.start, classes.children.item)
        both, which = (kernels.gru_backward, kernels.gru_backward_parallel), (classes.inputs, classes.parent)
        _run(both, classes, classes.offsets, *which, *children, grad, *saved, out, carry, grad_table, du)
        du_z, du_r, du_n = du.sum(0)
        return grad_table.sum(0), torch.cat([du_z, du_r], dim=1), du_n, None


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, u_self: Tensor, u_near: Tensor, classes: StateClasses) -> Tensor:
        R, C = classes.num_rows, table.shape[1] // 4
        act, c, out = table.new_empty(R, 4 * C), table.new_empty(R, C), table.new_empty(R, C)
        fixed = (u_self.contiguous(), u_near.contiguous())
        entries = (classes.entries.start, classes.entries.item, _weight(classes.weight, table))
        both = (kernels.lstm_forward, kernels.lstm_forward_parallel)
        which = (classes.inputs, classes.parent)
        _run(both, classes, classes.offsets, classes.active, table, *which, *entries, *fixed, act, c, out)
        ctx.save_for_backward(*fixed, act, c, out)
        ctx.classes, ctx.rows = classes, len(table)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u_self, u_near, act, c, out = ctx.saved_tensors
        classes: StateClasses = ctx.classes
        C, parts, B = out.shape[1], _parts(classes), classes.num_matrices
        carry_h, carry_c = _carry(out, classes), _carry(out, classes)
        grad_table = out.new_empty(parts, ctx.rows, 4 * C)
        carry_near = out.new_empty(2, max(int(classes.active.max()) * B, 1), C)
        du_self, du_near = out.new_empty(parts, *u_self.shape), out.new_empty(parts, *u_near.shape)
        children, entries, (transposed, weight) = classes.children, classes.entries, classes.gathered_by
        lists = (children.start, children.item, entries.start, entries.item, _weight(classes.weight, out))
        lists_back = (transposed.start, transposed.item, _weight(weight, out))
        tensors = (grad, u_self, u_near, act, c, out, carry_h, carry_c, carry_near, grad_table, du_self, du_near)
        both = (kernels.lstm_backward, kernels.lstm_backward_parallel)
        which = (classes.active, classes.inputs, classes.parent)
        _run(both, classes, classes.offsets, *which, *lists, *lists_back, *tensors)
        return grad_table.sum(0), du_self.sum(0), du_near.sum(0), None


def _carry(out: Tensor, classes: StateClasses) -> Tensor:
    """Room for what the rows of a step hand to those of the step before, for two steps in turn."""
    return out.new_empty(2, int(np.diff(classes.offsets).max()), out.shape[1])


def _weight(weight: np.ndarray, like: Tensor) -> np.ndarray:
    """The weights in the dtype of the states (they are without matrices in float32)."""
    return weight if len(weight) else np.empty(0, like.detach().numpy().dtype)


def _parts(classes: StateClasses) -> int:
    """Parts of a step's tiles. Each has a gradient of the table, and all of those shall not outgrow the states."""
    tiles = -(-int(np.diff(classes.offsets).max()) // TILE)
    return min(tiles, _MOST_PARTS, max(2, classes.num_rows // classes.num_inputs))


def _run(both: tuple[Any, Any], classes: StateClasses, *arguments: Tensor | np.ndarray) -> None:
    arrays = [x.detach().contiguous().numpy() if isinstance(x, Tensor) else x for x in arguments]
    parts = _parts(classes)
    if parts == 1 or thread_count(classes.num_rows // len(classes.active)) == 1:
        with single_threaded_blas:
            both[0](*arrays, parts)
        return
    with parallel_lock, single_threaded_blas:  # each thread of the kernel calls BLAS by itself
        both[1](*arrays, parts)
