"""A snapshot sequence on a device: features and adjacencies once, and groups as ranges of steps into them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.graph.adjacency import Adjacency, chebyshev_adjacency, gcn_adjacency, relation_adjacency
from tgscale.graph.aggregate import aggregate
from tgscale.snapshot.operators import pick_top

FEATURES = ("auto", "given", "degree", "both")


class SnapshotData:
    """Features and adjacencies of all steps on one device. Nothing is copied for a group.

    Args:
        sequence: the snapshots.
        device: where they go.
        dtype: float32 or float64.
        features: ``given``: those of the sequence; ``degree``: ``log(1 + degree)`` in and out; ``both``; ``auto``:
            given, or degree where there are none.

    Attributes:
        x: node features, ``[T, N, F]``.
        graph_of: which graph each step shows, int64 ``[T]``.

    Raises:
        ConfigError: features asked for that the sequence does not have.
    """

    def __init__(
        self,
        sequence: SnapshotSequence,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        features: str = "auto",
    ) -> None:
        self.sequence, self.device, self.dtype = sequence, torch.device(device), dtype
        self.graph_of = torch.from_numpy(sequence.graph_of.astype(np.int64)).to(device)
        self.x = _features(sequence, features).to(device, dtype)
        self._adjacencies: dict[str, Adjacency] = {}

    @property
    def num_nodes(self) -> int:
        return self.sequence.num_nodes

    def adjacency(self, operator: str) -> Adjacency:
        """The adjacency ``"gcn"``, ``"chebyshev"`` or ``"mean:R"`` of all graphs; made when first asked for."""
        if operator not in self._adjacencies:
            self._adjacencies[operator] = make_adjacency(self.sequence, operator, self.dtype).to(self.device)
        return self._adjacencies[operator]

    def group(self, first: int, window: int) -> LocalGroup:
        """The group of ``window`` steps from ``first`` on."""
        return LocalGroup(self, first, window)

    def whole(self) -> LocalGroup:
        """All steps as one group."""
        return LocalGroup(self, 0, len(self.x))


@dataclass(frozen=True)
class LocalGroup:
    """A group that lies on this device as a whole; a :class:`~tgscale.snapshot.operators.GroupView`."""

    data: SnapshotData
    first: int
    window: int

    @property
    def x(self) -> Tensor:
        return self.data.x[self.first : self.first + self.window]

    def graphs(self) -> Tensor:
        return self.data.graph_of[self.first : self.first + self.window]

    def adjacency(self, operator: str) -> Adjacency:
        return self.data.adjacency(operator)

    def aggregate(self, operator: str, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        if edge_weight is not None:
            return _learned(self.adjacency(operator), self.graphs(), x, edge_weight)
        return aggregate(self.adjacency(operator), self.graphs(), x)

    def aggregate_at(self, operator: str, step: int, x: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        graph = self.graphs()[step : step + 1]
        if edge_weight is not None:
            return _learned(self.adjacency(operator), graph, x[None], edge_weight)[0]
        return aggregate(self.adjacency(operator), graph, x[None])[0]

    def at(self, step: int) -> Callable[[str, Tensor], Tensor]:
        """The adjacencies of a step, as the models' reference forward wants them."""
        return lambda operator, x: self.aggregate_at(operator, step, x)

    def batch_norm(self, module: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return module(x.flatten(0, 1)).view_as(x)

    def top_rows(self, x: Tensor, score: Tensor, count: int) -> Tensor:
        return pick_top(x, score, count)


def make_adjacency(sequence: SnapshotSequence, operator: str, dtype: torch.dtype) -> Adjacency:
    """The adjacency ``"gcn"``, ``"chebyshev"`` or ``"mean:R"`` of all graphs of a sequence, on the CPU."""
    name, _, number = operator.partition(":")
    if name == "mean":
        return relation_adjacency(sequence, int(number), dtype)
    return {"gcn": gcn_adjacency, "chebyshev": chebyshev_adjacency}[name](sequence, dtype)


def _learned(adjacency: Adjacency, graphs: Tensor, x: Tensor, edge_weight: Tensor) -> Tensor:
    """``sum_e w_e a_e x_src`` with a learned factor per entry; its gradient reaches the factors."""
    outs = []
    for s, g in enumerate(graphs.tolist()):
        start, stop = int(adjacency.host_offsets[g]), int(adjacency.host_offsets[g + 1])
        counts = adjacency.indptr[g].diff().long()
        row = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts)
        factor = (adjacency.weight[start:stop] * edge_weight[start:stop])[:, None]
        outs.append(torch.zeros_like(x[s]).index_add(0, row, factor * x[s][adjacency.neighbor[start:stop].long()]))
    return torch.stack(outs)


def width_of_features(sequence: SnapshotSequence, wanted: str) -> int:
    """Columns of :attr:`SnapshotData.x`, without making it."""
    given = 0 if sequence.node_features is None else sequence.node_features.shape[-1]
    return {"degree": 2, "both": given + 2}.get(wanted, given or 2)


def _features(sequence: SnapshotSequence, wanted: str) -> Tensor:
    given = sequence.node_features
    if wanted not in FEATURES:
        raise ConfigError(f"features {wanted!r} are unknown: choose one of {', '.join(FEATURES)}.")
    if given is None and wanted in ("given", "both"):
        raise ConfigError(f"{sequence.name} has no node features: choose features degree, or import it with some.")
    if wanted == "auto":
        wanted = "given" if given is not None else "degree"
    parts = [] if wanted == "degree" else [_over_steps(_tensor(given), sequence.num_steps)]
    if wanted != "given":
        parts.append(_degrees(sequence))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _tensor(array: np.ndarray | None) -> Tensor:
    assert array is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a read-only memory map; nobody writes to it
        return torch.from_numpy(np.asarray(array))


def _over_steps(x: Tensor, steps: int) -> Tensor:
    return x if x.dim() == 3 else x.expand(steps, *x.shape)


def _degrees(sequence: SnapshotSequence) -> Tensor:
    """``log(1 + degree)`` in and out of every node at every step, ``[T, N, 2]``."""
    into = np.diff(sequence.indptr, axis=1)
    out = np.zeros_like(into)
    for g in range(sequence.num_graphs):
        rows = slice(sequence.offsets[g], sequence.offsets[g + 1])
        out[g] = np.bincount(sequence.neighbor[rows], minlength=sequence.num_nodes)
    degrees = np.log1p(np.stack([into, out], axis=2, dtype=np.float32))
    return torch.from_numpy(degrees[sequence.graph_of])
