"""Gather-attention on a GPU: the operator of :mod:`tgscale.nn.gather_attention` as Triton kernels, there and back.

The feature rows ``x[r, j]`` are never stored. A program of the forward pass owns a root: it reads the rows of its
neighbors a block of columns at a time, once for the scores and, out of the cache, once more for the sum. Kept for the
backward pass are raw scores and weights, ``[R, H, k]`` each. Gradients are sums in a fixed order, without atomics:

- of the scores, by root;
- of the queries, by query row, over its roots;
- of the node states, by node, over its visits (root, place);
- of a learned time encoding, by slices of the roots, in float64, whose sums are then added.

Which roots and visits belong to a row is found by a stable sort on the device, so that nothing waits for the host and
the whole can be captured. Products and sums are in float32, or in float64 if the query is; the query, the states and
the edge features may be narrower. The time encoding takes its phase in float64, as on a CPU.

Runs without a GPU under Triton's interpreter (``TRITON_INTERPRET=1`` before the first import).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tgscale.nn.gather_attention import SINE

SINE_0, SINE_1, SINE_2, SINE_3, SINE_4, SINE_5, SINE_6, SINE_7 = (tl.constexpr(float(c)) for c in SINE)
TIME_SLICES = 64


@triton.jit
def _cosine(dt, omega, bias, shift: tl.constexpr, TYPE: tl.constexpr):
    """``cos(omega dt + bias - 2 pi shift)``, ``[K, T]``, by the series of the CPU's kernels.

    Whole turns are taken off in float64; what is left is exact enough for any type. Constants are of a stated type: a
    bare number may become float32.
    """
    turn = tl.full((1, 1), 0.15915494309189535, tl.float64)  # 1 / (2 pi)
    x = (dt.to(tl.float64)[:, None] * omega[None, :] + bias[None, :]) * turn - shift
    x = tl.abs(x - tl.floor(x + 0.5)).to(TYPE)
    u = 1 - 4 * x
    v = u * u
    y = v * tl.full((1, 1), SINE_7, TYPE) + tl.full((1, 1), SINE_6, TYPE)
    y = v * y + tl.full((1, 1), SINE_5, TYPE)
    y = v * y + tl.full((1, 1), SINE_4, TYPE)
    y = v * y + tl.full((1, 1), SINE_3, TYPE)
    y = v * y + tl.full((1, 1), SINE_2, TYPE)
    y = v * y + tl.full((1, 1), SINE_1, TYPE)
    return u * (v * y + tl.full((1, 1), SINE_0, TYPE))


@triton.jit
def _columns(start: tl.constexpr, z, slot, edge, event, dt, there, omega, bias, D: tl.constexpr, F: tl.constexpr,
             T: tl.constexpr, BLOCK: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Columns ``start ..`` of the neighbors' feature rows, ``[K, BLOCK]``, zero where there is no neighbor.

    ``start`` counts blocks of a layout in which each part (state, edge, time, the constant 1) begins a new block; the
    place of the columns in the row of ``D + F + T + 1`` is given with them, and which of them are there.
    """
    ND: tl.constexpr = (D + BLOCK - 1) // BLOCK
    NF: tl.constexpr = (F + BLOCK - 1) // BLOCK
    NT: tl.constexpr = (T + BLOCK - 1) // BLOCK
    lane = tl.arange(0, BLOCK)
    if start < ND:
        column = start * BLOCK + lane
        inside = column < D
        x = tl.load(z + slot[:, None] * D + column[None, :], there[:, None] & inside[None, :], other=0).to(TYPE)
        place = column
    elif start < ND + NF:
        column = (start - ND) * BLOCK + lane
        inside = column < F
        x = tl.load(edge + event[:, None] * F + column[None, :], there[:, None] & inside[None, :], other=0).to(TYPE)
        place = D + column
    elif start < ND + NF + NT:
        column = (start - ND - NF) * BLOCK + lane
        inside = column < T
        frequency, phase = tl.load(omega + column, inside, other=0), tl.load(bias + column, inside, other=0)
        x = tl.where(there[:, None] & inside[None, :], _cosine(dt, frequency, phase, 0.0, TYPE), 0)
        place = D + F + column
    else:
        inside = lane < 1
        x = tl.where(there[:, None] & inside[None, :], 1.0, 0.0).to(TYPE)
        place = D + F + T + lane
    return x, place, inside


@triton.jit
def _neighbors(root, slot, event, dt, k: tl.constexpr, K: tl.constexpr):
    """Slots, events and time spans of a root's neighbors, ``[K]``, and which are there."""
    j = tl.arange(0, K)
    e = tl.load(event + root * k + j, j < k, other=-1)
    there = e >= 0
    s = tl.load(slot + root * k + j, there, other=0)
    t = tl.load(dt + root * k + j, there, other=0)
    return j, s, tl.where(there, e, 0), t, there


@triton.jit
def _forward(query, query_row, z, slot, event, edge, dt, omega, bias, keep, out, score, weight, slope: tl.constexpr,
             H: tl.constexpr, k: tl.constexpr, D: tl.constexpr, F: tl.constexpr, T: tl.constexpr,
             HAS_KEEP: tl.constexpr, HH: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
             TYPE: tl.constexpr):  # fmt: skip
    W: tl.constexpr = D + F + T + 1
    root = tl.program_id(0).to(tl.int64)
    row = tl.load(query_row + root)
    h = tl.arange(0, HH)
    j, s, e, t, there = _neighbors(root, slot, event, dt, k, K)
    raw = tl.zeros((HH, K), TYPE)
    for b in tl.static_range(BLOCKS):
        x, place, inside = _columns(b, z, s, edge, e, t, there, omega, bias, D, F, T, BLOCK, TYPE)
        at = (row * H + h[:, None]) * W + place[None, :]
        q = tl.load(query + at, (h < H)[:, None] & inside[None, :], other=0).to(TYPE)
        raw += tl.sum(q[:, None, :] * x[None, :, :], 2)
    leaky = tl.where(raw > 0, raw, raw * slope)
    leaky = tl.where(there[None, :], leaky, float("-inf"))
    top = tl.max(leaky, 1)
    top = tl.where(tl.max(there.to(tl.int32), 0) > 0, top, 0)  # a root without a past: weights 0, not NaN
    w = tl.exp(leaky - top[:, None])
    total = tl.sum(w, 1)
    w = w / tl.where(total == 0, 1, total)[:, None]
    seat = (root * H + h[:, None]) * k + j[None, :]
    seated = (h < H)[:, None] & (j < k)[None, :]
    tl.store(score + seat, raw, seated)
    tl.store(weight + seat, w, seated)
    if HAS_KEEP:
        w *= tl.load(keep + seat, seated, other=0).to(TYPE)
    for b in tl.static_range(BLOCKS):
        x, place, inside = _columns(b, z, s, edge, e, t, there, omega, bias, D, F, T, BLOCK, TYPE)
        total_x = tl.sum(w[:, :, None] * x[None, :, :], 1)
        tl.store(out + (root * H + h[:, None]) * W + place[None, :], total_x, (h < H)[:, None] & inside[None, :])


@triton.jit
def _backward_score(grad, z, slot, event, edge, dt, omega, bias, keep, score, weight, grad_score, slope: tl.constexpr,
                    H: tl.constexpr, k: tl.constexpr, D: tl.constexpr, F: tl.constexpr, T: tl.constexpr,
                    HAS_KEEP: tl.constexpr, HH: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
                    BLOCKS: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """d loss / d raw score, by root."""
    W: tl.constexpr = D + F + T + 1
    root = tl.program_id(0).to(tl.int64)
    h = tl.arange(0, HH)
    j, s, e, t, there = _neighbors(root, slot, event, dt, k, K)
    grad_weight = tl.zeros((HH, K), TYPE)
    for b in tl.static_range(BLOCKS):
        x, place, inside = _columns(b, z, s, edge, e, t, there, omega, bias, D, F, T, BLOCK, TYPE)
        at = (root * H + h[:, None]) * W + place[None, :]
        g = tl.load(grad + at, (h < H)[:, None] & inside[None, :], other=0).to(TYPE)
        grad_weight += tl.sum(g[:, None, :] * x[None, :, :], 2)
    seat = (root * H + h[:, None]) * k + j[None, :]
    seated = (h < H)[:, None] & (j < k)[None, :]
    if HAS_KEEP:
        grad_weight *= tl.load(keep + seat, seated, other=0).to(TYPE)
    w = tl.load(weight + seat, seated, other=0)
    raw = tl.load(score + seat, seated, other=0)
    mean = tl.sum(grad_weight * w, 1)
    grad_raw = (grad_weight - mean[:, None]) * w
    tl.store(grad_score + seat, tl.where(raw > 0, grad_raw, grad_raw * slope), seated)


@triton.jit
def _backward_query(roots, ptr, z, slot, event, edge, dt, omega, bias, grad_score, grad_query,
                    H: tl.constexpr, k: tl.constexpr, D: tl.constexpr, F: tl.constexpr, T: tl.constexpr,
                    HH: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
                    TYPE: tl.constexpr):  # fmt: skip
    """Gradient of a query row, summed over its roots in order."""
    W: tl.constexpr = D + F + T + 1
    row = tl.program_id(0).to(tl.int64)
    first, last = tl.load(ptr + row), tl.load(ptr + row + 1)
    h = tl.arange(0, HH)
    for b in tl.static_range(BLOCKS):
        total = tl.zeros((HH, BLOCK), TYPE)
        for i in range(first, last):
            root = tl.load(roots + i)
            j, s, e, t, there = _neighbors(root, slot, event, dt, k, K)
            seat = (root * H + h[:, None]) * k + j[None, :]
            g = tl.load(grad_score + seat, (h < H)[:, None] & (j < k)[None, :], other=0)
            x, _, _ = _columns(b, z, s, edge, e, t, there, omega, bias, D, F, T, BLOCK, TYPE)
            total += tl.sum(g[:, :, None] * x[None, :, :], 1)
        place, inside = _place(b, D, F, T, BLOCK)
        tl.store(grad_query + (row * H + h[:, None]) * W + place[None, :], total, (h < H)[:, None] & inside[None, :])


@triton.jit
def _place(start: tl.constexpr, D: tl.constexpr, F: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """Where the columns of a block of :func:`_columns` stand in a row, and which of them are there."""
    ND: tl.constexpr = (D + BLOCK - 1) // BLOCK
    NF: tl.constexpr = (F + BLOCK - 1) // BLOCK
    NT: tl.constexpr = (T + BLOCK - 1) // BLOCK
    lane = tl.arange(0, BLOCK)
    if start < ND:
        place = start * BLOCK + lane
        inside = place < D
    elif start < ND + NF:
        place = D + (start - ND) * BLOCK + lane
        inside = place < D + F
    elif start < ND + NF + NT:
        place = D + F + (start - ND - NF) * BLOCK + lane
        inside = place < D + F + T
    else:
        place = D + F + T + lane
        inside = lane < 1
    return place, inside


@triton.jit
def _backward_node(grad, query, query_row, visits, ptr, keep, weight, grad_score, grad_z,
                   H: tl.constexpr, k: tl.constexpr, D: tl.constexpr, W: tl.constexpr, HAS_KEEP: tl.constexpr,
                   VISITS: tl.constexpr, BLOCK: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Gradient of a node's state: what its visits (root * k + place) owe it, some visits at a time, in order."""
    node, b = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, last = tl.load(ptr + node), tl.load(ptr + node + 1)
    d = b * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), TYPE)
    for i in range(first, last, VISITS):
        v = i + tl.arange(0, VISITS)
        there = v < last
        visit = tl.load(visits + v, there, other=0)
        root, j = visit // k, visit % k
        row = tl.load(query_row + root, there, other=0)
        inside = there[:, None] & (d < D)[None, :]
        for h in tl.static_range(H):
            seat = (root * H + h) * k + j
            w = tl.load(weight + seat, there, other=0)
            if HAS_KEEP:
                w *= tl.load(keep + seat, there, other=0).to(TYPE)
            s = tl.load(grad_score + seat, there, other=0)
            g = tl.load(grad + ((root * H + h) * W)[:, None] + d[None, :], inside, other=0).to(TYPE)
            q = tl.load(query + ((row * H + h) * W)[:, None] + d[None, :], inside, other=0).to(TYPE)
            total += tl.sum(w[:, None] * g + s[:, None] * q, 0)
    tl.store(grad_z + node * D + d, total, d < D)


@triton.jit
def _backward_time(grad, query, query_row, event, dt, omega, bias, keep, weight, grad_score, partial, R, size,
                   H: tl.constexpr, k: tl.constexpr, T: tl.constexpr, W: tl.constexpr, OFFSET: tl.constexpr,
                   HAS_KEEP: tl.constexpr, K: tl.constexpr, TT: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Gradients of omega and bias over one slice of the roots, in float64: ``partial[2, slices, T]``."""
    part = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, TT)
    frequency, shift = tl.load(omega + t, t < T, other=0), tl.load(bias + t, t < T, other=0)
    total_omega, total_bias = tl.zeros((TT,), tl.float64), tl.zeros((TT,), tl.float64)
    j = tl.arange(0, K)
    for root in range(part * size, tl.minimum(R, (part + 1) * size)):
        row = tl.load(query_row + root)
        there = tl.load(event + root * k + j, j < k, other=-1) >= 0
        span = tl.load(dt + root * k + j, there, other=0)
        owed = tl.zeros((K, TT), TYPE)
        for h in tl.static_range(H):
            seat = (root * H + h) * k + j
            w = tl.load(weight + seat, there, other=0)
            if HAS_KEEP:
                w *= tl.load(keep + seat, there, other=0).to(TYPE)
            s = tl.load(grad_score + seat, there, other=0)
            g = tl.load(grad + (root * H + h) * W + OFFSET + t, t < T, other=0).to(TYPE)
            q = tl.load(query + (row * H + h) * W + OFFSET + t, t < T, other=0).to(TYPE)
            owed += w[:, None] * g[None, :] + s[:, None] * q[None, :]
        owed *= _cosine(span, frequency, shift, -0.25, TYPE)  # cos(x + pi/2) = -sin(x)
        owed = tl.where(there[:, None], owed, 0).to(tl.float64)
        total_bias += tl.sum(owed, 0)
        total_omega += tl.sum(owed * span.to(tl.float64)[:, None], 0)
    tl.store(partial + part * T + t, total_omega, t < T)
    tl.store(partial + (tl.num_programs(0) + part) * T + t, total_bias, t < T)


def _group(keys: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Positions of ``keys`` by group, in order within each, and where each of the groups starts, ``[groups + 1]``."""
    ordered, position = keys.sort(stable=True)
    return position, torch.searchsorted(ordered, torch.arange(groups + 1, device=keys.device))


class GatherAttentionTriton(torch.autograd.Function):
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
        query, z, edge = query.detach().contiguous(), z.detach().contiguous(), edge.contiguous()
        query_row, slot, event, dt = (x.contiguous() for x in (query_row, slot, event, dt))
        keep = None if keep is None else keep.contiguous()
        R, (_, H, W) = len(query_row), query.shape
        kind = torch.float64 if query.dtype == torch.float64 else torch.float32
        score = query.new_empty(R, H, slot.shape[1], dtype=kind)
        weight = torch.empty_like(score)
        out = query.new_empty(R, H, W)
        phase = (omega.detach().double(), bias.detach().double())
        sizes = _sizes(query, z, slot, edge, omega, keep)
        some = score if keep is None else keep
        if R:
            with torch.cuda.device_of(query):
                _forward[(R,)](
                    query, query_row, z, slot, event, edge, dt, *phase, some, out, score, weight, slope=slope, **sizes
                )  # fmt: skip
        ctx.save_for_backward(query, query_row, z, slot, event, edge, dt, *phase, some, score, weight)
        ctx.slope, ctx.sizes, ctx.time_type = slope, sizes, omega.dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
        with torch.cuda.device_of(grad_out):
            return _backward(ctx, grad_out)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    query, query_row, z, slot, event, edge, dt, omega, bias, keep, score, weight = ctx.saved_tensors
    sizes: dict[str, Any] = ctx.sizes
    grad, R, k = grad_out.contiguous(), len(query_row), slot.shape[1]
    columns = (z, slot, event, edge, dt, omega, bias)
    grad_score = torch.empty_like(score)
    if not R:
        zero_time = torch.zeros_like(omega, dtype=ctx.time_type)
        return (torch.zeros_like(query), None, torch.zeros_like(z), *[None] * 4, zero_time, zero_time, None, None)
    _backward_score[(R,)](grad, *columns, keep, score, weight, grad_score, slope=ctx.slope, **sizes)
    grad_query = torch.empty_like(query)
    roots, roots_ptr = _group(query_row, len(query))
    without_keep = {name: size for name, size in sizes.items() if name != "HAS_KEEP"}
    _backward_query[(len(query),)](roots, roots_ptr, *columns, grad_score, grad_query, **without_keep)
    grad_z = grad_omega = grad_bias = None
    shared = {name: sizes[name] for name in ("H", "k", "HAS_KEEP", "TYPE")} | {"W": query.shape[2]}
    if ctx.needs_input_grad[2]:
        grad_z = torch.empty_like(z)
        visits, visits_ptr = _group(slot.masked_fill(event < 0, len(z)).flatten(), len(z))
        grid = (len(z), triton.cdiv(z.shape[1], sizes["BLOCK"]))
        _backward_node[grid](
            grad, query, query_row, visits, visits_ptr, keep, weight, grad_score, grad_z,
            D=z.shape[1], VISITS=16, BLOCK=sizes["BLOCK"], **shared,
        )  # fmt: skip
    if ctx.needs_input_grad[7] or ctx.needs_input_grad[8]:
        T = len(omega)
        partial = torch.empty(2, TIME_SLICES, T, dtype=torch.float64, device=query.device)
        _backward_time[(TIME_SLICES,)](
            grad, query, query_row, event, dt, omega, bias, keep, weight, grad_score, partial,
            R, triton.cdiv(R, TIME_SLICES), T=T, OFFSET=z.shape[1] + edge.shape[1], K=_power(k), TT=_power(T),
            **shared,
        )  # fmt: skip
        grad_omega, grad_bias = partial.sum(1).to(ctx.time_type)
    return grad_query, None, grad_z, None, None, None, None, grad_omega, grad_bias, None, None


def _power(size: int) -> int:
    return max(2, triton.next_power_of_2(size))


def _sizes(query: Tensor, z: Tensor, slot: Tensor, edge: Tensor, omega: Tensor, keep: Tensor | None) -> dict[str, Any]:
    """What the kernels are compiled for: widths, and blocks that leave a program's values room in registers."""
    heads, k = query.shape[1], slot.shape[1]
    D, F, T = z.shape[1], edge.shape[1], len(omega)
    HH, K = _power(heads), _power(k)
    block = max(16, min(128, _power(max(D, F, T)), 8192 // (HH * K)))  # [heads, neighbors, block] at a time
    return {
        "H": heads,
        "k": k,
        "D": D,
        "F": F,
        "T": T,
        "HAS_KEEP": keep is not None,
        "HH": HH,
        "K": K,
        "BLOCK": block,
        "BLOCKS": sum(-(-width // block) for width in (D, F, T)) + 1,
        "TYPE": tl.float64 if query.dtype == torch.float64 else tl.float32,
    }


@torch.compiler.disable
def gather_attention_triton(
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
    """What :func:`tgscale.nn.gather_attention.gather_attention` does, by these kernels; not for ``torch.compile``."""
    return GatherAttentionTriton.apply(query, query_row, z, slot, event, edge, dt, omega, bias, keep, slope)
