"""Gather-attention kernels for CPU: score, softmax and aggregate raw neighbor features without gathering them.

Notation, for root ``r`` with its ``j``-th neighbor and head ``h``::

    x[r, j]    = [ z[slot[r, j]] || edge[event[r, j]] || phi(dt[r, j]) || 1 ]        (one root's rows at a time)
    score      = leaky(query[query_row[r], h] . x[r, j])
    weight     = softmax over j of score
    out[r, h]  = sum over j of keep[r, h, j] * weight[r, h, j] * x[r, j]

The trailing 1 carries the biases of the key and value projections that were absorbed into the query and are applied
to the aggregate (see :class:`tgscale.nn.attention.TemporalAttention`). Every parallel loop owns the rows it writes, so
results do not depend on the number of threads. ``phi(dt) = cos(omega dt + bias)`` takes its phase in float64: a float32
phase has no correct digit left at the time spans that streams have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from tgscale.nn.dispatch import has_triton, on_cpu_kernels
from tgscale.nn.prefetch import prefetch_row
from tgscale.nn.time_encoding import time_encoding

FAST_MATH = {"reassoc", "contract", "arcp"}
"""What LLVM may do to the sums of kernels. No ``nnan`` nor ``ninf``: a diverging model must show its NaN. No ``nsz``:
with it sums are reordered whenever code is optimised, and a kernel that was just compiled is optimised once more than
the same one from the cache: they differed in last bits."""
_CHUNK = 32


def _sine_series() -> np.ndarray:
    """c of sin(pi/2 u) = u * sum(c[i] u^2i) on [-1, 1]; least squares on Chebyshev nodes, error below 1e-13."""
    u = np.cos(np.linspace(0, math.pi, 401))[:200]
    powers = u[:, None] ** np.arange(1, 16, 2)
    return np.linalg.lstsq(powers / u[:, None], np.sin(math.pi / 2 * u) / u, rcond=None)[0]


SINE = _sine_series()
"""Coefficients of the kernels' cosine."""


@numba.njit(cache=True, inline="always")
def _padded(width):
    """The next multiple of 64: the compiler's unrolled vector loops then leave no remainder, which is slow."""
    return (width + 63) // 64 * 64


@numba.njit(cache=True, fastmath=FAST_MATH, inline="always")
def _cosine(dt, shift, omega, bias, sine, out):
    """out[t] = cos(omega[t] dt + bias[t] - 2 pi shift), vectorised by the compiler; sine in out's dtype."""
    turn = 1.0 / (2.0 * math.pi)
    for t in range(len(omega)):
        x = (dt * omega[t] + bias[t]) * turn - shift
        x = abs(x - np.floor(x + 0.5))
        out[t] = 1.0 - 4.0 * x
    c0, c1, c2, c3, c4, c5, c6, c7 = sine[0], sine[1], sine[2], sine[3], sine[4], sine[5], sine[6], sine[7]
    for t in range(len(omega)):
        u = out[t]
        v = u * u
        out[t] = u * (c0 + v * (c1 + v * (c2 + v * (c3 + v * (c4 + v * (c5 + v * (c6 + v * c7)))))))


@numba.njit(cache=True, fastmath=FAST_MATH, inline="always")
def _copy(to, source):
    """``to[: len(source)] = source``; as a slice, Numba would test for overlap and copy one number at a time."""
    for d in range(len(source)):
        to[d] = source[d]


@numba.njit(cache=True, fastmath=FAST_MATH, inline="always")
def feature_row(x, node, edge, dt, omega, bias, sine, phi):
    """x = [node || edge || phi || 1], the feature row of one neighbor; ``omega``, ``bias`` and ``phi`` are padded."""
    D, E, T = len(node), len(edge), len(x) - len(node) - len(edge) - 1
    _cosine(dt, 0.0, omega, bias, sine, phi)
    _copy(x, node)
    _copy(x[D:], edge)
    _copy(x[D + E :], phi[:T])
    x[D + E + T] = 1


@numba.njit(cache=True, inline="always")
def _prefetch(r, z, slot, event, edge):
    """Ask for the rows that root ``r`` needs."""
    for j in range(slot.shape[1]):
        if event[r, j] < 0:
            break
        prefetch_row(edge, event[r, j])
        prefetch_row(z, slot[r, j])


@numba.njit(cache=True, fastmath=FAST_MATH, inline="always")
def _dot(zero, a, b):
    total = zero
    for p in range(len(a)):
        total += a[p] * b[p]
    return total


@numba.njit(cache=True, fastmath=FAST_MATH, inline="always")
def _combine(out, weight, x, n):
    """out += sum over j of weight[j] x[j]; four rows at a time, since each pass reads and writes ``out``."""
    j = 0
    while j + 4 <= n:
        w0, w1, w2, w3 = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        for p in range(len(out)):
            out[p] += (w0 * x0[p] + w1 * x1[p]) + (w2 * x2[p] + w3 * x3[p])
        j += 4
    while j < n:
        w0, x0 = weight[j], x[j]
        for p in range(len(out)):
            out[p] += w0 * x0[p]
        j += 1


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _forward(query, query_row, z, slot, event, edge, dt, omega, bias, sine, keep, slope, out, score, weight):
    R, k = slot.shape
    H, W = query.shape[1], query.shape[2]
    zero = sine[0] - sine[0]
    for chunk in numba.prange((R + _CHUNK - 1) // _CHUNK):
        x, phi = np.zeros((k, _padded(W)), query.dtype), np.empty(len(omega), query.dtype)
        q, total_x = np.zeros(_padded(W), query.dtype), np.zeros(_padded(W), query.dtype)
        kept = np.empty(k, query.dtype)
        for r in range(chunk * _CHUNK, min(R, (chunk + 1) * _CHUNK)):
            if r + 1 < R:
                _prefetch(r + 1, z, slot, event, edge)
            n = 0
            while n < k and event[r, n] >= 0:
                feature_row(x[n, :W], z[slot[r, n]], edge[event[r, n]], dt[r, n], omega, bias, sine, phi)
                n += 1
            for h in range(H):
                if n == 0:
                    out[r, h] = zero
                    continue
                _copy(q, query[query_row[r], h])
                top = zero
                for j in range(n):
                    s = _dot(zero, q, x[j])
                    score[r, h, j] = s
                    s = s if s > 0 else s * slope
                    weight[r, h, j] = s
                    top = s if j == 0 else max(top, s)
                total = zero
                for j in range(n):
                    w = np.exp(weight[r, h, j] - top)
                    weight[r, h, j] = w
                    total += w
                for j in range(n):
                    w = weight[r, h, j] / total
                    weight[r, h, j] = w
                    kept[j] = w * keep[r, h, j] if keep.size else w
                total_x[:] = zero
                _combine(total_x, kept, x, n)
                _copy(out[r, h], total_x[:W])


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _backward_query(
    grad, roots, roots_ptr, z, slot, event, edge, dt, omega, bias, sine, keep, slope, score, weight, grad_query
):
    """Gradient of the queries, by query row; leaves d loss / d raw score in ``score``."""
    k = slot.shape[1]
    Q, H, W = grad_query.shape
    zero = sine[0] - sine[0]
    size = _CHUNK // 4
    for chunk in numba.prange((Q + size - 1) // size):
        x, phi = np.zeros((k, _padded(W)), grad.dtype), np.empty(len(omega), grad.dtype)
        g, grad_q = np.zeros(_padded(W), grad.dtype), np.zeros((H, _padded(W)), grad.dtype)
        grad_weight = np.empty(k, grad.dtype)
        for row in range(chunk * size, min(Q, (chunk + 1) * size)):
            grad_q[:] = zero
            for i in range(roots_ptr[row], roots_ptr[row + 1]):
                r = roots[i]
                if i + 1 < len(roots):
                    _prefetch(roots[i + 1], z, slot, event, edge)
                n = 0
                while n < k and event[r, n] >= 0:
                    feature_row(x[n, :W], z[slot[r, n]], edge[event[r, n]], dt[r, n], omega, bias, sine, phi)
                    n += 1
                for h in range(H):
                    _copy(g, grad[r, h])
                    mean = zero
                    for j in range(n):
                        s = _dot(zero, g, x[j])
                        if keep.size:
                            s *= keep[r, h, j]
                        grad_weight[j] = s
                        mean += s * weight[r, h, j]
                    for j in range(n):
                        s = (grad_weight[j] - mean) * weight[r, h, j]
                        if score[r, h, j] <= 0:
                            s *= slope
                        score[r, h, j] = s
                    _combine(grad_q[h], score[r, h], x, n)
            for h in range(H):
                _copy(grad_query[row, h], grad_q[h, :W])


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _backward_node(grad, query, query_row, visits, visits_ptr, keep, weight, grad_score, grad_z):
    """Gradient of the node states, by node: each gathers what its visits (root * k + place) owe it.

    ``grad_z`` may be wider than the states: whole vectors are added, and the columns behind are of no use.
    """
    H, k = weight.shape[1], weight.shape[2]
    D = grad_z.shape[1]
    for u in numba.prange(len(visits_ptr) - 1):
        total = grad_z[u]
        for i in range(visits_ptr[u], visits_ptr[u + 1]):
            r, j = visits[i] // k, visits[i] % k
            for h in range(H):
                w = weight[r, h, j]
                if keep.size:
                    w *= keep[r, h, j]
                s = grad_score[r, h, j]
                g, q = grad[r, h, :D], query[query_row[r], h, :D]
                for d in range(D):
                    total[d] += w * g[d] + s * q[d]


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _backward_time(
    grad, query, query_row, event, dt, omega, bias, sine, keep, weight, grad_score, offset, grad_omega, grad_bias
):
    """Gradient of a learned time encoding: a partial sum per chunk of roots, added up by the caller in fixed order."""
    R, H, k = weight.shape
    T = grad_bias.shape[1]
    chunks = len(grad_bias)
    size = (R + chunks - 1) // chunks
    for chunk in numba.prange(chunks):
        minus_sine = np.empty(len(omega), grad.dtype)
        for r in range(chunk * size, min(R, (chunk + 1) * size)):
            for j in range(k):
                if event[r, j] < 0:
                    break
                _cosine(dt[r, j], -0.25, omega, bias, sine, minus_sine)  # cos(x + pi/2) = -sin(x)
                for h in range(H):
                    w = weight[r, h, j]
                    if keep.size:
                        w *= keep[r, h, j]
                    s = grad_score[r, h, j]
                    grad_phi = grad[r, h, offset : offset + T]
                    query_phi = query[query_row[r], h, offset : offset + T]
                    for t in range(T):
                        g = (w * grad_phi[t] + s * query_phi[t]) * minus_sine[t]
                        grad_bias[chunk, t] += g
                        grad_omega[chunk, t] += g * dt[r, j]


@numba.njit(cache=True, nogil=True)
def group(keys, num_groups):
    """Counting sort: positions of ``keys`` by group, and where each group starts; negative keys are left out."""
    ptr = np.zeros(num_groups + 1, np.int64)
    for i in range(len(keys)):
        if keys[i] >= 0:
            ptr[keys[i] + 1] += 1
    for g in range(num_groups):
        ptr[g + 1] += ptr[g]
    cursor = ptr[:-1].copy()
    order = np.empty(ptr[-1], np.int64)
    for i in range(len(keys)):
        if keys[i] >= 0:
            order[cursor[keys[i]]] = i
            cursor[keys[i]] += 1
    return order, ptr


class GatherAttention(torch.autograd.Function):
    """The kernels as one differentiable operator: gradients for ``query``, ``z``, ``omega`` and ``bias``."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        query_row: Tensor,
        z: Tensor,
        slot: Tensor,
        event: Tensor,
        edge: Tensor,
        dt: Tensor,
        omega: Tensor,
        bias: Tensor,
        keep: Tensor | None,
        slope: float,
    ) -> Tensor:
        dtype = query.detach().numpy().dtype
        sine = SINE.astype(dtype)
        R, k = slot.shape
        H = query.shape[1]
        out = torch.empty(R, H, query.shape[2], dtype=query.dtype)
        score = np.empty((R, H, k), dtype)
        weight = np.empty((R, H, k), dtype)
        args = (slot.numpy(), event.numpy(), edge.numpy(), dt.numpy(), padded_phase(omega), padded_phase(bias), sine)
        keep_ = np.empty((0, 0, 0), dtype) if keep is None else keep.numpy()
        query, z = query.detach().contiguous(), z.detach().contiguous()
        _forward(
            query.numpy(), query_row.numpy(), z.numpy(), *args, keep_, dtype.type(slope), out.numpy(), score, weight
        )
        ctx.inputs = (query, query_row, z, args, keep_, dtype.type(slope), score, weight, omega)
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
        query, query_row, z, args, keep, slope, score, weight, frequencies = ctx.inputs
        slot, event, edge, dt, omega, bias, sine = args
        grad = grad_out.contiguous().numpy()
        rows = query_row.numpy()
        grad_query = torch.empty_like(query)
        roots, roots_ptr = group(rows, len(query))
        score = score.copy()  # a second backward pass must find the forward's scores
        _backward_query(
            grad, roots, roots_ptr, z.numpy(), slot, event, edge, dt, omega, bias, sine, keep, slope, score, weight,
            grad_query.numpy(),
        )  # fmt: skip
        grad_z = grad_omega = grad_bias = None
        if ctx.needs_input_grad[2]:
            wide = min(_round_up(z.shape[1]), query.shape[2])
            grad_z = z.new_zeros(len(z), wide)
            visits, visits_ptr = group(np.where(event < 0, -1, slot).reshape(-1), len(z))
            _backward_node(grad, query.numpy(), rows, visits, visits_ptr, keep, weight, score, grad_z.numpy())
            grad_z = grad_z[:, : z.shape[1]]
        if ctx.needs_input_grad[7]:
            partial = np.zeros((2, 64, len(frequencies)))
            offset = z.shape[1] + edge.shape[1]
            _backward_time(
                grad, query.numpy(), rows, event, dt, omega, bias, sine, keep, weight, score, offset, *partial
            )
            grad_omega, grad_bias = torch.from_numpy(partial.sum(1)).to(frequencies.dtype)
        return grad_query, None, grad_z, None, None, None, None, grad_omega, grad_bias, None, None


def _round_up(width: int) -> int:
    return -(-width // 64) * 64


def padded_phase(x: Tensor) -> np.ndarray:
    """Frequencies or phases ``[D]`` in float64, padded as the kernels want them."""
    padded = np.zeros(_round_up(len(x)))
    padded[: len(x)] = x.detach().double().numpy()
    return padded


def gather_attention_reference(
    query: Tensor,
    query_row: Tensor,
    z: Tensor,
    slot: Tensor,
    event: Tensor,
    edge: Tensor,
    dt: Tensor,
    omega: Tensor,
    bias: Tensor,
    keep: Tensor | None,
    slope: float,
) -> Tensor:
    """The same in plain tensor operations, on any device: the definition that the kernels are tested against.

    Returns:
        As :func:`gather_attention`, with the same arguments.
    """
    valid = event >= 0
    phi = time_encoding(dt, omega, bias)
    ones = torch.ones_like(phi[..., :1])
    x = torch.cat([z[slot], edge[event.clamp(min=0)].to(z.dtype), phi, ones], dim=-1)
    score = torch.einsum("rhf,rjf->rhj", query[query_row], x)
    score = torch.where(score > 0, score, score * slope).masked_fill(~valid[:, None], -torch.inf)
    weight = torch.softmax(score, dim=-1).masked_fill(~valid[:, None], 0)  # a root without a past: NaN -> 0
    if keep is not None:
        weight = weight * keep
    return torch.einsum("rhj,rjf->rhf", weight, x)


def _implementation(query: Tensor) -> Callable[..., Tensor]:
    if on_cpu_kernels(query):
        return GatherAttention.apply
    if query.is_cuda and has_triton():
        from tgscale.nn.gather_attention_triton import gather_attention_triton

        return gather_attention_triton
    return gather_attention_reference


def gather_attention(
    query: Tensor,
    query_row: Tensor,
    z: Tensor,
    slot: Tensor,
    event: Tensor,
    edge: Tensor,
    dt: Tensor,
    omega: Tensor,
    bias: Tensor,
    keep: Tensor | None = None,
    slope: float = 1.0,
) -> Tensor:
    """Attention of roots over raw neighbor features (module docstring).

    Args:
        query: absorbed queries, ``[Q, H, D + F + T + 1]``.
        query_row: row of ``query`` that each root uses, ``[R]``, int64.
        z: node states, ``[U, D]``.
        slot: row of ``z`` of each neighbor, ``[R, k]``, int64.
        event: its event id, ``[R, k]``, int64; negative where there is none, and only at the end of a row.
        edge: edge features by event id, ``[E, F]`` (``F`` may be 0). No gradient.
        dt: root time minus event time, ``[R, k]``, int64.
        omega, bias: time encoding, ``[T]``.
        keep: dropout multipliers, ``[R, H, k]``, or None.
        slope: slope of the leaky ReLU on negative scores; 1 leaves scores as they are.

    Returns:
        ``[R, H, D + F + T + 1]``; zero for a root without a past.
    """
    return _implementation(query)(query, query_row, z, slot, event, edge, dt, omega, bias, keep, slope)
