"""Ask the processor for a row of a table before it is needed, from within a Numba kernel.

Rows that are picked by index come from main memory one after another, each after a wait that the processor's own
prefetcher cannot hide, because it sees no pattern. A kernel knows the rows of its next item already.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

_LINE = 64


def _prefetch_line_code(typing_context, array, row, byte):
    """Fetch the cache line ``byte`` bytes behind the start of ``array[row]``; reads and alters nothing."""

    def generate(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        stride = cgutils.unpack_tuple(builder, view.strides, 2)[0]
        char = ir.IntType(8).as_pointer()
        offset = builder.add(builder.mul(builder.sext(args[1], ir.IntType(64)), stride), args[2])
        address = builder.gep(builder.bitcast(view.data, char), [offset])
        kind = ir.FunctionType(ir.VoidType(), [char, *[ir.IntType(32)] * 3])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, *(ir.Constant(ir.IntType(32), value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


_prefetch_line: Any = intrinsic(_prefetch_line_code)


@numba.njit(cache=True, inline="always")
def prefetch_row(table, row):
    """Start to load ``table[row]``, a row of a 2-D array, into the cache."""
    for byte in range(0, table.shape[1] * table.itemsize, _LINE):
        _prefetch_line(table, row, byte)
