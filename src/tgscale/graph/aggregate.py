"""``out[s] = A[graphs[s]] @ x[s]`` for several snapshots in one call: the graph operator of every snapshot model.

On the CPU one kernel gathers rows (``aggregate_rows``); the gradient gathers through the stored transpose, so no thread
adds to another's row and the result does not depend on the number of threads. Elsewhere the snapshots make one
block-diagonal matrix, or one matrix with a wide right-hand side where all show the same graph; there the order of
sums is that of the device's sparse library.
"""

from __future__ import annotations

import warnings
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic
from torch import Tensor
from torch.autograd.function import once_differentiable

from tgscale.errors import ConfigError
from tgscale.graph.adjacency import Adjacency
from tgscale.graph.parallel import parallel_lock, thread_count

# Rows differ in entries, so a thread takes several parts from all over.
_PARTS_PER_THREAD = 8


def _sum_lanes_code(typing_context, lanes, x, neighbor, weight, first, end, column, row):
    """``row[column + l] = sum over first <= e < end of weight[e] * x[neighbor[e], column + l]`` for ``l < lanes``.

    The sum stays in vector registers. From an ordinary loop over features the compiler makes code that loads and
    stores the sum for every entry, after checking that it does not overlap with ``x``.
    """
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("lanes")

    def generate(context, builder, signature, args):
        _, x_type, neighbor_type, weight_type, _, _, _, row_type = signature.args
        x_, neighbor_, weight_, row_ = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip((x_type, neighbor_type, weight_type, row_type), (*args[1:4], args[7]), strict=True)
        )
        first_, end_, column_ = args[4:7]
        vector = ir.VectorType(context.get_data_type(x_type.dtype), lanes.literal_value)
        width = context.get_abi_sizeof(context.get_data_type(x_type.dtype))
        none = ir.Constant(ir.VectorType(ir.IntType(32), lanes.literal_value), None)
        stride = cgutils.unpack_tuple(builder, x_.strides)[0]
        base = builder.gep(x_.data, [column_])

        total = cgutils.alloca_once(builder, vector)
        builder.store(ir.Constant(vector, None), total)
        with cgutils.for_range_slice(builder, first_, end_, ir.Constant(first_.type, 1), first_.type) as (e, _count):
            at = builder.mul(builder.sext(builder.load(builder.gep(neighbor_.data, [e])), stride.type), stride)
            address = cgutils.pointer_add(builder, base, at, vector.as_pointer())
            values = builder.load(address, align=width)
            scalar = builder.load(builder.gep(weight_.data, [e]))
            undefined = ir.Constant(vector, ir.Undefined)
            lane0 = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
            product = builder.fmul(values, builder.shuffle_vector(lane0, undefined, none), flags=["contract"])
            builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
        out = builder.bitcast(builder.gep(row_.data, [column_]), vector.as_pointer())
        builder.store(builder.load(total), out, align=width)
        return context.get_dummy_value()

    index = types.intp
    return types.void(lanes, x, neighbor, weight, index, index, index, row), generate


_sum_lanes: Any = intrinsic(_sum_lanes_code)


@numba.njit(nogil=True, cache=True)
def aggregate_rows(offset, indptr, neighbor, weight, x, start, stop, out):
    """``out[r - start] = sum of weight[e] * x[neighbor[e]]`` over the entries of each row ``start <= r < stop``.

    Args:
        offset: first entry of the graph; indptr: its rows, ``[R + 1]``; neighbor, weight: entries of all graphs.
        x: ``[N, F]``; out: ``[stop - start, F]``; in both a row's values are adjacent, rows may lie apart.
    """
    F = x.shape[1]
    for r in range(start, stop):
        first, end, row = offset + indptr[r], offset + indptr[r + 1], out[r - start]
        if first == end:
            row[:] = 0
            continue
        f = 0
        while f + 32 <= F:
            _sum_lanes(32, x, neighbor, weight, first, end, f, row)
            f += 32
        if f + 16 <= F:
            _sum_lanes(16, x, neighbor, weight, first, end, f, row)
            f += 16
        if f + 8 <= F:
            _sum_lanes(8, x, neighbor, weight, first, end, f, row)
            f += 8
        if f + 4 <= F:
            _sum_lanes(4, x, neighbor, weight, first, end, f, row)
            f += 4
        if f + 2 <= F:
            _sum_lanes(2, x, neighbor, weight, first, end, f, row)
            f += 2
        if f < F:
            _sum_lanes(1, x, neighbor, weight, first, end, f, row)


@numba.njit(nogil=True, cache=True)
def _range(offsets, indptr, neighbor, weight, graphs, x, out, start, stop):
    """Rows ``start`` to ``stop`` of the ``S * R`` rows of all snapshots."""
    R = out.shape[1]
    while start < stop:
        s = start // R
        first, last = start - s * R, min(stop - s * R, R)
        g = graphs[s]
        aggregate_rows(offsets[g], indptr[g], neighbor, weight, x[s], first, last, out[s, first:last])
        start = s * R + last


@numba.njit(nogil=True, cache=True, parallel=True)
def _parallel(offsets, indptr, neighbor, weight, graphs, x, out, threads):
    rows, parts = out.shape[0] * out.shape[1], threads * _PARTS_PER_THREAD
    for i in numba.prange(parts):
        p = i % _PARTS_PER_THREAD * threads + i // _PARTS_PER_THREAD  # a thread takes adjacent i
        _range(offsets, indptr, neighbor, weight, graphs, x, out, rows * p // parts, rows * (p + 1) // parts)


def _kernel(adj: Adjacency, graphs: np.ndarray, x: Tensor) -> Tensor:
    out = x.new_empty(len(x), adj.num_rows, x.shape[2])
    arguments = (*adj.arrays, graphs, x.contiguous().numpy(), out.numpy())
    threads = thread_count(len(x) * adj.num_rows)
    if threads == 1:
        _range(*arguments, 0, len(x) * adj.num_rows)
    else:
        with parallel_lock:
            _parallel(*arguments, threads)
    return out


def _sparse(adj: Adjacency, graphs: np.ndarray, x: Tensor) -> Tensor:
    """By the sparse matrix products of torch, on any device."""
    S, N, F = x.shape
    sizes = np.diff(adj.host_offsets)[graphs]
    first = adj.host_offsets[graphs]
    if (graphs == graphs[0]).all():
        part = slice(first[0], first[0] + sizes[0])
        csr = (adj.indptr[graphs[0]], adj.neighbor[part], adj.weight[part])
        wide = x.permute(1, 0, 2).reshape(N, S * F)
        return (_csr(*csr, N) @ wide).view(adj.num_rows, S, F).permute(1, 0, 2)
    ends = np.cumsum(sizes)
    total, device = int(ends[-1]), x.device
    shift, count, base = (torch.from_numpy(a).to(device) for a in (first - ends + sizes, sizes, ends - sizes))
    entry = torch.arange(total, device=device) + shift.repeat_interleave(count, output_size=total)
    column = torch.arange(0, S * N, N, device=device).repeat_interleave(count, output_size=total)
    row_start = adj.indptr[torch.from_numpy(graphs).to(device), :-1] + base[:, None]
    indptr = torch.cat([row_start.flatten(), torch.full((1,), total, device=device)])
    block = _csr(indptr, adj.neighbor[entry] + column, adj.weight[entry], S * N)
    return (block @ x.reshape(S * N, F)).view(S, adj.num_rows, F)


def _csr(indptr: Tensor, neighbor: Tensor, weight: Tensor, columns: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "beta state", once per process
        size = (len(indptr) - 1, columns)
        return torch.sparse_csr_tensor(indptr, neighbor, weight, size, check_invariants=False)


class _Aggregate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, adj: Adjacency, graphs: np.ndarray) -> Tensor:
        ctx.adj, ctx.graphs = adj, graphs
        return (_kernel if x.device.type == "cpu" else _sparse)(adj, graphs, x.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (_kernel if grad.device.type == "cpu" else _sparse)(ctx.adj.transposed, ctx.graphs, grad), None, None


def aggregate(adj: Adjacency, graphs: Tensor, x: Tensor) -> Tensor:
    """``out[s] = A[graphs[s]] @ x[s]``; differentiable once, in ``x``.

    Args:
        adj: the matrices, on the device of ``x``.
        graphs: which graph each snapshot shows, ``[S]``, int64; best on the CPU (it is needed there).
        x: ``[S, num_cols, F]``, in the dtype of ``adj``. A half-precision ``x`` is summed in the dtype of ``adj``.

    Returns:
        ``[S, num_rows, F]`` in the dtype of ``x``.

    Raises:
        ConfigError: shapes, devices, dtypes or graphs that do not fit.
    """
    numbers = _check(adj, graphs, x)
    if not x.numel():
        return x.new_zeros(len(x), adj.num_rows, x.shape[2])
    return _Aggregate.apply(x.to(adj.dtype), adj, numbers).to(x.dtype)


def aggregate_reference(adj: Adjacency, graphs: Tensor, x: Tensor) -> Tensor:
    """The same, snapshot by snapshot in plain tensor operations: what ``aggregate`` is tested against."""
    rows = []
    for g, features in zip(_check(adj, graphs, x), x.to(adj.dtype), strict=True):
        part = slice(adj.host_offsets[g], adj.host_offsets[g + 1])
        row = torch.arange(adj.num_rows, device=x.device).repeat_interleave(adj.indptr[g].diff())
        message = adj.weight[part, None] * features[adj.neighbor[part]]
        rows.append(features.new_zeros(adj.num_rows, x.shape[2]).index_add(0, row, message))
    return torch.stack(rows).to(x.dtype) if rows else x.new_zeros(0, adj.num_rows, x.shape[2])


def _check(adj: Adjacency, graphs: Tensor, x: Tensor) -> np.ndarray:
    """``graphs`` on the CPU, once everything fits."""
    if x.ndim != 3 or x.shape[:2] != (graphs.shape[0], adj.num_cols):
        raise ConfigError(
            f"features are {list(x.shape)} for {len(graphs)} snapshots: expected [{len(graphs)}, {adj.num_cols}, any]."
        )
    if x.device != adj.device:
        raise ConfigError(f"features are on {x.device} and the adjacency on {adj.device}: move one with .to(device).")
    if x.dtype != adj.dtype and x.dtype not in (torch.float16, torch.bfloat16):
        raise ConfigError(f"features are {x.dtype} and the adjacency is {adj.dtype}: make them the same.")
    numbers = graphs.cpu().numpy()
    wrong = numbers[(numbers < 0) | (numbers >= adj.num_graphs)]
    if len(wrong):
        raise ConfigError(f"graph {wrong[0]} was asked for, expected 0 to {adj.num_graphs - 1}.")
    return numbers
