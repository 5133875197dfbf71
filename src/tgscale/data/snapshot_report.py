"""What an import of snapshots did."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tgscale.data.formats.source import Columns
from tgscale.data.problems import Dropped
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.snapshots import SnapshotSequence


@dataclass(frozen=True)
class SnapshotReport:
    """What an import of snapshots did.

    Attributes:
        path: the data directory.
        format, note: the format, and how it was recognised.
        columns: which column played which part; None for a source without columns.
        sequence: what was made.
        relabelled: the source's ids were not dense integers; the mapping lies in ``node_ids.parquet``.
        dropped: rows left out (with ``on_error="drop"``).
        unused: columns of the source that were not imported.
        hints: what looks odd.
        bytes: size of the directory.
        seconds: how long it took.
    """

    path: Path
    format: str
    note: str
    columns: Columns | None
    sequence: SnapshotSequence
    relabelled: bool
    bytes: int
    seconds: float
    dropped: list[Dropped] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def report_on(
    path: Path,
    began: float,
    format: str,
    note: str = "",
    *,
    columns: Columns | None = None,
    relabelled: bool = False,
    dropped: list[Dropped] | None = None,
    unused: list[str] | None = None,
    hints: list[str] | None = None,
) -> SnapshotReport:
    """Report on a data directory that was just made; ``began`` is by ``time.perf_counter``."""
    sequence = open_snapshots(path)
    return SnapshotReport(
        path=path,
        format=format,
        note=note,
        columns=columns,
        sequence=sequence,
        relabelled=relabelled,
        bytes=sum(file.stat().st_size for file in path.iterdir()),
        seconds=clock.perf_counter() - began,
        dropped=dropped or [],
        unused=unused or [],
        hints=[*(hints or []), *_hints(sequence)],
    )


def _hints(sequence: SnapshotSequence) -> list[str]:
    sizes = sequence.edge_counts()
    empty = int(np.count_nonzero(sizes == 0))
    if len(sizes) == 1:
        return ["there is one snapshot only: nothing can be learned over time; use shorter windows, or check the unit"]
    if empty > len(sizes) // 2:
        return [f"{empty:,} of {len(sizes):,} snapshots are empty; longer windows may suit the data better"]
    return []
