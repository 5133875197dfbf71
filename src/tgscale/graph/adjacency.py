"""Weighted adjacencies of all graphs of a snapshot sequence, normalised once and kept with their transpose.

Row ``r`` of graph ``g`` holds what node ``r`` gathers: entries ``offsets[g] + indptr[g, r]`` to
``offsets[g] + indptr[g, r + 1]`` of ``neighbor`` and ``weight``, by ascending neighbor. The transpose is stored too, so
that a gradient is gathered as well and neither direction needs atomic additions: sums have one order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError
from tgscale.graph import adjacency_numba as kernels

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True, eq=False)
class Adjacency:
    """One sparse matrix ``[num_rows, num_cols]`` per graph. Made by ``from_edges`` or the functions below.

    Attributes:
        offsets: first entry of each graph, ``[G + 1]``, int64.
        indptr: first entry of each row within its graph, ``[G, num_rows + 1]``, int32.
        neighbor: column of each entry, ``[E]``, int32.
        weight: its value, ``[E]``, float32 or float64.
        transpose_indptr, transpose_neighbor, transpose_weight: the same of the transposed matrices (the offsets are
            equal); the same tensors where every matrix is symmetric.
    """

    offsets: Tensor
    indptr: Tensor
    neighbor: Tensor
    weight: Tensor
    transpose_indptr: Tensor
    transpose_neighbor: Tensor
    transpose_weight: Tensor
    num_rows: int
    num_cols: int

    @classmethod
    def from_edges(
        cls,
        offsets: np.ndarray,
        src: np.ndarray,
        dst: np.ndarray,
        weight: np.ndarray,
        num_rows: int,
        num_cols: int,
    ) -> Adjacency:
        """Entry ``(dst, src)`` of graph ``g`` is ``weight``, for the edges ``offsets[g]`` to ``offsets[g + 1]``.

        Args:
            offsets: ``[G + 1]``, int64.
            src, dst: columns and rows, ``[E]``, any integers; in any order within a graph. Repeated edges add up.
            weight: ``[E]``, float32 or float64.

        Raises:
            ConfigError: a graph of 2^31 entries or more.
            DataError: an endpoint out of range.
        """
        for name, ids, bound in (("src", src, num_cols), ("dst", dst, num_rows)):
            wrong = np.flatnonzero((ids < 0) | (ids >= bound))
            if len(wrong):
                raise DataError(f"edge {wrong[0]}: {name} is {ids[wrong[0]]}, expected 0 to {bound - 1}.")
        offsets = np.asarray(offsets, np.int64)
        _check_size(offsets)
        columns = np.asarray(src), np.asarray(dst).astype(np.int32), weight
        indptr, rows, values = kernels.group(offsets, *columns, num_cols)
        indptr, neighbor, values = kernels.transpose(offsets, indptr, rows, values, num_rows)
        return cls._from_csr(offsets, indptr, neighbor, values, num_rows, num_cols)

    @classmethod
    def _from_csr(cls, offsets, indptr, neighbor, weight, num_rows: int, num_cols: int) -> Adjacency:
        arrays = kernels.transpose(offsets, indptr, neighbor, weight, num_cols)
        csr = (torch.from_numpy(indptr), torch.from_numpy(neighbor), torch.from_numpy(weight))
        transposed = (torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1]), torch.from_numpy(arrays[2]))
        if all(torch.equal(a, b) for a, b in zip(csr, transposed, strict=True)):
            transposed = csr
        return cls(torch.from_numpy(offsets), *csr, *transposed, num_rows, num_cols)

    @property
    def num_graphs(self) -> int:
        """Number of graphs, G."""
        return len(self.indptr)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.weight.device

    @property
    def num_bytes(self) -> int:
        """What the tensors take; shared ones count once."""
        return sum(x.nbytes for x in {id(x): x for x in self._tensors().values()}.values())

    @cached_property
    def host_offsets(self) -> np.ndarray:
        """``offsets`` on the CPU, ``[G + 1]``, int64: sizes are then known without waiting for a device."""
        return self.offsets.cpu().numpy()

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``(offsets, indptr, neighbor, weight)`` as NumPy views, for kernels on the CPU."""
        return self.offsets.numpy(), self.indptr.numpy(), self.neighbor.numpy(), self.weight.numpy()

    @cached_property
    def transposed(self) -> Adjacency:
        """Every matrix transposed; the same tensors."""
        csr = (self.indptr, self.neighbor, self.weight)
        transpose = (self.transpose_indptr, self.transpose_neighbor, self.transpose_weight)
        return Adjacency(self.offsets, *transpose, *csr, self.num_cols, self.num_rows)

    def to(self, device: torch.device | str) -> Adjacency:
        """The same matrices on a device."""
        return self._map(lambda x: x.to(device))

    def double(self) -> Adjacency:
        """The same matrices in float64 (the values keep the rounding that they have)."""
        return self._map(lambda x: x.double() if x.is_floating_point() else x)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def _map(self, change) -> Adjacency:
        changed = {id(x): change(x) for x in self._tensors().values()}  # what was shared stays shared
        return replace(self, **{name: changed[id(x)] for name, x in self._tensors().items()})


def gcn_adjacency(seq: SnapshotSequence, dtype: torch.dtype = torch.float32) -> Adjacency:
    """``D^-1/2 (A + I) D^-1/2`` of every graph (Kipf and Welling, ICLR 2017, equation 2).

    As ``gcn_norm`` of PyTorch Geometric: a self loop that is there keeps its weight, others get weight 1; ``D`` sums
    the weights of a node's incoming edges; a degree of 0 gives zeros. Parallel edges add up, self loops too.

    Args:
        seq: edges and, where it has them, their weights.
        dtype: float32 or float64; norms are computed in float64 and rounded once.

    Raises:
        ConfigError: another dtype, or a graph of 2^31 entries or more.
        DataError: a node whose incoming weights sum to less than 0.
    """
    offsets, indptr, neighbor, weight = _columns(seq, dtype)
    missing = seq.num_nodes - kernels.self_loops(offsets, indptr, neighbor)[0]
    new_offsets = offsets + np.concatenate([[0], np.cumsum(missing)])
    _check_size(new_offsets)
    new_indptr = np.empty_like(indptr)
    new_neighbor = np.empty(new_offsets[-1], np.int32)
    new_weight = np.empty(new_offsets[-1], _NUMPY[dtype])
    _refuse(
        kernels.gcn(offsets, indptr, neighbor, weight, new_offsets, new_indptr, new_neighbor, new_weight), "incoming"
    )
    return Adjacency._from_csr(new_offsets, new_indptr, new_neighbor, new_weight, seq.num_nodes, seq.num_nodes)


def chebyshev_adjacency(seq: SnapshotSequence, dtype: torch.dtype = torch.float32) -> Adjacency:
    """``2 L / lambda_max - I`` with ``L = I - D^-1/2 A D^-1/2``: the argument of Chebyshev polynomials.

    (Defferrard et al., NeurIPS 2016, section 2.1.) As ``ChebConv`` of PyTorch Geometric without a given
    ``lambda_max``: self loops are left out of ``A``, ``D`` sums the weights of a node's **outgoing** edges, and
    ``lambda_max`` is twice the largest entry of ``L``, graph by graph. That entry is 1 unless weights are negative;
    the diagonal is then zero and is not stored.

    Args and raises as ``gcn_adjacency``, the degree being the outgoing one.
    """
    offsets, indptr, neighbor, weight = _columns(seq, dtype)
    scale = np.empty((seq.num_graphs, seq.num_nodes))
    top = np.empty(seq.num_graphs)
    _refuse(kernels.laplacian_scale(offsets, indptr, neighbor, weight, scale, top), "outgoing")
    new_offsets = np.concatenate([[0], np.cumsum(kernels.chebyshev_sizes(offsets, indptr, neighbor, top))])
    _check_size(new_offsets)
    new_indptr = np.empty_like(indptr)
    new_neighbor = np.empty(new_offsets[-1], np.int32)
    new_weight = np.empty(new_offsets[-1], _NUMPY[dtype])
    kernels.chebyshev(offsets, indptr, neighbor, weight, scale, top, new_offsets, new_indptr, new_neighbor, new_weight)
    return Adjacency._from_csr(new_offsets, new_indptr, new_neighbor, new_weight, seq.num_nodes, seq.num_nodes)


def relation_adjacency(seq: SnapshotSequence, relation: int, dtype: torch.dtype = torch.float32) -> Adjacency:
    """The mean over a node's incoming edges of one type (Schlichtkrull et al., ESWC 2018, equation 2, c = in-degree).

    As ``RGCNConv(aggr="mean")`` of PyTorch Geometric: edge weights play no part; a node without such an edge gets
    zeros.

    Args:
        seq: edges; without types they all are of type 0.
        relation: the type, below ``seq.num_relations``.
        dtype: float32 or float64.

    Raises:
        ConfigError: another dtype, or a relation that the sequence does not have.
    """
    if not 0 <= relation < seq.num_relations:
        raise ConfigError(f"relation is {relation}, expected 0 to {seq.num_relations - 1}: {seq.name} has no other.")
    offsets, indptr, neighbor, _ = _columns(seq, dtype)
    types = np.zeros(0, np.int16) if seq.edge_type is None else np.asarray(seq.edge_type)
    new_offsets = np.concatenate([[0], np.cumsum(kernels.relation_sizes(offsets, types, relation))])
    new_indptr = np.empty_like(indptr)
    new_neighbor = np.empty(new_offsets[-1], np.int32)
    new_weight = np.empty(new_offsets[-1], _NUMPY[dtype])
    kernels.relation_mean(offsets, indptr, neighbor, types, relation, new_offsets, new_indptr, new_neighbor, new_weight)
    return Adjacency._from_csr(new_offsets, new_indptr, new_neighbor, new_weight, seq.num_nodes, seq.num_nodes)


def _columns(seq: SnapshotSequence, dtype: torch.dtype):
    """``offsets, indptr, neighbor`` and weights (ones when it has none) as plain arrays; refuses other dtypes."""
    if dtype not in _NUMPY:
        raise ConfigError(f"an adjacency of {dtype} is not supported: choose torch.float32 or torch.float64.")
    neighbor = np.asarray(seq.neighbor)
    # One 1 seen E times: a view of no size.
    weight = np.broadcast_to(np.float32(1), len(neighbor)) if seq.edge_weight is None else np.asarray(seq.edge_weight)
    return np.asarray(seq.offsets), np.asarray(seq.indptr), neighbor, weight


def _check_size(offsets: np.ndarray) -> None:
    sizes = np.diff(offsets)
    if len(sizes) and sizes.max() >= 2**31:
        raise ConfigError(f"graph {sizes.argmax()} has {sizes.max()} entries: positions in a graph are 32-bit.")


def _refuse(bad: tuple[int, int, float], which: str) -> None:
    graph, node, degree = bad
    if graph >= 0:
        raise DataError(
            f"graph {graph}: the {which} edge weights of node {node} sum to {degree:g}, which has no square root. "
            "Expected a sum of at least 0: use weights that are not negative."
        )
