"""Rows that several nodes share: from a table and an index to all nodes and back; gradients sum over the sharers."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.graph.distinct import Lists
from tgscale.graph.parallel import parallel_lock, thread_count
from tgscale.nn.recurrence_numba import OPTIONS


def expand_rows(table: Tensor, index: np.ndarray, places: Lists) -> Tensor:
    """``table[index]``; the gradient of a row is the sum over its places, in their order.

    Args:
        table: ``[K, C]``, on the CPU.
        index: any shape, int32.
        places: for each row, where it stands in ``index``, flat.

    Returns:
        ``[*index.shape, C]``.
    """
    return _Expand.apply(table, index, places)


def expand_rows_reference(table: Tensor, index: np.ndarray) -> Tensor:
    """``expand_rows`` in one tensor operation."""
    return table[torch.from_numpy(index).long()]


def attend_rows(table: Tensor, share: Tensor, index: np.ndarray) -> Tensor:
    """``out[n] = sum_t share[t] * table[index[t, n]]``: attention over steps whose rows are shared.

    Args:
        table: ``[K, C]``, on the CPU; share: ``[w]``; index: ``[w, N]``, int32.

    Returns:
        ``[N, C]``.
    """
    return _Attend.apply(table, share, index)


def attend_rows_reference(table: Tensor, share: Tensor, index: np.ndarray) -> Tensor:
    """``attend_rows`` in plain tensor operations."""
    return torch.tensordot(share, expand_rows_reference(table, index), dims=1)


class _Expand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: np.ndarray, places: Lists) -> Tensor:
        ctx.places, ctx.rows = places, len(table)
        out = table.new_empty(index.size, table.shape[1])
        _run(_take, _take_parallel, index.size, _array(table), index.ravel(), _array(out))
        return out.view(*index.shape, table.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        flat = grad.reshape(-1, grad.shape[-1])
        out = grad.new_empty(ctx.rows, grad.shape[-1])
        places = ctx.places
        _run(_sum, _sum_parallel, len(places.item), _array(flat), places.start, places.item, _array(out))
        return out, None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, share: Tensor, index: np.ndarray) -> Tensor:
        ctx.index = index
        ctx.save_for_backward(table, share)
        out = table.new_empty(index.shape[1], table.shape[1])
        _run(_attend, _attend_parallel, index.size, _array(table), _array(share), index, _array(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        table, share = ctx.saved_tensors
        out, grad_share = torch.empty_like(table), torch.empty_like(share)
        _attend_backward(*map(_array, (grad, table, share)), ctx.index, _array(out), _array(grad_share))
        return out, grad_share, None


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _run(serial: Any, parallel: Any, items: int, *arguments: np.ndarray) -> None:
    rows = len(arguments[-1])
    threads = thread_count(items)
    if threads == 1:
        serial(*arguments, 0, rows)
        return
    with parallel_lock:
        parallel(*arguments, 8 * threads)


@numba.njit(**OPTIONS)
def _take(table, index, out, first, last):
    for i in range(first, last):
        a, b = out[i], table[index[i]]
        for c in range(len(a)):
            a[c] = b[c]


@numba.njit(**OPTIONS)
def _sum(x, start, item, out, first, last):
    for k in range(first, last):
        a = out[k]
        a[:] = 0
        for e in range(start[k], start[k + 1]):
            b = x[item[e]]
            for c in range(len(a)):
                a[c] += b[c]


@numba.njit(**OPTIONS)
def _attend(table, share, index, out, first, last):
    for i in range(first, last):
        a = out[i]
        a[:] = 0
        for t in range(len(share)):
            b, s = table[index[t, i]], share[t]
            for c in range(len(a)):
                a[c] += s * b[c]


@numba.njit(**OPTIONS)
def _attend_backward(grad, table, share, index, out, grad_share):
    """Rows' gradients first without their shares, per step: ``<sum of grad, row>`` is then the share's gradient."""
    K, C = table.shape
    N = len(grad)
    part = np.zeros((K, C), grad.dtype)
    seen, touched = np.full(K, -1, np.int32), np.empty(min(K, N), np.int32)
    out[:] = 0
    for t in range(len(share)):
        count = 0
        for i in range(N):
            k = index[t, i]
            a, g = part[k], grad[i]
            if seen[k] != t:
                seen[k] = t
                touched[count] = k
                count += 1
                for c in range(C):
                    a[c] = g[c]
            else:
                for c in range(C):
                    a[c] += g[c]
        total = grad.dtype.type(0)
        for m in range(count):
            k = touched[m]
            a, b, o, s = part[k], table[k], out[k], share[t]
            for c in range(C):
                total += a[c] * b[c]
            for c in range(C):
                o[c] += s * a[c]
        grad_share[t] = total


@numba.njit(**OPTIONS, parallel=True)
def _take_parallel(table, index, out, parts):
    for p in numba.prange(parts):
        _take(table, index, out, len(out) * p // parts, len(out) * (p + 1) // parts)


@numba.njit(**OPTIONS, parallel=True)
def _sum_parallel(x, start, item, out, parts):
    for p in numba.prange(parts):  # parts of as many items, not of as many lists
        first = np.searchsorted(start, len(item) * p // parts) if p else 0
        last = np.searchsorted(start, len(item) * (p + 1) // parts) if p + 1 < parts else len(out)
        _sum(x, start, item, out, min(first, len(out)), min(last, len(out)))


@numba.njit(**OPTIONS, parallel=True)
def _attend_parallel(table, share, index, out, parts):
    for p in numba.prange(parts):
        _attend(table, share, index, out, len(out) * p // parts, len(out) * (p + 1) // parts)
