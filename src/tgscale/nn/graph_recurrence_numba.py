"""Kernels of :mod:`tgscale.nn.graph_recurrence`: a window of a cell that aggregates its state at every step.

Nodes meet at every step, so steps are the outer loop and tiles of rows the inner one. ``cat`` holds the
aggregated states, ``[T_0 || T_1 || ...]``, of as many steps as the activations: all, or 1 without a backward pass.
"""

from __future__ import annotations

import numba
import numpy as np

from tgscale.graph.bases import gather_bases, scatter_bases
from tgscale.nn.recurrence_numba import (
    OPTIONS,
    TILE,
    add_into,
    before,
    gru_backward_reset,
    gru_backward_update,
    gru_gates,
    gru_join,
    gru_update,
    lstm_backward_update,
    lstm_update,
)


@numba.njit(**OPTIONS)
def _product(a, b, out):
    """``out = a @ b`` by tiles of rows, which are then still in the cache."""
    for first in range(0, len(a), TILE):
        last = min(first + TILE, len(a))
        np.dot(a[first:last], b, out[first:last])


@numba.njit(**OPTIONS)
def lstm_graph_forward(gates, table, chebyshev, u, h0, c0, cat, act, c, out):
    w, N, C = out.shape
    zero = np.zeros((0 if len(c0) else N, C), out.dtype)
    for t in range(w):
        k = t % len(act)
        old = before(t, c, c0, zero, 0, N)
        if t > 0 or len(h0):
            gather_bases(table[t], chebyshev, before(t, out, h0, zero, 0, N), cat[k])
        for a in range(0, N, TILE):
            b = min(a + TILE, N)
            if t > 0 or len(h0):
                np.dot(cat[k, a:b], u, act[k, a:b])
            else:
                act[k, a:b] = 0
            lstm_update(gates[t, a:b], old[a:b], act[k, a:b], c[t % len(c), a:b], out[t, a:b])


@numba.njit(**OPTIONS)
def lstm_graph_backward(
    grad, grad_c, table, chebyshev, u, h0, c0, cat, act, c, grad_gates, grad_h0, grad_c0, du
):  # fmt: skip
    """``table`` is that of the transposed matrices; ``grad_h0`` and ``grad_c0``, ``[N, C]``, are the carries."""
    w, N, C = grad.shape
    zero = np.zeros((0 if len(c0) else N, C), grad.dtype)
    grad_cat, step = np.empty((N, u.shape[0]), grad.dtype), np.empty_like(u)
    dh, dc = grad_h0, grad_c0
    dh[:] = 0
    dc[:] = grad_c
    du[:] = 0
    for t in range(w - 1, -1, -1):
        old = before(t, c, c0, zero, 0, N)
        recurrent = t > 0 or len(h0) > 0
        for a in range(0, N, TILE):
            b = min(a + TILE, N)
            dgate = grad_gates[t, a:b]
            lstm_backward_update(grad[t, a:b], old[a:b], act[t, a:b], c[t, a:b], dh[a:b], dc[a:b], dgate)
            if recurrent:
                np.dot(dgate, u.T, grad_cat[a:b])
                np.dot(cat[t, a:b].T, dgate, step)
                add_into(du, step)
        if recurrent:
            scatter_bases(table[t], chebyshev, grad_cat, dh)


@numba.njit(**OPTIONS)
def gru_graph_forward(gates, table, chebyshev, u_zr, u_n, h0, cat_h, cat_rh, zr, n, out):
    w, N, C = out.shape
    zero, rh = np.zeros((0 if len(h0) else N, C), out.dtype), np.empty((N, C), out.dtype)
    for t in range(w):
        k = t % len(zr)
        recurrent = t > 0 or len(h0) > 0
        h = before(t, out, h0, zero, 0, N)
        if recurrent:
            gather_bases(table[t], chebyshev, h, cat_h[k])
            _product(cat_h[k], u_zr, zr[k])
        else:
            zr[k] = 0
            n[k] = 0
        gru_gates(gates[t], h, zr[k], rh)
        if recurrent:
            gather_bases(table[t], chebyshev, rh, cat_rh[k])
            _product(cat_rh[k], u_n, n[k])
        gru_update(gates[t], h, zr[k], n[k], out[t])


@numba.njit(**OPTIONS)
def gru_graph_backward(
    grad, table, chebyshev, u_zr, u_n, h0, cat_h, cat_rh, zr, n, out, grad_gates, grad_h0, du_zr, du_n
):  # fmt: skip
    """``table`` is that of the transposed matrices; ``grad_h0``, ``[N, C]``, is the carry."""
    w, N, C = out.shape
    zero, drh = np.zeros((0 if len(h0) else N, C), out.dtype), np.empty((N, C), out.dtype)
    rh, dn, dzr = np.empty((N, C), out.dtype), np.empty((N, C), out.dtype), np.empty((N, 2 * C), out.dtype)
    grad_cat = np.empty((N, u_n.shape[0]), out.dtype)
    step_zr, step_n = np.empty_like(u_zr), np.empty_like(u_n)
    dh = grad_h0
    dh[:] = 0
    du_zr[:] = 0
    du_n[:] = 0
    for t in range(w - 1, -1, -1):
        h = before(t, out, h0, zero, 0, N)
        gru_backward_update(grad[t], h, zr[t], n[t], dh, dzr, dn)
        if t > 0 or len(h0):
            for a in range(0, N, TILE):
                b = min(a + TILE, N)
                np.dot(dn[a:b], u_n.T, grad_cat[a:b])
                np.dot(cat_rh[t, a:b].T, dn[a:b], step_n)
                add_into(du_n, step_n)
            scatter_bases(table[t], chebyshev, grad_cat, drh)
            gru_backward_reset(h, zr[t], drh, dh, dzr, rh)
            for a in range(0, N, TILE):
                b = min(a + TILE, N)
                np.dot(dzr[a:b], u_zr.T, grad_cat[a:b])
                np.dot(cat_h[t, a:b].T, dzr[a:b], step_zr)
                add_into(du_zr, step_zr)
            scatter_bases(table[t], chebyshev, grad_cat, drh)
            add_into(dh, drh)
        else:
            dzr[:, C:] = 0
        gru_join(dzr, dn, grad_gates[t])
