"""Exponential, sigmoid and hyperbolic tangent that the compiler can vectorise inside Numba kernels.

``math.exp`` and ``math.tanh`` are library calls, one number at a time. Here ``exp(x) - 1`` is a polynomial after the
usual reduction ``x = n ln 2 + r``; ``sigmoid`` and ``tanh`` follow from it. ``tanh`` keeps its relative precision near
0, NaN stays NaN. Errors are a few units in the last place (tests/nn/test_fast_math.py).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, overload

# Multiply-add may fuse; nothing else: the reduction relies on the order of its operations.
_FAST = {"contract"}


def _power_of_two_code(typing_context, shifted):
    """``2^n`` of ``shifted = n + 1.5 * 2^mantissa_bits``: the sum has ``n`` in its low bits; moved to the exponent."""

    def generate(context, builder, signature, args):
        bits, mantissa, bias = (32, 23, 127) if signature.args[0] == types.float32 else (64, 52, 1023)
        integer = ir.IntType(bits)
        low = builder.shl(builder.bitcast(args[0], integer), ir.Constant(integer, mantissa))
        return builder.bitcast(builder.add(low, ir.Constant(integer, bias << mantissa)), args[0].type)

    return shifted(shifted), generate


_power_of_two: Any = intrinsic(_power_of_two_code)


def _make_expm1(dtype: type[np.floating], top: float) -> Any:
    """``exp(x) - 1`` in one dtype, its argument limited to ``[-top, top]``."""
    magic = dtype(1.5 * 2.0 ** np.finfo(dtype).nmant)
    log2e, one, highest, lowest = dtype(1 / math.log(2)), dtype(1), dtype(top), dtype(-top)
    # ln 2 in two parts: n times the first is exact, because the first ends in zeros.
    step = 2.0 ** (12 - np.finfo(dtype).nmant)
    high = math.floor(math.log(2) / step) * step
    ln2_high, ln2_low = dtype(high), dtype(math.log(2) - high + 2.3190468138462996e-17)
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = (dtype(1 / math.factorial(k)) for k in range(2, 14))
    long = dtype is np.float64

    def expm1(x):
        x = highest if x > highest else x
        x = lowest if x < lowest else x
        shifted = x * log2e + magic
        n = shifted - magic
        r = (x - n * ln2_high) - n * ln2_low
        p = c7
        if long:
            p = (((((c13 * r + c12) * r + c11) * r + c10) * r + c9) * r + c8) * r + c7
        p = ((((p * r + c6) * r + c5) * r + c4) * r + c3) * r + c2
        scale = _power_of_two(shifted)
        return scale * (p * r * r + r) + (scale - one)

    return expm1


_EXPM1 = {types.float32: _make_expm1(np.float32, 87.0), types.float64: _make_expm1(np.float64, 708.0)}


def expm1(x):
    """``exp(x) - 1``; inside a kernel limited to arguments within +-87 (float32) or +-708 (float64)."""
    return np.expm1(x)


@overload(expm1, jit_options={"fastmath": _FAST, "forceinline": True})
def _expm1_of(x):
    return _EXPM1.get(x)


@numba.njit(fastmath=_FAST, forceinline=True, error_model="numpy")
def sigmoid(x):
    """``1 / (1 + exp(-x))`` of a float32 or float64, in its dtype."""
    one = type(x)(1)
    return one / ((expm1(-x) + one) + one)


@numba.njit(fastmath=_FAST, forceinline=True, error_model="numpy")
def tanh(x):
    """Hyperbolic tangent of a float32 or float64, in its dtype."""
    two, limit = type(x)(2), type(x)(20)  # tanh(20) rounds to 1
    x = limit if x > limit else x
    x = -limit if x < -limit else x
    e = expm1(x + x)
    return e / (e + two)
