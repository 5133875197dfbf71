"""Several matrices applied to one state inside a kernel: relations beside the identity, or Chebyshev polynomials.

``T_b = A_b x`` for matrix ``b``, ``T_b = x`` where it is None. As Chebyshev polynomials (Defferrard et al., NeurIPS
2016, equation 4) ``T_b = 2 A_b T_(b-1) - T_(b-2)`` from ``b = 2`` on. A kernel takes any number of matrices as one
table of addresses; a tuple of arrays would be compiled anew for every number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.graph.adjacency import Adjacency
from tgscale.graph.aggregate import aggregate, aggregate_rows

Bases = Sequence[Adjacency | None]

_TILE = 256


def check_bases(bases: Bases, graphs: Tensor, num_nodes: int, dtype: torch.dtype, chebyshev: bool) -> None:
    """Raises ConfigError unless every matrix is square over these nodes, of this dtype, and has these graphs."""
    if not bases:
        raise ConfigError("there are no matrices: give at least [None], the identity.")
    if chebyshev and (bases[0] is not None or None in bases[1:]):
        raise ConfigError("Chebyshev polynomials begin with the identity alone: give [None, L, L, ...].")
    for b, adj in enumerate(bases):
        if adj is None:
            continue
        if (adj.num_rows, adj.num_cols) != (num_nodes, num_nodes):
            raise ConfigError(f"matrix {b} is {adj.num_rows} x {adj.num_cols}, expected {num_nodes} x {num_nodes}.")
        if adj.dtype != dtype:
            raise ConfigError(f"matrix {b} is {adj.dtype} and the state is {dtype}: make them the same.")
        wrong = graphs[(graphs < 0) | (graphs >= adj.num_graphs)]
        if len(wrong):
            raise ConfigError(f"graph {wrong[0]} was asked for, expected 0 to {adj.num_graphs - 1} in matrix {b}.")


def address_table(bases: Bases, graphs: np.ndarray, transposed: bool = False) -> np.ndarray:
    """Where each step's matrices lie, ``[w, B, 4]``, int64: row starts, neighbors, weights, number of entries.

    Zeros stand for the identity. The table does not keep the matrices alive.
    """
    table = np.zeros((len(graphs), len(bases), 4), np.int64)
    for b, adj in enumerate(bases):
        if adj is None:
            continue
        side = adj.transposed if transposed else adj
        first = side.host_offsets[graphs]
        table[:, b, 0] = side.indptr.data_ptr() + graphs * (side.num_rows + 1) * 4
        table[:, b, 1] = side.neighbor.data_ptr() + first * 4
        table[:, b, 2] = side.weight.data_ptr() + first * side.weight.element_size()
        table[:, b, 3] = side.host_offsets[graphs + 1] - first
    return table


def apply_bases(bases: Bases, graph: Tensor, x: Tensor, chebyshev: bool) -> Tensor:
    """``[T_0 || T_1 || ...]`` of one state ``[N, C]`` at one step, ``[N, B * C]``; differentiable, on any device.

    Args:
        graph: ``[1]``, int64.
    """
    blocks: list[Tensor] = []
    for b, adj in enumerate(bases):
        source = blocks[-1] if chebyshev and b >= 2 else x
        block = source if adj is None else aggregate(adj, graph, source[None])[0]
        blocks.append(2 * block - blocks[-2] if chebyshev and b >= 2 else block)
    return torch.cat(blocks, dim=1)


def _pointer_code(typing_context, address):
    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


_pointer: Any = intrinsic(_pointer_code)


@numba.njit(nogil=True, cache=True)
def _matrix(entry, x):
    """Row starts, neighbors and weights from one entry of the table; weights are of the dtype of ``x``."""
    indptr = numba.carray(_pointer(entry[0]), (len(x) + 1,), np.int32)
    neighbor = numba.carray(_pointer(entry[1]), (entry[3],), np.int32)
    return indptr, neighbor, numba.carray(_pointer(entry[2]), (entry[3],), x.dtype)


@numba.njit(nogil=True, cache=True)
def _add(a, b, scale):
    """``a += scale * b``, row by row."""
    for i in range(len(a)):
        x, y = a[i], b[i]
        for c in range(len(x)):
            x[c] += scale * y[c]


@numba.njit(nogil=True, cache=True)
def gather_bases(table, chebyshev, x, out):
    """``out = [T_0 || T_1 || ...]``, ``[N, B * C]``, of ``x``, ``[N, C]``, at one step; ``table``: ``[B, 4]``."""
    N, C = x.shape
    two = x.dtype.type(2)
    for b in range(len(table)):
        block = out[:, b * C : (b + 1) * C]
        if table[b, 0] == 0:
            for i in range(N):
                block[i] = x[i]
            continue
        indptr, neighbor, weight = _matrix(table[b], x)
        if chebyshev and b >= 2:
            aggregate_rows(0, indptr, neighbor, weight, out[:, (b - 1) * C : b * C], 0, N, block)
            for i in range(N):
                new, old = block[i], out[i, (b - 2) * C : (b - 1) * C]
                for c in range(C):
                    new[c] = two * new[c] - old[c]
        else:
            aggregate_rows(0, indptr, neighbor, weight, x, 0, N, block)


@numba.njit(nogil=True, cache=True)
def scatter_bases(table, chebyshev, grad, out):
    """The gradient of ``gather_bases``: ``out``, ``[N, C]``, from ``grad``, ``[N, B * C]``, which is used up.

    ``table`` is that of the transposed matrices.
    """
    N, C = out.shape
    part = np.empty((min(_TILE, N), C), out.dtype)
    one, two = out.dtype.type(1), out.dtype.type(2)
    direct = len(table)
    if chebyshev:
        direct = min(direct, 2)
        for b in range(len(table) - 1, 1, -1):
            indptr, neighbor, weight = _matrix(table[b], out)
            block, before = grad[:, b * C : (b + 1) * C], grad[:, (b - 1) * C : b * C]
            for first in range(0, N, _TILE):
                last = min(first + _TILE, N)
                aggregate_rows(0, indptr, neighbor, weight, block, first, last, part)
                _add(before[first:last], part, two)
            _add(grad[:, (b - 2) * C : (b - 1) * C], block, -one)
    for b in range(direct):
        block = grad[:, b * C : (b + 1) * C]
        if table[b, 0] == 0:
            if b == 0:
                for i in range(N):
                    out[i] = block[i]
            else:
                _add(out, block, one)
            continue
        indptr, neighbor, weight = _matrix(table[b], out)
        if b == 0:
            aggregate_rows(0, indptr, neighbor, weight, block, 0, N, out)
            continue
        for first in range(0, N, _TILE):
            last = min(first + _TILE, N)
            aggregate_rows(0, indptr, neighbor, weight, block, first, last, part)
            _add(out[first:last], part, one)
