"""Draws without replacement by a counter: the first numbers of a keyed permutation; lists without some places.

A permutation of ``range(n)`` is a Feistel network over the least square power of two that holds ``n``, walked on from
each number that falls outside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Nothing of size ``n``
is made, so ten of a hundred million cost ten. The same key gives the same draws on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tgscale.graph.hashing import GOLDEN, mix_tensor, signed

_ROUNDS = 6


def permuted(key: Tensor, size: Tensor, count: int) -> Tensor:
    """The first ``count`` numbers of a random order of ``range(size)``, one order per row.

    Args:
        key: names the order, ``[R]``, int64.
        size: of each row, ``[R]``, int64, at least 0 and below 2^60.
        count: how many.

    Returns:
        ``[R, count]``, int64, distinct within a row; -1 beyond a row's size.
    """
    place = torch.arange(count, device=key.device).expand(len(key), count)
    there = place < size[:, None]
    row, value = there.nonzero()[:, 0], place[there]
    if not len(value):
        return torch.full_like(place, -1)
    half = _half_bits(size)[row]
    walking, current = torch.arange(len(value), device=key.device), value
    result = torch.empty_like(value)
    while len(walking):  # each step ends with a chance of at least 1/4
        current = _feistel(current, key[row[walking]], half[walking])
        inside = current < size[row[walking]]
        result[walking[inside]] = current[inside]
        walking, current = walking[~inside], current[~inside]
    drawn = torch.full_like(place, -1, memory_format=torch.contiguous_format)
    drawn[there] = result
    return drawn


def _half_bits(size: Tensor) -> Tensor:
    """Least ``h >= 1`` with ``size <= 4^h``."""
    powers = 4 ** torch.arange(1, 31, device=size.device)
    return torch.searchsorted(powers, size) + 1


def _feistel(value: Tensor, key: Tensor, half: Tensor) -> Tensor:
    mask = (torch.ones_like(half) << half) - 1
    left, right = value >> half, value & mask
    for number in range(_ROUNDS):
        turn = signed((number + 1) * GOLDEN & (2**64 - 1))
        left, right = right, left ^ (mix_tensor((key + turn) ^ right) & mask)
    return (left << half) | right


class LeftOut:
    """Rows of lists ``0 .. size-1`` from which some places are left out.

    Args:
        row, place: what is left out, pairs in any order and any number of times, ``[X]`` each, int64.
        rows: how many rows there are.
        width: all places are below this; ``rows * width`` must fit 62 bits.

    Attributes:
        count: distinct places that are left out in each row, ``[rows]``.
    """

    def __init__(self, row: Tensor, place: Tensor, rows: int, width: int) -> None:
        self._width = width
        distinct = torch.unique(row * width + place)
        row, place = distinct // width, distinct % width
        self.count = torch.bincount(row, minlength=rows)
        self._first = torch.cumsum(self.count, 0) - self.count
        # How many kept places come before each that is left out: ascending within a row.
        number = torch.arange(len(row), device=row.device) - self._first[row]
        self._kept_before = row * width + (place - number)

    def step_over(self, kept: Tensor) -> Tensor:
        """Places of the ``kept``-th kept elements, ``[rows, c]`` of numbers from 0; negative ones stay as they are."""
        row = torch.arange(len(kept), device=kept.device)[:, None]
        query = row * self._width + kept.clamp(min=0)
        passed = torch.searchsorted(self._kept_before, query.contiguous(), right=True) - self._first[:, None]
        return torch.where(kept < 0, kept, kept + passed)


def ragged(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Row and index of every element of the ranges ``[start, stop)``, one range per row; both 1-D, in order."""
    length = (stop - start).clamp(min=0)
    row = torch.repeat_interleave(torch.arange(len(start), device=start.device), length)
    first = torch.cumsum(length, 0) - length
    return row, torch.arange(len(row), device=start.device) - first[row] + start[row]
