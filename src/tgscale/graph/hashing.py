"""A counter-based random number: SplitMix64 of what identifies a draw, three times with bit-identical answers.

A draw depends on (seed, node, time, slot) alone, never on the batch, the order, the thread or the device.

    key     = mix(mix(mix(seed) ^ node) ^ time)
    draw(i) = mix(key + i * GOLDEN) >> 32       32 bits
    below(i, n) = draw(i) * n >> 32             a number in [0, n), n < 2^31; a product is faster than a remainder

Each function stands here for Python integers, for Numba and for tensors (int64 that wraps around).
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
_C1 = 0xBF58476D1CE4E5B9
_C2 = 0x94D049BB133111EB
_MASK = 2**64 - 1

_GOLDEN_U, _C1_U, _C2_U = np.uint64(GOLDEN), np.uint64(_C1), np.uint64(_C2)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


def mix(x: int) -> int:
    """One SplitMix64 step of an integer, modulo 2^64."""
    x = (x + GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _C1) & _MASK
    x = ((x ^ (x >> 27)) * _C2) & _MASK
    return x ^ (x >> 31)


def draw_below(n: int, seed: int, node: int, time: int, slot: int) -> int:
    """The draw of one slot, in ``[0, n)``. This is the definition."""
    key = mix(mix(mix(seed & _MASK) ^ (node & _MASK)) ^ (time & _MASK))
    return (mix((key + slot * GOLDEN) & _MASK) >> 32) * n >> 32


@numba.njit(nogil=True, cache=True)
def mix_numba(x):
    x += _GOLDEN_U
    x = (x ^ (x >> _S30)) * _C1_U
    x = (x ^ (x >> _S27)) * _C2_U
    return x ^ (x >> _S31)


@numba.njit(nogil=True, cache=True)
def key_numba(seed_key, node, time):
    """Key of a root; ``seed_key`` is ``mix(seed)`` as uint64."""
    return mix_numba(mix_numba(seed_key ^ np.uint64(node)) ^ np.uint64(time))


@numba.njit(nogil=True, cache=True)
def draw_below_numba(n, key, slot):
    return np.int64((mix_numba(key + np.uint64(slot) * _GOLDEN_U) >> _S32) * np.uint64(n) >> _S32)


def signed(x: int) -> int:
    """The int64 with the same 64 bits."""
    return x - 2**64 if x >= 2**63 else x


def _shift(x: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign in; a logical shift clears it.
    return (x >> bits) & (2 ** (64 - bits) - 1)


def mix_tensor(x: Tensor) -> Tensor:
    x = x + signed(GOLDEN)
    x = (x ^ _shift(x, 30)) * signed(_C1)
    x = (x ^ _shift(x, 27)) * signed(_C2)
    return x ^ _shift(x, 31)


def key_tensor(seed_key: Tensor, node: Tensor, time: Tensor) -> Tensor:
    """Keys of roots ``[R]``; ``seed_key`` is ``signed(mix(seed))`` as a 0-d int64 tensor on their device."""
    return mix_tensor(mix_tensor(seed_key ^ node) ^ time)


def draw_below_tensor(n: Tensor, key: Tensor, slot: int) -> Tensor:
    # 32 bits times less than 2^31 stays below 2^63.
    return _shift(mix_tensor(key + signed((slot * GOLDEN) & _MASK)), 32) * n >> 32


def seed_key_tensor(seed: int, device: torch.device) -> Tensor:
    return torch.tensor(signed(mix(seed & _MASK)), dtype=torch.int64, device=device)
