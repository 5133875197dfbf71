"""The event stream: what every other line of the house works on.

A stream is a handful of NumPy columns (often memory-mapped, see :mod:`tgscale.data.store`) and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tgscale.data.index import TCSR, PairIndex, build_tcsr, pair_index_of
from tgscale.errors import ConfigError, DataError

MARK_EVENTS = 1 << 20


def mark_nodes(num_nodes: int, *columns: np.ndarray) -> np.ndarray:
    """Mask ``[num_nodes]`` of the nodes that stand in any of these columns of node ids."""
    seen = np.zeros(num_nodes, dtype=bool)
    for ids in columns:
        # In pieces: NumPy turns a whole column of indices into 64 bits at once.
        for first in range(0, len(ids), MARK_EVENTS):
            seen[ids[first : first + MARK_EVENTS]] = True
    return seen


@dataclass(frozen=True)
class Split:
    """Event-id borders of the three parts of a stream: ``[0, train) [train, val) [val, test)``."""

    train: int
    val: int
    test: int

    def range(self, part: str) -> tuple[int, int]:
        """First and one-past-last event id of ``"train"``, ``"val"`` or ``"test"``."""
        parts = {"train": (0, self.train), "val": (self.train, self.val), "test": (self.val, self.test)}
        if part not in parts:
            raise ConfigError(f"part {part!r} is unknown: choose train, val or test.")
        return parts[part]


@dataclass(frozen=True, eq=False, repr=False)
class EventStream:
    """A time-sorted stream of events (a continuous-time dynamic graph).

    Attributes:
        src, dst: node ids, shape ``[E]``, int32 or int64, in ``[0, num_nodes)``.
        time: shape ``[E]``, int64, non-decreasing, in ``time_unit``.
        num_nodes: number of nodes ``N``.
        edge_features: shape ``[E, F]``, float32, or None.
        node_features: shape ``[N, G]``, float32, or None.
        label: one integer per event, shape ``[E]``, or None.
        edge_classes: which of ``L`` classes an event has, any number of them, shape ``[E, L]``, uint8, or None.
        node_label: the class of each node, from 0, -1 where it is not known, shape ``[N]``, int32, or None.
        classes: names of the classes of ``label``, ``edge_classes`` and ``node_label``, as far as they have names.
        num_sources: for a bipartite stream, sources are ``[0, num_sources)`` and destinations the rest; else None.
        source_split: the split that the source brought with it, or None.
        time_unit: what one step of ``time`` is: ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, or ``"step"``.
        name: for reports.
        path: the data directory it was opened from, or None.
    """

    src: np.ndarray
    dst: np.ndarray
    time: np.ndarray
    num_nodes: int
    edge_features: np.ndarray | None = None
    node_features: np.ndarray | None = None
    label: np.ndarray | None = None
    num_sources: int | None = None
    source_split: Split | None = None
    time_unit: str = "s"
    name: str = "events"
    path: Path | None = None
    edge_classes: np.ndarray | None = None
    node_label: np.ndarray | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stored_tcsr: TCSR | None = None
    stored_pairs: PairIndex | None = None

    @classmethod
    def from_arrays(
        cls,
        src: np.ndarray,
        dst: np.ndarray,
        time: np.ndarray,
        *,
        num_nodes: int | None = None,
        edge_features: np.ndarray | None = None,
        node_features: np.ndarray | None = None,
        label: np.ndarray | None = None,
        edge_classes: np.ndarray | None = None,
        node_label: np.ndarray | None = None,
        num_sources: int | None = None,
        time_unit: str = "s",
        name: str = "events",
    ) -> EventStream:
        """Make a stream in memory. Events are sorted by time; events of equal time keep their order.

        Args:
            src, dst: node ids, ``[E]``, of any integer type.
            time: ``[E]``, of any integer type, 0 or more, in ``time_unit``.
            num_nodes: ``N``; one more than the highest id unless given.
            edge_features: ``[E, F]``; becomes float32.
            node_features: ``[N, G]``; becomes float32.
            label: ``[E]``, integers.
            edge_classes: ``[E, L]``, 0 or 1; becomes uint8.
            node_label: ``[N]``, integers, -1 where it is not known; becomes int32.
            num_sources: of a bipartite stream; see the attribute.
            time_unit, name: see the attributes.

        Raises:
            DataError: empty input, columns of different length, ids out of range, negative or non-integer time,
                features that are not finite.
        """
        src, dst, time = np.asarray(src), np.asarray(dst), np.asarray(time)
        if len(src) == 0:
            raise DataError("no events given: src is empty. A stream needs at least one event.")
        for side, ids in (("src", src), ("dst", dst)):
            if not np.issubdtype(ids.dtype, np.integer):
                raise DataError(
                    f"{side} is {ids.dtype}: number the nodes first (np.unique(ids, return_inverse=True)), or let "
                    "tgscale.import_events read them from a file."
                )
        for name_, column in (
            ("dst", dst),
            ("time", time),
            ("edge_features", edge_features),
            ("label", label),
            ("edge_classes", edge_classes),
        ):
            if column is not None and len(column) != len(src):
                raise DataError(f"{name_} has {len(column)} rows, src has {len(src)}: give one row per event.")
        if not (np.issubdtype(time.dtype, np.integer)):
            raise DataError(f"time is {time.dtype}: convert to int64 first (a finer unit keeps fractions).")
        if time.min() < 0:
            raise DataError(f"time is negative at row {int(np.argmin(time))} ({time.min()}): shift it to start at 0.")
        highest = int(max(src.max(), dst.max()))
        num_nodes = highest + 1 if num_nodes is None else num_nodes
        if min(src.min(), dst.min()) < 0 or highest >= num_nodes:
            raise DataError(f"node ids must lie in [0, {num_nodes}); found {min(src.min(), dst.min())} to {highest}.")
        if node_features is not None and len(node_features) != num_nodes:
            raise DataError(f"node_features has {len(node_features)} rows for {num_nodes} nodes: give one per node.")
        if node_label is not None and len(node_label) != num_nodes:
            raise DataError(f"node_label has {len(node_label)} rows for {num_nodes} nodes: give one per node.")
        for name_, table in (("edge_features", edge_features), ("node_features", node_features)):
            if table is not None and not np.isfinite(table).all():
                bad = int(np.argwhere(~np.isfinite(np.asarray(table)).reshape(len(table), -1).all(axis=1))[0, 0])
                raise DataError(f"{name_} has a value that is not finite in row {bad}: fill or drop it.")
        order = np.argsort(time, kind="stable")
        id_type = np.int32 if num_nodes < 2**31 else np.int64
        return cls(
            src=src[order].astype(id_type),
            dst=dst[order].astype(id_type),
            time=time[order].astype(np.int64),
            num_nodes=num_nodes,
            edge_features=None if edge_features is None else np.ascontiguousarray(edge_features[order], np.float32),
            node_features=None if node_features is None else np.ascontiguousarray(node_features, np.float32),
            label=None if label is None else np.asarray(label)[order],
            edge_classes=None
            if edge_classes is None
            else np.ascontiguousarray(np.asarray(edge_classes)[order], np.uint8),
            node_label=None if node_label is None else np.asarray(node_label, np.int32),
            num_sources=num_sources,
            time_unit=time_unit,
            name=name,
        )

    def __repr__(self) -> str:
        features = f", {self.edge_dim} edge features" if self.edge_dim else ""
        return f"EventStream({self.name!r}: {self.num_events:,} events, {self.num_nodes:,} nodes{features})"

    @property
    def num_events(self) -> int:
        """Number of events ``E``."""
        return len(self.src)

    @property
    def edge_dim(self) -> int:
        """Width of the edge features; 0 when there are none."""
        return 0 if self.edge_features is None else self.edge_features.shape[1]

    @property
    def node_dim(self) -> int:
        """Width of the node features; 0 when there are none."""
        return 0 if self.node_features is None else self.node_features.shape[1]

    @cached_property
    def tcsr(self) -> TCSR:
        """Per-node adjacency sorted by event id: from the store, or built on first use."""
        return self.stored_tcsr or build_tcsr(self.src, self.dst, self.num_nodes)

    @cached_property
    def pairs(self) -> PairIndex:
        """Index (node, partner, event): from the store, or built on first use."""
        return self.stored_pairs or pair_index_of(self.tcsr, self.src, self.dst)

    @cached_property
    def destinations(self) -> np.ndarray:
        """The distinct destination nodes of the whole stream, sorted, int64 ``[number of them]``."""
        return np.flatnonzero(mark_nodes(self.num_nodes, self.dst))

    def split(self, val: float = 0.15, test: float = 0.15, by: str = "events") -> Split:
        """Split by time: the last ``test`` of the events, the ``val`` before them, and the rest to train on.

        A split that the source brought with it takes precedence. Borders are event ids.

        Args:
            val, test: shares of the events.
            by: ``"events"``: exactly at these shares, so events of one time may fall on both sides of a border.
                ``"times"``: at the times that are those quantiles of all events' times (linearly interpolated), events
                of that very time belonging to the earlier part, as TGN, DyGLib and TGB split.

        Raises:
            ConfigError: shares that leave nothing for a part.
        """
        if not (val > 0 and test > 0 and val + test < 1):
            raise ConfigError(f"val {val} and test {test} must both be above 0 and leave something to train on.")
        if self.source_split is not None:
            return self.source_split
        n = self.num_events
        if by == "times":
            borders = [np.searchsorted(self.time, self._quantile(q), side="right") for q in (1 - val - test, 1 - test)]
            return Split(train=int(borders[0]), val=int(borders[1]), test=n)
        return Split(train=int(n * (1 - val - test) + 1e-9), val=int(n * (1 - test) + 1e-9), test=n)

    def _quantile(self, share: float) -> float:
        """``np.quantile`` of the times, which are sorted already."""
        place = share * (self.num_events - 1)
        low = int(place)
        near = self.time[low : low + 2].astype(np.float64)
        return float(np.quantile(near, place - low)) if len(near) == 2 else float(near[0])

    def new_nodes(self, split: Split) -> np.ndarray:
        """Mask ``[N]`` of the nodes that no training event touches (the inductive metrics count their events)."""
        return ~mark_nodes(self.num_nodes, self.src[: split.train], self.dst[: split.train])
