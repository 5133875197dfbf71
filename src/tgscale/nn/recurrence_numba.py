"""Kernels of :mod:`tgscale.nn.recurrence`: a whole window of a recurrent cell in one call, forward and backward.

Nodes do not meet in these recurrences, so a tile of rows goes through all steps before the next one starts and its
state stays in the processor's cache. Tiles make ``parts`` that depend on the number of nodes alone; each part sums its
own gradient of the weights, so the result does not depend on the number of threads. Names: ``w`` steps, ``N`` nodes,
``C`` channels. Activations are kept for ``len(zr)`` (``len(act)``) steps: all ``w`` for a backward pass, 1 without.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tgscale.nn.fast_math import sigmoid, tanh

TILE = 256
_MOST_PARTS = 64
# NumPy's error model: a check for division by zero would keep loops from being vectorised.
OPTIONS: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}


def part_count(num_nodes: int) -> int:
    return min(-(-num_nodes // TILE), _MOST_PARTS)


@numba.njit(**OPTIONS)
def _part_rows(num_nodes, part, parts):
    tiles = (num_nodes + TILE - 1) // TILE
    return tiles * part // parts * TILE, min(tiles * (part + 1) // parts * TILE, num_nodes)


# Rows of one step. Short loops over few arrays: the compiler vectorises only what it can prove apart cheaply.


@numba.njit(**OPTIONS)
def gru_gates(gate, h, zr, rh):
    """``zr <- sigmoid(gate[:, :2C] + zr)``, ``rh = r * h``."""
    C = h.shape[1]
    for i in range(len(h)):
        a, g, state, out = zr[i], gate[i], h[i], rh[i]
        for c in range(2 * C):
            a[c] = sigmoid(a[c] + g[c])
        r = a[C:]
        for c in range(C):
            out[c] = r[c] * state[c]


@numba.njit(**OPTIONS)
def gru_update(gate, h, zr, n, out):
    """``n <- tanh(gate[:, 2C:] + n)``, ``out = z * h + (1 - z) * n``."""
    C = h.shape[1]
    for i in range(len(h)):
        g, state, z, new, result = gate[i, 2 * C :], h[i], zr[i], n[i], out[i]
        for c in range(C):
            new[c] = tanh(new[c] + g[c])
        for c in range(C):
            result[c] = new[c] + z[c] * (state[c] - new[c])


@numba.njit(**OPTIONS)
def gru_backward_update(grad, h, zr, n, dh, dzr, dn):
    """``dh += grad``; gradients of the pre-activations of ``n`` and ``z``; ``dh *= z``."""
    C = h.shape[1]
    for i in range(len(h)):
        g, state, z, new, d, dz, dnew = grad[i], h[i], zr[i], n[i], dh[i], dzr[i], dn[i]
        one = d.dtype.type(1)
        for c in range(C):
            d[c] += g[c]
        for c in range(C):
            dnew[c] = d[c] * (one - z[c]) * (one - new[c] * new[c])
        for c in range(C):
            dz[c] = d[c] * (state[c] - new[c]) * (z[c] * (one - z[c]))
        for c in range(C):
            d[c] *= z[c]


@numba.njit(**OPTIONS)
def gru_backward_reset(h, zr, drh, dh, dzr, rh):
    """Gradient of the pre-activation of ``r``; ``dh += drh * r``; ``rh = r * h`` again."""
    C = h.shape[1]
    for i in range(len(h)):
        state, r, d, dr, out, carry = h[i], zr[i, C:], drh[i], dzr[i, C:], rh[i], dh[i]
        one = d.dtype.type(1)
        for c in range(C):
            dr[c] = d[c] * state[c] * (r[c] * (one - r[c]))
        for c in range(C):
            carry[c] += d[c] * r[c]
        for c in range(C):
            out[c] = r[c] * state[c]


@numba.njit(**OPTIONS)
def gru_join(dzr, dn, out):
    """``out = [dzr || dn]``."""
    C = dn.shape[1]
    for i in range(len(dn)):
        left, right, a, b = out[i], out[i, 2 * C :], dzr[i], dn[i]
        for c in range(2 * C):
            left[c] = a[c]
        for c in range(C):
            right[c] = b[c]


@numba.njit(**OPTIONS)
def lstm_update(gate, c_prev, act, c, h):
    """``act <- [sigmoid || sigmoid || tanh || sigmoid](gate + act)``, ``c = f * c_prev + i * g``, ``h = o tanh(c)``."""
    C = h.shape[1]
    for row in range(len(h)):
        a, x, old, new, out = act[row], gate[row], c_prev[row], c[row], h[row]
        for k in range(2 * C):
            a[k] = sigmoid(a[k] + x[k])
        i, f, g, o, x_g, x_o = a[:C], a[C:], a[2 * C :], a[3 * C :], x[2 * C :], x[3 * C :]
        for k in range(C):
            g[k] = tanh(g[k] + x_g[k])
        for k in range(C):
            o[k] = sigmoid(o[k] + x_o[k])
        for k in range(C):
            new[k] = f[k] * old[k] + i[k] * g[k]
        for k in range(C):
            out[k] = o[k] * tanh(new[k])


@numba.njit(**OPTIONS)
def lstm_backward_update(grad, c_prev, act, c, dh, dc, dgate):
    """Gradients of the pre-activations from ``dh + grad`` and ``dc``; ``dc`` becomes that of ``c_prev``."""
    C = dh.shape[1]
    for row in range(len(dh)):
        old, new, d, carry, x = c_prev[row], c[row], dh[row], dc[row], grad[row]
        i, f, g, o = act[row, :C], act[row, C:], act[row, 2 * C :], act[row, 3 * C :]
        di, df, dg, do = dgate[row, :C], dgate[row, C:], dgate[row, 2 * C :], dgate[row, 3 * C :]
        one = d.dtype.type(1)
        for k in range(C):
            d[k] += x[k]
        for k in range(C):
            t = tanh(new[k])
            do[k] = d[k] * t * (o[k] * (one - o[k]))
            carry[k] += d[k] * o[k] * (one - t * t)
        for k in range(C):
            di[k] = carry[k] * g[k] * (i[k] * (one - i[k]))
        for k in range(C):
            df[k] = carry[k] * old[k] * (f[k] * (one - f[k]))
        for k in range(C):
            dg[k] = carry[k] * i[k] * (one - g[k] * g[k])
        for k in range(C):
            carry[k] *= f[k]


@numba.njit(**OPTIONS)
def add_into(a, b):
    """``a += b``, row by row."""
    for i in range(len(a)):
        x, y = a[i], b[i]
        for c in range(len(x)):
            x[c] += y[c]


# Whole windows. h0 and c0 have no rows where they are zeros.


@numba.njit(**OPTIONS)
def before(t, states, start, zero, a, b):
    """Rows ``a`` to ``b`` of the state before step ``t``; ``zero`` has rows enough where ``start`` has none."""
    if t > 0:
        return states[(t - 1) % len(states), a:b]
    return start[a:b] if len(start) else zero[: b - a]


@numba.njit(**OPTIONS)
def gru_forward(gates, u_zr, u_n, h0, zr, n, out, parts, first, last):
    w, N, C = out.shape
    zero, rh = np.zeros((min(TILE, N), C), out.dtype), np.empty((min(TILE, N), C), out.dtype)
    for part in range(first, last):
        start, stop = _part_rows(N, part, parts)
        for a in range(start, stop, TILE):
            b = min(a + TILE, stop)
            m = b - a
            for t in range(w):
                k = t % len(zr)
                h = before(t, out, h0, zero, a, b)
                if t > 0 or len(h0):
                    np.dot(h, u_zr, zr[k, a:b])
                    gru_gates(gates[t, a:b], h, zr[k, a:b], rh[:m])
                    np.dot(rh[:m], u_n, n[k, a:b])
                else:
                    zr[k, a:b] = 0
                    n[k, a:b] = 0
                    gru_gates(gates[t, a:b], h, zr[k, a:b], rh[:m])
                gru_update(gates[t, a:b], h, zr[k, a:b], n[k, a:b], out[t, a:b])


@numba.njit(**OPTIONS)
def gru_backward(grad, u_zr, u_n, h0, zr, n, out, grad_gates, grad_h0, du_zr, du_n, parts, first, last):
    w, N, C = out.shape
    size = min(TILE, N)
    dh, dn, drh = np.empty((size, C), out.dtype), np.empty((size, C), out.dtype), np.empty((size, C), out.dtype)
    rh, zero = np.empty((size, C), out.dtype), np.zeros((size, C), out.dtype)
    dzr = np.empty((size, 2 * C), out.dtype)
    step_zr, step_n = np.empty((C, 2 * C), out.dtype), np.empty((C, C), out.dtype)
    for part in range(first, last):
        start, stop = _part_rows(N, part, parts)
        du_zr[part] = 0
        du_n[part] = 0
        for a in range(start, stop, TILE):
            b = min(a + TILE, stop)
            m = b - a
            dh[:] = 0
            for t in range(w - 1, -1, -1):
                h = before(t, out, h0, zero, a, b)
                gru_backward_update(grad[t, a:b], h, zr[t, a:b], n[t, a:b], dh[:m], dzr[:m], dn[:m])
                if t > 0 or len(h0):
                    np.dot(dn[:m], u_n.T, drh[:m])
                    gru_backward_reset(h, zr[t, a:b], drh[:m], dh[:m], dzr[:m], rh[:m])
                    np.dot(rh[:m].T, dn[:m], step_n)
                    np.dot(h.T, dzr[:m], step_zr)
                    add_into(du_n[part], step_n)
                    add_into(du_zr[part], step_zr)
                    np.dot(dzr[:m], u_zr.T, drh[:m])
                    add_into(dh[:m], drh[:m])
                else:
                    dzr[:m, C:] = 0
                gru_join(dzr[:m], dn[:m], grad_gates[t, a:b])
            if len(h0):
                grad_h0[a:b] = dh[:m]


@numba.njit(**OPTIONS)
def lstm_forward(gates, u, h0, c0, act, c, out, parts, first, last):
    w, N, C = out.shape
    zero = np.zeros((min(TILE, N), C), out.dtype)
    for part in range(first, last):
        start, stop = _part_rows(N, part, parts)
        for a in range(start, stop, TILE):
            b = min(a + TILE, stop)
            for t in range(w):
                k = t % len(act)
                if t > 0 or len(h0):
                    np.dot(before(t, out, h0, zero, a, b), u, act[k, a:b])
                else:
                    act[k, a:b] = 0
                old = before(t, c, c0, zero, a, b)
                lstm_update(gates[t, a:b], old, act[k, a:b], c[t % len(c), a:b], out[t, a:b])


@numba.njit(**OPTIONS)
def lstm_backward(grad, grad_c, u, h0, c0, act, c, out, grad_gates, grad_h0, grad_c0, du, parts, first, last):
    w, N, C = out.shape
    size = min(TILE, N)
    dh, dc, zero = np.empty((size, C), out.dtype), np.empty((size, C), out.dtype), np.zeros((size, C), out.dtype)
    step = np.empty((C, 4 * C), out.dtype)
    for part in range(first, last):
        start, stop = _part_rows(N, part, parts)
        du[part] = 0
        for a in range(start, stop, TILE):
            b = min(a + TILE, stop)
            m = b - a
            dh[:] = 0
            dc[:m] = grad_c[a:b]
            for t in range(w - 1, -1, -1):
                old = before(t, c, c0, zero, a, b)
                dgate = grad_gates[t, a:b]
                lstm_backward_update(grad[t, a:b], old, act[t, a:b], c[t, a:b], dh[:m], dc[:m], dgate)
                if t > 0 or len(h0):
                    np.dot(before(t, out, h0, zero, a, b).T, dgate, step)
                    add_into(du[part], step)
                    np.dot(dgate, u.T, dh[:m])
            if len(h0):
                grad_h0[a:b] = dh[:m]
            if len(c0):
                grad_c0[a:b] = dc[:m]


@numba.njit(**OPTIONS, parallel=True)
def gru_forward_parallel(gates, u_zr, u_n, h0, zr, n, out, parts):
    for p in numba.prange(parts):
        gru_forward(gates, u_zr, u_n, h0, zr, n, out, parts, p, p + 1)


@numba.njit(**OPTIONS, parallel=True)
def gru_backward_parallel(grad, u_zr, u_n, h0, zr, n, out, grad_gates, grad_h0, du_zr, du_n, parts):
    for p in numba.prange(parts):
        gru_backward(grad, u_zr, u_n, h0, zr, n, out, grad_gates, grad_h0, du_zr, du_n, parts, p, p + 1)


@numba.njit(**OPTIONS, parallel=True)
def lstm_forward_parallel(gates, u, h0, c0, act, c, out, parts):
    for p in numba.prange(parts):
        lstm_forward(gates, u, h0, c0, act, c, out, parts, p, p + 1)


@numba.njit(**OPTIONS, parallel=True)
def lstm_backward_parallel(grad, grad_c, u, h0, c0, act, c, out, grad_gates, grad_h0, grad_c0, du, parts):
    for p in numba.prange(parts):
        lstm_backward(
            grad, grad_c, u, h0, c0, act, c, out, grad_gates, grad_h0, grad_c0, du, parts, p, p + 1
        )  # fmt: skip
