"""The passes over edges that build :mod:`tgscale.graph.adjacency`: one graph after the other, no temporary per edge."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def group(offsets, key, other, weight, num_rows):
    """CSR by ``key`` of each graph's edges; a stable counting sort."""
    G = len(offsets) - 1
    indptr = np.zeros((G, num_rows + 1), np.int32)
    neighbor, out = np.empty(len(other), np.int32), np.empty_like(weight)
    cursor = np.empty(num_rows, np.int64)
    for g in range(G):
        first, end, ptr = offsets[g], offsets[g + 1], indptr[g]
        for e in range(first, end):
            ptr[key[e] + 1] += 1
        for r in range(num_rows):
            ptr[r + 1] += ptr[r]
            cursor[r] = first + ptr[r]
        for e in range(first, end):
            at = cursor[key[e]]
            neighbor[at], out[at] = other[e], weight[e]
            cursor[key[e]] = at + 1
    return indptr, neighbor, out


@numba.njit(nogil=True, cache=True)
def transpose(offsets, indptr, neighbor, weight, num_cols):
    """CSR of the transposes; rows come out sorted because the scan goes by ascending row."""
    G, R = indptr.shape[0], indptr.shape[1] - 1
    t_indptr = np.zeros((G, num_cols + 1), np.int32)
    t_neighbor, t_weight = np.empty_like(neighbor), np.empty_like(weight)
    cursor = np.empty(num_cols, np.int64)
    for g in range(G):
        first, ptr = offsets[g], t_indptr[g]
        for e in range(first, offsets[g + 1]):
            ptr[neighbor[e] + 1] += 1
        for c in range(num_cols):
            ptr[c + 1] += ptr[c]
            cursor[c] = first + ptr[c]
        for r in range(R):
            for e in range(first + indptr[g, r], first + indptr[g, r + 1]):
                at = cursor[neighbor[e]]
                t_neighbor[at], t_weight[at] = r, weight[e]
                cursor[neighbor[e]] = at + 1
    return t_indptr, t_neighbor, t_weight


@numba.njit(nogil=True, cache=True)
def self_loops(offsets, indptr, neighbor):
    """Of each graph: how many nodes have a self loop, and how many self loops there are (parallel edges)."""
    G, N = indptr.shape[0], indptr.shape[1] - 1
    nodes, loops = np.zeros(G, np.int64), np.zeros(G, np.int64)
    for g in range(G):
        for r in range(N):
            here = 0
            for e in range(offsets[g] + indptr[g, r], offsets[g] + indptr[g, r + 1]):
                here += neighbor[e] == r
            loops[g] += here
            nodes[g] += here > 0
    return nodes, loops


@numba.njit(nogil=True, cache=True)
def gcn(offsets, indptr, neighbor, weight, new_offsets, new_indptr, new_neighbor, new_weight):
    """Adds self loops in their place and scales; returns the first (graph, node, degree) of degree < 0, or -1s."""
    G, N = indptr.shape[0], indptr.shape[1] - 1
    scale = np.empty(N)
    for g in range(G):
        base = at = new_offsets[g]
        for r in range(N):
            new_indptr[g, r] = at - base
            degree, placed = 0.0, False
            end = offsets[g] + indptr[g, r + 1]
            for e in range(offsets[g] + indptr[g, r], end + 1):
                if not placed and (e == end or neighbor[e] >= r):
                    placed = True
                    if e == end or neighbor[e] > r:
                        new_neighbor[at], new_weight[at] = r, 1
                        degree += 1
                        at += 1
                if e < end:
                    new_neighbor[at], new_weight[at] = neighbor[e], weight[e]
                    degree += weight[e]
                    at += 1
            if degree < 0:
                return g, r, degree
            scale[r] = 1 / np.sqrt(degree) if degree > 0 else 0
        new_indptr[g, N] = at - base
        for r in range(N):
            for e in range(base + new_indptr[g, r], base + new_indptr[g, r + 1]):
                new_weight[e] = scale[r] * new_weight[e] * scale[new_neighbor[e]]
    return -1, -1, 0.0


@numba.njit(nogil=True, cache=True)
def laplacian_scale(offsets, indptr, neighbor, weight, scale, top):
    """``D^-1/2`` by outgoing weights and the largest entry of ``L``; returns as ``gcn``."""
    G, N = scale.shape
    for g in range(G):
        degree = np.zeros(N)
        for r in range(N):
            for e in range(offsets[g] + indptr[g, r], offsets[g] + indptr[g, r + 1]):
                if neighbor[e] != r:
                    degree[neighbor[e]] += weight[e]
        for r in range(N):
            if degree[r] < 0:
                return g, r, degree[r]
            scale[g, r] = 1 / np.sqrt(degree[r]) if degree[r] > 0 else 0
        top[g] = 1
        for r in range(N):
            for e in range(offsets[g] + indptr[g, r], offsets[g] + indptr[g, r + 1]):
                if neighbor[e] != r:
                    top[g] = max(top[g], -(scale[g, r] * weight[e] * scale[g, neighbor[e]]))
    return -1, -1, 0.0


@numba.njit(nogil=True, cache=True)
def chebyshev_sizes(offsets, indptr, neighbor, top):
    """Entries of each graph: its edges without self loops, and a diagonal unless that is zero."""
    _, loops = self_loops(offsets, indptr, neighbor)
    N = indptr.shape[1] - 1
    sizes = np.empty(len(top), np.int64)
    for g in range(len(top)):
        sizes[g] = offsets[g + 1] - offsets[g] - loops[g] + (N if top[g] != 1 else 0)
    return sizes


@numba.njit(nogil=True, cache=True)
def chebyshev(offsets, indptr, neighbor, weight, scale, top, new_offsets, new_indptr, new_neighbor, new_weight):
    G, N = scale.shape
    for g in range(G):
        at = new_offsets[g]
        for r in range(N):
            new_indptr[g, r] = at - new_offsets[g]
            placed = top[g] == 1
            end = offsets[g] + indptr[g, r + 1]
            for e in range(offsets[g] + indptr[g, r], end + 1):
                if not placed and (e == end or neighbor[e] > r):
                    new_neighbor[at], new_weight[at] = r, 1 / top[g] - 1
                    placed = True
                    at += 1
                if e < end and neighbor[e] != r:
                    new_neighbor[at] = neighbor[e]
                    new_weight[at] = -(scale[g, r] * weight[e] * scale[g, neighbor[e]]) / top[g]
                    at += 1
        new_indptr[g, N] = at - new_offsets[g]


@numba.njit(nogil=True, cache=True)
def relation_sizes(offsets, types, relation):
    """How many edges of each graph are of the type (all when ``types`` is empty)."""
    sizes = np.diff(offsets)
    for g in range(len(sizes) if len(types) else 0):
        sizes[g] = 0
        for e in range(offsets[g], offsets[g + 1]):
            sizes[g] += types[e] == relation
    return sizes


@numba.njit(nogil=True, cache=True)
def relation_mean(offsets, indptr, neighbor, types, relation, new_offsets, new_indptr, new_neighbor, new_weight):
    """Keeps the edges of one type (all when ``types`` is empty), each by one over its row's count."""
    G, N = indptr.shape[0], indptr.shape[1] - 1
    for g in range(G):
        at = new_offsets[g]
        for r in range(N):
            first = at
            new_indptr[g, r] = at - new_offsets[g]
            for e in range(offsets[g] + indptr[g, r], offsets[g] + indptr[g, r + 1]):
                if len(types) == 0 or types[e] == relation:
                    new_neighbor[at] = neighbor[e]
                    at += 1
            for e in range(first, at):
                new_weight[e] = 1 / (at - first)
        new_indptr[g, N] = at - new_offsets[g]
