"""The end of an attention layer as one CPU kernel each way: add, dropout, ReLU and layer norm, row by row.

``h[r] = LayerNorm(ReLU(dropout(y[r] + own[row[r]])))``. Dropout is drawn by a counter from one
seed, so the number of threads does not matter.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tgscale.graph.hashing import mix_numba
from tgscale.nn.dispatch import on_cpu_kernels
from tgscale.nn.gather_attention import FAST_MATH, group

_CHUNKS = 64


@numba.njit(cache=True, nogil=True, parallel=True)
def _masks(seed, threshold, scale, out):
    """0 or ``scale``, the former with probability ``threshold / 2^32``; two draws from each 64 bits."""
    n = len(out)
    for i in numba.prange((n + 1) // 2):
        bits = mix_numba(seed + np.uint64(i))
        out[2 * i] = scale if (bits & np.uint64(0xFFFFFFFF)) >= threshold else out.dtype.type(0)
        if 2 * i + 1 < n:
            out[2 * i + 1] = scale if (bits >> np.uint64(32)) >= threshold else out.dtype.type(0)


def dropout_mask(*shape: int, p: float, dtype: torch.dtype) -> Tensor:
    """Multipliers of dropout on the CPU: 0 with probability ``p``, else ``1 / (1 - p)``; from torch's generator."""
    mask = torch.empty(shape, dtype=dtype)
    seed = np.uint64(int(torch.empty((), dtype=torch.int64).random_()))
    out = mask.view(-1).numpy()
    _masks(seed, np.uint64(int(p * 2**32)), out.dtype.type(1 / (1 - p)), out)
    return mask


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _forward(y, own, row, keep, gamma, beta, eps, normed, inverse, out):
    width = y.shape[1]
    zero = y.dtype.type(0)
    for r in numba.prange(len(y)):
        x, a, b = normed[r], y[r], own[row[r]]
        for o in range(width):
            x[o] = a[o] + b[o]
        if keep.size:
            for o in range(width):
                x[o] *= keep[r, o]
        mean = zero
        for o in range(width):
            x[o] = x[o] if x[o] > zero else (zero if x[o] <= zero else x[o])  # NaN stays NaN
            mean += x[o]
        mean /= width
        variance = zero
        for o in range(width):
            x[o] -= mean
            variance += x[o] * x[o]
        scale = y.dtype.type(1) / np.sqrt(variance / width + eps)
        inverse[r] = scale
        h = out[r]
        for o in range(width):
            x[o] *= scale
            h[o] = x[o] * gamma[o] + beta[o]


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _backward(grad, y, own, row, keep, gamma, normed, inverse, grad_y, partial):
    """Gradient of ``y``, and partial sums of those of gamma and beta."""
    R, width = y.shape
    zero = y.dtype.type(0)
    size = (R + _CHUNKS - 1) // _CHUNKS
    for chunk in numba.prange(_CHUNKS):
        for r in range(chunk * size, min(R, (chunk + 1) * size)):
            g, x, a, b, out = grad[r], normed[r], y[r], own[row[r]], grad_y[r]
            mean, along = zero, zero
            sum_gamma, sum_beta = partial[0, chunk], partial[1, chunk]
            for o in range(width):
                sum_gamma[o] += g[o] * x[o]
            for o in range(width):
                sum_beta[o] += g[o]
            for o in range(width):
                mean += g[o] * gamma[o]
                along += g[o] * gamma[o] * x[o]
            mean, along = mean / width, along / width
            scale = inverse[r]
            for o in range(width):
                out[o] = scale * (g[o] * gamma[o] - mean - x[o] * along)
            for o in range(width):
                out[o] = out[o] if a[o] + b[o] > zero else zero
            if keep.size:
                for o in range(width):
                    out[o] *= keep[r, o]


@numba.njit(cache=True, parallel=True, fastmath=FAST_MATH, nogil=True)
def _sum_rows(values, order, ptr, out):
    """Sum of the rows of each group."""
    for q in numba.prange(len(ptr) - 1):
        total = out[q]
        total[:] = 0
        for i in range(ptr[q], ptr[q + 1]):
            value = values[order[i]]
            for o in range(len(total)):
                total[o] += value[o]


class _ResidualNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, own: Tensor, row: Tensor, keep: Tensor | None, gamma: Tensor, beta: Tensor, eps: float
    ) -> Tensor:
        normed, out, inverse = torch.empty_like(y), torch.empty_like(y), y.new_empty(len(y))
        mask = y.new_empty(0, 0) if keep is None else keep
        inputs = [x.detach().numpy() for x in (y, own, row, mask, gamma, beta)]
        outputs = [x.numpy() for x in (normed, inverse, out)]
        _forward(*inputs, inputs[0].dtype.type(eps), *outputs)  # type: ignore[call-arg]
        ctx.save_for_backward(y, own, row, mask, gamma, normed, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, own, row, mask, gamma, normed, inverse = ctx.saved_tensors
        grad_y, grad_own = torch.empty_like(y), torch.empty_like(own)
        partial = y.new_zeros(2, _CHUNKS, y.shape[1])
        inputs = [x.detach().numpy() for x in (grad.contiguous(), y, own, row, mask, gamma, normed, inverse)]
        _backward(*inputs, grad_y.numpy(), partial.numpy())  # type: ignore[call-arg]
        order, ptr = group(row.numpy(), len(own))
        _sum_rows(grad_y.numpy(), order, ptr, grad_own.numpy())
        grad_gamma, grad_beta = partial.sum(1)
        return grad_y, grad_own, None, None, grad_gamma, grad_beta, None


def residual_norm(
    y: Tensor, own: Tensor, row: Tensor, keep: Tensor | None, gamma: Tensor, beta: Tensor, eps: float
) -> Tensor:
    """``LayerNorm(ReLU(keep * (y + own[row])))``.

    Args:
        y: ``[R, O]``.
        own: ``[Q, O]``.
        row: row of ``own`` of each row of ``y``, ``[R]``, int64.
        keep: multipliers of dropout, ``[R, O]``, or None.
        gamma, beta: weight and bias of the norm, ``[O]``.
        eps: added to the variance.

    Returns:
        ``[R, O]``.
    """
    if on_cpu_kernels(y):
        return _ResidualNorm.apply(y.contiguous(), own.contiguous(), row, keep, gamma, beta, eps)
    return residual_norm_reference(y, own, row, keep, gamma, beta, eps)


def residual_norm_reference(
    y: Tensor, own: Tensor, row: Tensor, keep: Tensor | None, gamma: Tensor, beta: Tensor, eps: float
) -> Tensor:
    """The same as :func:`residual_norm` in plain tensor operations, on any device; ``[R, D]``."""
    x = y + own[row]
    return F.layer_norm(F.relu(x if keep is None else x * keep), gamma.shape, gamma, beta, eps)
