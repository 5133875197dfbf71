"""Groups of snapshots split over processes, by nodes or by snapshots: what others do, to compare with."""

from __future__ import annotations

from tgscale.snapshot.partition.by_snapshot import SnapshotPlacement
from tgscale.snapshot.partition.vertex import VertexPlacement
from tgscale.snapshot.placement import LocalPlacement, Placement
from tgscale.snapshot.tensors import SnapshotData
from tgscale.train.distributed import Ranks


def place(partition: str, data: SnapshotData, ranks: Ranks) -> Placement:
    """Where a group lies with a partition: ``vertex`` and ``snapshot`` split each group, the others do not."""
    if ranks.world > 1 and partition == "vertex":
        return VertexPlacement(data, ranks)
    if ranks.world > 1 and partition == "snapshot":
        return SnapshotPlacement(data, ranks)
    return LocalPlacement(data)
