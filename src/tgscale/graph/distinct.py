"""Which rows are equal, and which nodes cannot differ in a recurrent state: found once, then computed once.

Two nodes have the same hidden state after a step if they had it before, have the same input rows at the step and gather
the same states with the same weights. So classes of nodes are refined step by step, as colours are in the test of
Weisfeiler and Leman. Nothing is approximate: numbers are compared bit by bit, and a hash only says where to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from tgscale.graph.adjacency import Adjacency
from tgscale.graph.hashing import mix_numba


@dataclass(frozen=True, eq=False)
class Lists:
    """Several lists of numbers, one behind the other: list ``i`` is ``item[start[i] : start[i + 1]]``.

    Attributes:
        start: ``[lists + 1]``, int64; item: int32.
    """

    start: np.ndarray
    item: np.ndarray

    @classmethod
    def inverse(cls, index: np.ndarray, count: int) -> Lists:
        """For each of ``count`` values, where it stands in ``index``, in ascending order."""
        start = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=count))])
        return cls(start, np.argsort(index, kind="stable").astype(np.int32))

    @property
    def num_bytes(self) -> int:
        """What the arrays take."""
        return self.start.nbytes + self.item.nbytes


@dataclass(frozen=True, eq=False)
class StateClasses:
    """The distinct states of a group's nodes, step after step: ``R`` rows in place of ``w * N``.

    Rows of a step are adjacent; those that gather something come first. States before the first step are zeros.

    Attributes:
        offsets: first row of each step, ``[w + 1]``, int64.
        active: how many rows of each step gather something, ``[w]``, int64; none of the first step.
        index: the row of every node at every step, ``[w, N]``, int32.
        inputs: the row of the inputs' table that each row takes, ``[R]``, int32.
        parent: the row of its nodes at the step before, ``[R]``, int32; -1 at the first step.
        entries: matrix ``b`` of row ``r`` gathers the rows of ``entries``' list ``r * B + b`` (of the step before).
        weight: of each of those entries, in the matrices' dtype.
        num_matrices: B, matrices that are not the identity.
    """

    offsets: np.ndarray
    active: np.ndarray
    index: np.ndarray
    inputs: np.ndarray
    parent: np.ndarray
    entries: Lists
    weight: np.ndarray
    num_matrices: int

    @property
    def num_rows(self) -> int:
        """Rows that are computed, one per class."""
        return len(self.parent)

    @cached_property
    def members(self) -> Lists:
        """The places of ``index``, flat, that each row stands for."""
        return Lists.inverse(self.index.ravel(), self.num_rows)

    @cached_property
    def num_inputs(self) -> int:
        """Rows of the inputs' table."""
        return int(self.inputs.max()) + 1

    @cached_property
    def children(self) -> Lists:
        """The rows that go on from each row, counted from the first of their step."""
        first = int(self.offsets[1])
        found = Lists.inverse(self.parent[first:], self.num_rows)
        step = np.repeat(np.arange(len(self.active)), np.diff(self.offsets))
        return Lists(found.start, (found.item + first - self.offsets[step[found.item + first]]).astype(np.int32))

    @cached_property
    def gathered_by(self) -> tuple[Lists, np.ndarray]:
        """``entries`` transposed: which lists hold each row, counted from the first of their step; and the weights."""
        lists = np.repeat(np.arange(self.num_rows * self.num_matrices), np.diff(self.entries.start))
        order = np.argsort(self.entries.item, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(self.entries.item, minlength=self.num_rows))])
        step = np.repeat(np.arange(len(self.active)), np.diff(self.offsets))
        rows = lists // max(self.num_matrices, 1)
        local = (lists - self.offsets[step[rows]] * self.num_matrices)[order].astype(np.int32)
        return Lists(start, local), self.weight[order]

    @property
    def num_bytes(self) -> int:
        """What the arrays take."""
        arrays = (self.index, self.inputs, self.parent, self.weight, self.gathered_by[1])
        lists = (self.entries, self.members, self.children, self.gathered_by[0])
        return sum(each.nbytes for each in arrays) + sum(each.num_bytes for each in lists)


def distinct_rows(columns: Sequence[np.ndarray]) -> np.ndarray:
    """A number for each row, the same for rows that are equal bit by bit, ``[M]``, int32, in order of appearance.

    Args:
        columns: tables that lie side by side, ``[M, any]`` each.
    """
    words = [np.ascontiguousarray(x).view(np.uint32) for x in columns]
    table = np.ascontiguousarray(np.concatenate(words, axis=1)) if len(words) > 1 else words[0]
    number, _ = _number_rows(table)
    return number


def compact(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``numbers`` with the gaps closed, in order of appearance; and where each stands first, flat, int64."""
    flat = numbers.ravel()
    new, first = _compact(flat, int(flat.max()) + 1 if len(flat) else 0)
    return new.reshape(numbers.shape), first


def state_classes(
    inputs: np.ndarray, matrices: Sequence[Adjacency], graphs: np.ndarray, most: int | None = None
) -> StateClasses | None:
    """Classes of nodes that cannot differ in state, refined over the steps of a group.

    Args:
        inputs: which row of a table of inputs each node has at each step, ``[w, N]``, int32.
        matrices: what else a state depends on: square, each gathering states of the step before.
        graphs: the graph that each step shows, ``[w]``, int64.
        most: give up where there are more rows than this.

    Returns:
        The classes; None where there are more than ``most`` rows.
    """
    w, N = inputs.shape
    most = w * N if most is None else most
    index, inputs_of, parent = np.empty((w, N), np.int32), [], []
    offsets, active = np.zeros(w + 1, np.int64), np.zeros(w, np.int64)
    starts, items, weights, entries_so_far = [np.zeros(1, np.int64)], [], [], 0
    dtype = matrices[0].weight.numpy().dtype if matrices else np.dtype(np.float32)
    before = np.zeros(N, np.int32)
    for t in range(w):
        gathered = _step_entries(matrices if t else [], int(graphs[t]), N, before, dtype)
        now, first, active[t] = _refine(before, inputs[t], *gathered)
        offsets[t + 1] = offsets[t] + len(first)
        if offsets[t + 1] > most:
            return None
        index[t] = now + np.int32(offsets[t])
        inputs_of.append(inputs[t][first])
        parent.append(index[t - 1][first] if t else np.full(len(first), -1, np.int32))
        if matrices:
            start, item, weight = _cut(gathered, first, len(matrices))
            starts.append(start[1:] + entries_so_far)
            entries_so_far += int(start[-1])
            items.append((item + offsets[t - 1]).astype(np.int32) if t else item)
            weights.append(weight)
        before = now
    rows, parents = (np.concatenate(x) if x else np.empty(0, np.int32) for x in (inputs_of, parent))
    entries = Lists(np.concatenate(starts), np.concatenate(items) if items else np.empty(0, np.int32))
    weight = np.concatenate(weights) if weights else np.empty(0, dtype)
    return StateClasses(offsets, active, index, rows, parents, entries, weight, len(matrices))


def _step_entries(
    matrices: Sequence[Adjacency], graph: int, num_nodes: int, before: np.ndarray, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """What all matrices gather at a step, node by node and matrix by matrix: starts ``[N * B + 1]``, classes, weights.

    Without matrices, no entries for one matrix.
    """
    B = max(len(matrices), 1)
    counts = np.zeros((num_nodes, B), np.int64)
    parts = []
    for b, adj in enumerate(matrices):
        offsets, indptr, neighbor, weight = adj.arrays
        parts.append((indptr[graph], neighbor[offsets[graph] :], weight[offsets[graph] :]))
        counts[:, b] = np.diff(indptr[graph])
    start = np.concatenate([[0], np.cumsum(counts.ravel())])
    item, weights = np.empty(start[-1], np.int32), np.empty(start[-1], dtype)
    for b, (indptr, neighbor, weight) in enumerate(parts):
        _interleave(start, b, B, indptr, neighbor, weight, before, item, weights)
    return start, item, weights, B


def _cut(
    gathered: tuple[np.ndarray, np.ndarray, np.ndarray, int], first: np.ndarray, matrices: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of some nodes alone."""
    start, item, weight, B = gathered
    if matrices != B or not len(item):
        return np.zeros(len(first) * matrices + 1, np.int64), item[:0], weight[:0]
    lists = (first[:, None] * B + np.arange(B)).ravel()
    counts = start[lists + 1] - start[lists]
    new = np.concatenate([[0], np.cumsum(counts)])
    places = np.arange(new[-1]) + np.repeat(start[lists] - new[:-1], counts)
    return new, item[places], weight[places]


@numba.njit(nogil=True, cache=True)
def _interleave(start, b, B, indptr, neighbor, weight, before, item, weights):
    for i in range(len(indptr) - 1):
        at = start[i * B + b]
        for e in range(indptr[i], indptr[i + 1]):
            item[at] = before[neighbor[e]]
            weights[at] = weight[e]
            at += 1


@numba.njit(nogil=True, cache=True)
def _table_size(rows):
    size = 16
    while size < 2 * rows:
        size *= 2
    return size


@numba.njit(nogil=True, cache=True)
def _number_rows(table):
    M, F = table.shape
    slots = np.full(_table_size(M), -1, np.int32)
    mask = np.uint64(len(slots) - 1)
    number, first = np.empty(M, np.int32), np.empty(M, np.int64)
    count = 0
    for i in range(M):
        key = np.uint64(F)
        for f in range(F):
            key = mix_numba(key ^ np.uint64(table[i, f]))
        slot = np.int64(key & mask)
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = count
                first[count] = i
                number[i] = count
                count += 1
                break
            j = first[found]
            same = True
            for f in range(F):
                if table[i, f] != table[j, f]:
                    same = False
                    break
            if same:
                number[i] = found
                break
            slot = (slot + 1) & np.int64(mask)
    return number, first[:count].copy()


@numba.njit(nogil=True, cache=True)
def _compact(numbers, most):
    known = np.full(most, -1, np.int32)
    new, first = np.empty(len(numbers), np.int32), np.empty(min(most, len(numbers)), np.int64)
    count = 0
    for i in range(len(numbers)):
        k = numbers[i]
        if known[k] < 0:
            known[k] = count
            first[count] = i
            count += 1
        new[i] = known[k]
    return new, first[:count].copy()


@numba.njit(nogil=True, cache=True)
def _same(i, j, before, inputs, start, item, weight, B):
    """Whether nodes ``i`` and ``j`` come from one class, have one input and gather the same."""
    if before[i] != before[j] or inputs[i] != inputs[j]:
        return False
    for b in range(B):
        if start[i * B + b + 1] - start[i * B + b] != start[j * B + b + 1] - start[j * B + b]:
            return False
    shift = start[j * B] - start[i * B]
    for e in range(start[i * B], start[(i + 1) * B]):
        if item[e] != item[e + shift] or weight[e] != weight[e + shift]:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _refine(before, inputs, start, item, weight, B):
    """The new class of each node; the first node of each class; how many classes gather something (they come first)."""
    N = len(before)
    slots = np.full(_table_size(N), -1, np.int32)
    mask = np.uint64(len(slots) - 1)
    number, first = np.empty(N, np.int32), np.empty(N, np.int64)
    count = 0
    active = 0
    for i in range(N):
        key = mix_numba(np.uint64(before[i])) ^ np.uint64(inputs[i])
        key = mix_numba(key ^ (np.uint64(start[(i + 1) * B] - start[i * B]) << np.uint64(32)))
        for e in range(start[i * B], start[(i + 1) * B]):
            key = mix_numba(key ^ np.uint64(item[e]))
        slot = np.int64(key & mask)
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = count
                first[count] = i
                number[i] = count
                count += 1
                if start[(i + 1) * B] > start[i * B]:
                    active += 1
                break
            if _same(i, first[found], before, inputs, start, item, weight, B):
                number[i] = found
                break
            slot = (slot + 1) & np.int64(mask)
    # Those that gather first, each kind in order of appearance.
    place, sorted_first = np.empty(count, np.int32), np.empty(count, np.int64)
    at, rest = 0, active
    for k in range(count):
        i = first[k]
        if start[(i + 1) * B] > start[i * B]:
            place[k] = at
            at += 1
        else:
            place[k] = rest
            rest += 1
        sorted_first[place[k]] = i
    for i in range(N):
        number[i] = place[number[i]]
    return number, sorted_first, active
