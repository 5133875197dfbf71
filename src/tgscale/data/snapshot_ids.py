"""The nodes of a snapshot sequence by the ids of their source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgscale.data.directory import read_json
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import NODE_IDS


@dataclass(frozen=True, eq=False)
class NamedSnapshots:
    """A sequence, and the source's ids of its nodes.

    Attributes:
        snapshots: the sequence.
        ids: of each node, as it is called on its side.
        is_source: which nodes are sources, ``[N]``, where the two sides of a bipartite source have ids of their own.
    """

    snapshots: SnapshotSequence
    ids: pa.Array
    is_source: np.ndarray | None = None

    @classmethod
    def open(cls, path: str | Path) -> NamedSnapshots:
        """Open a data directory.

        Raises:
            StoreError: no data directory of snapshots.
        """
        snapshots, first, file = open_snapshots(path), read_json(path).get("num_sources"), Path(path) / NODE_IDS
        ids = node = np.arange(snapshots.num_nodes)
        is_source = None
        if first is not None:
            is_source = node < first
            ids = np.where(is_source, node, node - first)
        if not file.exists():  # dense, on each side
            return cls(snapshots, pa.array(ids), is_source)
        table = pq.read_table(file)
        if "side" in table.column_names:  # nodes that came later have places behind those of both sides
            is_source = np.asarray(pc.equal(table["side"], "src"))
        return cls(snapshots, table["id"].combine_chunks(), is_source)

    @cached_property
    def side_nodes(self) -> list[np.ndarray]:
        """All nodes; or those of sources and those of destinations, where the two have ids of their own."""
        if self.is_source is None:
            return [np.arange(len(self.ids))]
        return [np.flatnonzero(self.is_source), np.flatnonzero(~self.is_source)]

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
