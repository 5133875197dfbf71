"""Kernels of :mod:`tgscale.nn.shared_recurrence`: recurrent cells on distinct states.

Steps are the outer loop, tiles of a step's rows the inner one; rows differ from step to step. A row takes the state of
its ``parent`` at the step before, and its gates from a table. The gradient goes the other way by gathering too: a row
sums over its children, so tiles of a step are independent. Tiles go to ``parts`` in turn, and each part sums its own
gradients of weights and table: the result does not depend on the number of threads. Names: ``R`` rows of all steps,
``C`` channels, ``B`` matrices.
"""

from __future__ import annotations

import numba
import numpy as np

from tgscale.graph.aggregate import aggregate_rows
from tgscale.nn.fast_math import sigmoid, tanh
from tgscale.nn.recurrence_numba import (
    OPTIONS,
    TILE,
    add_into,
    lstm_backward_update,
)

PIECE = 1024


@numba.njit(**OPTIONS)
def _take(x, index, out):
    """``out[i] = x[index[i]]``."""
    for i in range(len(index)):
        a, b = out[i], x[index[i]]
        for c in range(len(a)):
            a[c] = b[c]


@numba.njit(**OPTIONS)
def _sum_children(x, start, item, out):
    """``out[k]`` is the sum of the rows of ``x`` in list ``k``."""
    for k in range(len(out)):
        a = out[k]
        first, end = start[k], start[k + 1]
        if first == end:
            a[:] = 0
            continue
        b = x[item[first]]
        for c in range(len(a)):
            a[c] = b[c]
        for e in range(first + 1, end):
            b = x[item[e]]
            for c in range(len(a)):
                a[c] += b[c]


@numba.njit(**OPTIONS)
def _add_gathered(x, start, item, weight, out):
    """``out[k] += sum of weight[e] * x[item[e]]`` over list ``k``."""
    for k in range(len(out)):
        a = out[k]
        for e in range(start[k], start[k + 1]):
            b, s = x[item[e]], weight[e]
            for c in range(len(a)):
                a[c] += s * b[c]


@numba.njit(**OPTIONS)
def _add_to_rows(x, row, out):
    """``out[row[i], : width of x] += x[i]``."""
    for i in range(len(x)):
        a, b = out[row[i]], x[i]
        for c in range(len(b)):
            a[c] += b[c]


# A GRU's elementwise parts run over all rows of a tile at once, piece by piece: a piece of each array stays in the
# first cache, and the compiler's checks that arrays lie apart cost once per piece, not once per row.


@numba.njit(**OPTIONS)
def _take_gates(table, row, z, r, n):
    """The three thirds of ``table[row[i]]``."""
    C = z.shape[1]
    for i in range(len(row)):
        x, a, b, d = table[row[i]], z[i], r[i], n[i]
        for c in range(C):
            a[c] = x[c]
        y = x[C:]
        for c in range(C):
            b[c] = y[c]
        w = x[2 * C :]
        for c in range(C):
            d[c] = w[c]


@numba.njit(**OPTIONS)
def _gru_gates(g_z, g_r, h, z, r, rh):
    """``z <- sigmoid(g_z + z)``, ``r <- sigmoid(g_r + r)``, ``rh = r * h``; all flat."""
    for s in range(0, len(h), PIECE):
        e = min(s + PIECE, len(h))
        a, b, x, y, state, out = z[s:e], r[s:e], g_z[s:e], g_r[s:e], h[s:e], rh[s:e]
        for k in range(e - s):
            a[k] = sigmoid(a[k] + x[k])
        for k in range(e - s):
            b[k] = sigmoid(b[k] + y[k])
        for k in range(e - s):
            out[k] = b[k] * state[k]


@numba.njit(**OPTIONS)
def _gru_update(g_n, h, z, n, out):
    """``n <- tanh(g_n + n)``, ``out = z * h + (1 - z) * n``; all flat."""
    for s in range(0, len(h), PIECE):
        e = min(s + PIECE, len(h))
        new, x, keep, state, result = n[s:e], g_n[s:e], z[s:e], h[s:e], out[s:e]
        for k in range(e - s):
            new[k] = tanh(new[k] + x[k])
        for k in range(e - s):
            result[k] = new[k] + keep[k] * (state[k] - new[k])


@numba.njit(**OPTIONS)
def _gru_backward_update(grad, h, z, n, dh, dz, dn):
    """``dh += grad``; gradients of the pre-activations of ``n`` and ``z``; ``dh *= z``; all flat."""
    one = dh.dtype.type(1)
    for s in range(0, len(h), PIECE):
        e = min(s + PIECE, len(h))
        g, state, keep, new, d, a, b = grad[s:e], h[s:e], z[s:e], n[s:e], dh[s:e], dz[s:e], dn[s:e]
        for k in range(e - s):
            d[k] += g[k]
        for k in range(e - s):
            b[k] = d[k] * (one - keep[k]) * (one - new[k] * new[k])
        for k in range(e - s):
            a[k] = d[k] * (state[k] - new[k]) * (keep[k] * (one - keep[k]))
        for k in range(e - s):
            d[k] *= keep[k]


@numba.njit(**OPTIONS)
def _gru_backward_reset(h, r, drh, dh, dr, rh):
    """Gradient of the pre-activation of ``r``; ``dh += drh * r``; ``rh = r * h`` again; all flat."""
    one = dh.dtype.type(1)
    for s in range(0, len(h), PIECE):
        e = min(s + PIECE, len(h))
        state, gate, d, carry, a, out = h[s:e], r[s:e], drh[s:e], dh[s:e], dr[s:e], rh[s:e]
        for k in range(e - s):
            a[k] = d[k] * state[k] * (gate[k] * (one - gate[k]))
        for k in range(e - s):
            carry[k] += d[k] * gate[k]
        for k in range(e - s):
            out[k] = gate[k] * state[k]


@numba.njit(**OPTIONS)
def _add(a, b):
    """``a += b``, flat."""
    for k in range(len(a)):
        a[k] += b[k]


@numba.njit(**OPTIONS)
def _lstm_update(table, row, c_prev, act, c, h):
    """``act <- activations(gate + act)``, ``c = f * c_prev + i * g``, ``h = o tanh(c)``; gates i, f, g, o."""
    C = h.shape[1]
    for m in range(len(h)):
        a, x, old, new, out = act[m], table[row[m]], c_prev[m], c[m], h[m]
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
def gru_forward_step(t, part, parts, offsets, table, row, parent, u_z, u_r, u_n, z, r, n, out, room):
    """A part's tiles of step ``t``. ``room``: five tiles."""
    C = out.shape[1]
    for a in range(offsets[t] + part * TILE, offsets[t + 1], parts * TILE):
        b = min(a + TILE, offsets[t + 1])
        m = b - a
        h, rh, g_z, g_r, g_n = room[0, :m], room[1, :m], room[2, :m], room[3, :m], room[4, :m]
        if t > 0:
            _take(out, parent[a:b], h)
            np.dot(h, u_z, z[a:b])
            np.dot(h, u_r, r[a:b])
        else:
            h[:] = 0
            z[a:b] = 0
            r[a:b] = 0
            n[a:b] = 0
        _take_gates(table, row[a:b], g_z, g_r, g_n)
        size = m * C
        flat_h, flat_z = h.reshape(size), z[a:b].reshape(size)
        _gru_gates(g_z.reshape(size), g_r.reshape(size), flat_h, flat_z, r[a:b].reshape(size), rh.reshape(size))
        if t > 0:
            np.dot(rh, u_n, n[a:b])
        _gru_update(g_n.reshape(size), flat_h, flat_z, n[a:b].reshape(size), out[a:b].reshape(size))


@numba.njit(**OPTIONS)
def gru_forward(offsets, table, row, parent, u_z, u_r, u_n, z, r, n, out, parts):
    room = np.empty((5, TILE, out.shape[1]), out.dtype)
    for t in range(len(offsets) - 1):
        gru_forward_step(t, 0, 1, offsets, table, row, parent, u_z, u_r, u_n, z, r, n, out, room)


@numba.njit(**OPTIONS, parallel=True)
def gru_forward_parallel(offsets, table, row, parent, u_z, u_r, u_n, z, r, n, out, parts):
    room = np.empty((parts, 5, TILE, out.shape[1]), out.dtype)
    for t in range(len(offsets) - 1):
        for p in numba.prange(parts):
            gru_forward_step(t, p, parts, offsets, table, row, parent, u_z, u_r, u_n, z, r, n, out, room[p])


@numba.njit(**OPTIONS)
def gru_backward_step(
    t, part, parts, offsets, row, parent, child_start, child, grad, u_z, u_r, u_n, z, r, n, out,
    above, below, grad_table, du, room,
):  # fmt: skip
    """A part's tiles of step ``t``; ``above``: what the next step's rows hand back, ``below``: this one's.

    ``du``: gradients of ``u_z``, ``u_r`` and ``u_n``. ``room``: seven tiles.
    """
    C = out.shape[1]
    step = np.empty((C, C), out.dtype)
    for a in range(offsets[t] + part * TILE, offsets[t + 1], parts * TILE):
        b = min(a + TILE, offsets[t + 1])
        m, k, size = b - a, a - offsets[t], (b - a) * C
        h, dh, dn, drh, rh, dz, dr = (
            room[0, :m], room[1, :m], room[2, :m], room[3, :m], room[4, :m], room[5, :m], room[6, :m],
        )  # fmt: skip
        flat_h, flat_dh = h.reshape(size), dh.reshape(size)
        _sum_children(above, child_start[a : b + 1], child, dh)
        if t > 0:
            _take(out, parent[a:b], h)
        else:
            h[:] = 0
        _gru_backward_update(
            grad[a:b].reshape(size), flat_h, z[a:b].reshape(size), n[a:b].reshape(size), flat_dh, dz.reshape(size),
            dn.reshape(size),
        )  # fmt: skip
        _add_to_rows(dz, row[a:b], grad_table)
        _add_to_rows(dn, row[a:b], grad_table[:, 2 * C :])
        if t == 0:
            continue
        np.dot(dn, u_n.T, drh)
        _gru_backward_reset(
            flat_h, r[a:b].reshape(size), drh.reshape(size), flat_dh, dr.reshape(size), rh.reshape(size)
        )  # fmt: skip
        _add_to_rows(dr, row[a:b], grad_table[:, C:])
        np.dot(h.T, dz, step)
        add_into(du[0], step)
        np.dot(h.T, dr, step)
        add_into(du[1], step)
        np.dot(rh.T, dn, step)
        add_into(du[2], step)
        handed = below[k : k + m]
        np.dot(dz, u_z.T, handed)
        np.dot(dr, u_r.T, drh)
        _add(handed.reshape(size), drh.reshape(size))
        _add(handed.reshape(size), flat_dh)


@numba.njit(**OPTIONS)
def gru_backward(
    offsets, row, parent, child_start, child, grad, u_z, u_r, u_n, z, r, n, out, carry, grad_table, du, parts
):  # fmt: skip
    room = np.empty((7, TILE, out.shape[1]), out.dtype)
    grad_table[:] = 0
    du[:] = 0
    for t in range(len(offsets) - 2, -1, -1):
        for p in range(parts):
            gru_backward_step(
                t, p, parts, offsets, row, parent, child_start, child, grad, u_z, u_r, u_n, z, r, n, out,
                carry[(t + 1) % 2], carry[t % 2], grad_table[p], du[p], room,
            )  # fmt: skip


@numba.njit(**OPTIONS, parallel=True)
def gru_backward_parallel(
    offsets, row, parent, child_start, child, grad, u_z, u_r, u_n, z, r, n, out, carry, grad_table, du, parts
):  # fmt: skip
    room = np.empty((parts, 7, TILE, out.shape[1]), out.dtype)
    grad_table[:] = 0
    du[:] = 0
    for t in range(len(offsets) - 2, -1, -1):
        for p in numba.prange(parts):
            gru_backward_step(
                t, p, parts, offsets, row, parent, child_start, child, grad, u_z, u_r, u_n, z, r, n, out,
                carry[(t + 1) % 2], carry[t % 2], grad_table[p], du[p], room[p],
            )  # fmt: skip


@numba.njit(**OPTIONS)
def _gather(B, start, item, weight, x, a, b, out):
    """What rows ``a`` to ``b`` gather, matrix by matrix side by side, ``[b - a, B * C]``."""
    lists = out.reshape((b - a) * B, x.shape[1])
    aggregate_rows(0, start, item, weight, x, a * B, b * B, lists)


@numba.njit(**OPTIONS)
def _lstm_forward_rows(
    a, b, recurrent, gathers, table, row, parent, start, item, weight, u_self, u_near, act, c, out, h, old, near, more
):  # fmt: skip
    """``u_self``: weights of the state itself, no rows where it plays no part; ``u_near``: of what is gathered."""
    m = b - a
    if recurrent:
        _take(c, parent[a:b], old[:m])
    else:
        old[:m] = 0
    if recurrent and len(u_self):
        _take(out, parent[a:b], h[:m])
        np.dot(h[:m], u_self, act[a:b])
    else:
        act[a:b] = 0
    if gathers:
        _gather(len(u_near) // out.shape[1], start, item, weight, out, a, b, near[:m])
        np.dot(near[:m], u_near, more[:m])
        add_into(act[a:b], more[:m])
    _lstm_update(table, row[a:b], old[:m], act[a:b], c[a:b], out[a:b])


@numba.njit(**OPTIONS)
def lstm_forward_step(
    t, part, parts, offsets, active, table, row, parent, start, item, weight, u_self, u_near, act, c, out, states, wide
):  # fmt: skip
    """A part's tiles of step ``t``: of the rows that gather, then of the others."""
    near = np.empty((TILE, len(u_near)), out.dtype)
    bounds = (offsets[t], offsets[t] + active[t], offsets[t + 1])
    for kind in range(2):
        for a in range(bounds[kind] + part * TILE, bounds[kind + 1], parts * TILE):
            b = min(a + TILE, bounds[kind + 1])
            _lstm_forward_rows(
                a, b, t > 0, kind == 0, table, row, parent, start, item, weight, u_self, u_near, act, c, out,
                states[0], states[1], near, wide,
            )  # fmt: skip


@numba.njit(**OPTIONS)
def lstm_forward(
    offsets, active, table, row, parent, start, item, weight, u_self, u_near, act, c, out, parts
):  # fmt: skip
    states, wide = np.empty((2, TILE, out.shape[1]), out.dtype), np.empty((TILE, act.shape[1]), out.dtype)
    for t in range(len(offsets) - 1):
        lstm_forward_step(
            t, 0, 1, offsets, active, table, row, parent, start, item, weight, u_self, u_near, act, c, out, states, wide
        )  # fmt: skip


@numba.njit(**OPTIONS, parallel=True)
def lstm_forward_parallel(
    offsets, active, table, row, parent, start, item, weight, u_self, u_near, act, c, out, parts
):  # fmt: skip
    states = np.empty((parts, 2, TILE, out.shape[1]), out.dtype)
    wide = np.empty((parts, TILE, act.shape[1]), out.dtype)
    for t in range(len(offsets) - 1):
        for p in numba.prange(parts):
            lstm_forward_step(
                t, p, parts, offsets, active, table, row, parent, start, item, weight, u_self, u_near, act, c, out,
                states[p], wide[p],
            )  # fmt: skip


@numba.njit(**OPTIONS)
def lstm_backward_step(
    t, part, parts, offsets, active, row, parent, child_start, child, start, item, weight, near_start, near_item,
    near_weight, grad, u_self, u_near, act, c, out, dh_above, dc_above, near_above, dh_below, dc_below, near_below,
    grad_table, du_self, du_near, room,
):  # fmt: skip
    """A part's tiles of step ``t``; ``above``: what the next step's rows hand back, ``below``: this one's.

    ``near``: gradients of what rows gather, list by list, which the gathered rows sum by the transposed lists.
    """
    C = out.shape[1]
    B = len(u_near) // C
    near, step_near = np.empty((TILE, B * C), out.dtype), np.empty_like(u_near)
    step_self, dgates = np.empty_like(u_self), np.empty((TILE, 4 * C), out.dtype)
    bounds = (offsets[t], offsets[t] + active[t], offsets[t + 1])
    for kind in range(2):
        for a in range(bounds[kind] + part * TILE, bounds[kind + 1], parts * TILE):
            b = min(a + TILE, bounds[kind + 1])
            m, k = b - a, a - offsets[t]
            h, dh, old, dc, dgate = room[0, :m], room[1, :m], room[2, :m], dc_below[k : k + m], dgates[:m]
            _sum_children(dh_above, child_start[a : b + 1], child, dh)
            _sum_children(dc_above, child_start[a : b + 1], child, dc)
            if B:
                _add_gathered(near_above, near_start[a : b + 1], near_item, near_weight, dh)
            if t > 0:
                _take(c, parent[a:b], old)
            else:
                old[:] = 0
            lstm_backward_update(grad[a:b], old, act[a:b], c[a:b], dh, dc, dgate)
            _add_to_rows(dgate, row[a:b], grad_table)
            if t == 0:
                continue
            if len(u_self):
                _take(out, parent[a:b], h)
                np.dot(h.T, dgate, step_self)
                add_into(du_self, step_self)
                np.dot(dgate, u_self.T, dh_below[k : k + m])
            else:
                dh_below[k : k + m] = 0
            if kind == 0 and B:
                _gather(B, start, item, weight, out, a, b, near[:m])
                np.dot(near[:m].T, dgate, step_near)
                add_into(du_near, step_near)
                np.dot(dgate, u_near.T, near_below[k * B : (k + m) * B].reshape(m, B * C))


@numba.njit(**OPTIONS)
def lstm_backward(
    offsets, active, row, parent, child_start, child, start, item, weight, near_start, near_item, near_weight, grad,
    u_self, u_near, act, c, out, carry_h, carry_c, carry_near, grad_table, du_self, du_near, parts,
):  # fmt: skip
    room = np.empty((3, TILE, out.shape[1]), out.dtype)
    grad_table[:] = 0
    du_self[:] = 0
    du_near[:] = 0
    for t in range(len(offsets) - 2, -1, -1):
        x, y = (t + 1) % 2, t % 2
        for p in range(parts):
            lstm_backward_step(
                t, p, parts, offsets, active, row, parent, child_start, child, start, item, weight, near_start,
                near_item, near_weight, grad, u_self, u_near, act, c, out, carry_h[x], carry_c[x], carry_near[x],
                carry_h[y], carry_c[y], carry_near[y], grad_table[p], du_self[p], du_near[p], room,
            )  # fmt: skip


@numba.njit(**OPTIONS, parallel=True)
def lstm_backward_parallel(
    offsets, active, row, parent, child_start, child, start, item, weight, near_start, near_item, near_weight, grad,
    u_self, u_near, act, c, out, carry_h, carry_c, carry_near, grad_table, du_self, du_near, parts,
):  # fmt: skip
    room = np.empty((parts, 3, TILE, out.shape[1]), out.dtype)
    grad_table[:] = 0
    du_self[:] = 0
    du_near[:] = 0
    for t in range(len(offsets) - 2, -1, -1):
        x, y = (t + 1) % 2, t % 2
        for p in numba.prange(parts):
            lstm_backward_step(
                t, p, parts, offsets, active, row, parent, child_start, child, start, item, weight, near_start,
                near_item, near_weight, grad, u_self, u_near, act, c, out, carry_h[x], carry_c[x], carry_near[x],
                carry_h[y], carry_c[y], carry_near[y], grad_table[p], du_self[p], du_near[p], room[p],
            )  # fmt: skip
