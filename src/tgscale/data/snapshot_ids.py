"""The nodes of a snapshot sequence by the ids of their source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgscale.data.ids import ascending
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import NODE_IDS


@dataclass(frozen=True, eq=False)
class NamedSnapshots:
    """A sequence, and the source's id of each node (its number, where they are the same)."""

    snapshots: SnapshotSequence
    ids: pa.Array

    @classmethod
    def open(cls, path: str | Path) -> NamedSnapshots:
        """Open a data directory.

        Raises:
            StoreError: no data directory of snapshots.
        """
        snapshots = open_snapshots(path)
        file = Path(path) / NODE_IDS
        if file.exists():
            return cls(snapshots, pq.read_table(file, columns=["id"]).column(0).combine_chunks())
        return cls(snapshots, pa.array(np.arange(snapshots.num_nodes)))

    @cached_property
    def side_nodes(self) -> list[np.ndarray]:
        """All nodes; or those of sources and those of destinations, where the two have ids of their own, as those of a
        bipartite source have."""
        every = [np.arange(len(self.ids))]
        if ascending(self.ids):  # looks at no edge, and each id is there once
            return every
        is_end = [np.zeros(len(self.ids), bool), np.zeros(len(self.ids), bool)]
        for step in range(self.snapshots.num_steps):
            for of_side, ends in zip(is_end, once_each(self.snapshots, step), strict=False):
                of_side[ends] = True
        return every if (is_end[0] & is_end[1]).any() else [np.flatnonzero(of_side) for of_side in is_end]

    @cached_property
    def sides(self) -> list[pa.Array]:
        """The ids of :attr:`side_nodes`."""
        return [self.ids.take(pa.array(nodes)) for nodes in self.side_nodes]

    def nodes_of(self, texts: pa.Array, side: int) -> np.ndarray:
        """The nodes that some ids name, -1 for one that is none's.

        Args:
            texts: ids as text.
            side: 0 for sources, 1 for destinations; it counts where the two have ids of their own.
        """
        nodes = self.side_nodes[side if len(self.side_nodes) > 1 else 0]
        known = self.ids.take(pa.array(nodes)).cast(pa.string())
        place = pc.index_in(texts.cast(pa.string()), value_set=known).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(place < 0, -1, nodes[place]) if len(nodes) else np.full(len(place), -1)


def once_each(snapshots: SnapshotSequence, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source and destination of the edges of a step, each once, and which of its rows they are: an undirected edge is
    stored both ways, and has one row here."""
    src, dst = snapshots.edges(step)
    kept = src <= dst if snapshots.undirected else np.ones(len(src), bool)
    return src[kept], dst[kept], kept
