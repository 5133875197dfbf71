"""An event stream on its way out: its ids as the source had them, its split, and its rows a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.store import NODE_IDS, open_stream
from tgscale.data.stream import EventStream, Split

PARTS = {
    "label": "labels",
    "class_names": "names of classes",
    "edge_classes": "classes of events that may have several",
    "node_label": "classes of nodes",
    "split": "the split",
    "edge_features": "edge features",
    "node_features": "node features",
    "ids": "the ids of the source",
    "idle_nodes": "nodes without events",
}
"""What a stream may have beside its events; a writer says which of them its format carries."""


@dataclass(frozen=True)
class Writer:
    """One format that can be written.

    Attributes:
        about: what is written, in a few words.
        carries: names of :data:`PARTS`.
        write: writes the files; the target is a file, or a folder, that does not exist yet.
        reading: options of :func:`tgscale.data.ingest.import_events` that read it back, given where it lies.
        files: patterns of the files of a folder, for formats that are one; else none.
        check: refuses a stream that the format cannot hold, and returns remarks.
        binary: features are written as 32-bit numbers, so how much room they need is known before.
    """

    about: str
    carries: frozenset[str]
    write: Callable[[Outgoing, Path], None]
    reading: Callable[[Outgoing, Path], dict[str, Any]]
    files: tuple[str, ...] = ()
    check: Callable[[Outgoing], list[str]] = lambda data: []
    binary: bool = False


@dataclass(frozen=True, eq=False)
class Outgoing:
    """A stream to be written.

    Attributes:
        stream: its columns.
        ids: the source's id of each node, int64 or string ``[N]``; None when they are the nodes' numbers (of each side,
            in a bipartite stream).
    """

    stream: EventStream
    ids: pa.Array | None

    @classmethod
    def open(cls, path: str | Path) -> Outgoing:
        """Open a data directory.

        Raises:
            StoreError: no data directory of an event stream.
        """
        stream = open_stream(path)
        file = Path(path) / NODE_IDS
        ids = pq.read_table(file, columns=["id"]).column(0).combine_chunks() if file.exists() else None
        if ids is not None and pa.types.is_large_string(ids.type):
            ids = ids.cast(pa.string())
        return cls(stream, ids)

    @property
    def text_ids(self) -> bool:
        """Are the ids of the source text?"""
        return self.ids is not None and pa.types.is_string(self.ids.type)

    @cached_property
    def idle_nodes(self) -> int:
        """Number of nodes without events, which a list of events cannot show."""
        return int((np.diff(self.stream.tcsr.indptr) == 0).sum())

    @property
    def parts(self) -> set[str]:
        """Which of :data:`PARTS` the stream has."""
        has: Mapping[str, object] = {
            "label": self.stream.label is not None,
            "class_names": self.stream.classes.get("label"),
            "edge_classes": self.stream.edge_classes is not None,
            "node_label": self.stream.node_label is not None,
            "split": self.stream.source_split is not None,
            "edge_features": self.stream.edge_dim,
            "node_features": self.stream.node_dim,
            "ids": self.ids is not None,
            "idle_nodes": self.idle_nodes,
        }
        return {part for part, there in has.items() if there}

    def chunks(self, bytes_per_value: int = 4) -> Iterator[slice]:
        """Slices of event ids, each of about :data:`CHUNK_BYTES`."""
        rows = max(1024, CHUNK_BYTES // (bytes_per_value * self.stream.edge_dim + 64))
        for first in range(0, self.stream.num_events, rows):
            yield slice(first, min(first + rows, self.stream.num_events))

    def source_ids(self, side: str, rows: slice) -> pa.Array:
        """Ids of the source of the events' ``"src"`` or ``"dst"``."""
        nodes = np.asarray(getattr(self.stream, side)[rows])
        if self.ids is not None:
            return self.ids.take(pa.array(nodes))
        first = self.stream.num_sources if side == "dst" and self.stream.num_sources else 0
        return pa.array(nodes.astype(np.int64) - first)

    def node_ids(self) -> pa.Array:
        """Id of the source of each node; in a bipartite stream an id may stand on both sides."""
        if self.ids is not None:
            return self.ids
        numbers = np.arange(self.stream.num_nodes)
        sources = self.stream.num_sources or 0
        return pa.array(np.where(numbers < sources, numbers, numbers - sources))

    def parts_of(self, rows: slice, split: Split | None = None) -> np.ndarray:
        """0 (train), 1 (val) or 2 (test) of each event, int8; of the source's split unless another is given."""
        borders = split or self.stream.source_split
        assert borders is not None
        events = np.arange(rows.start, rows.stop)
        return (events >= borders.train).astype(np.int8) + (events >= borders.val)

    def units(self) -> dict[str, Any]:
        """Options that read numeric times back as they are, and keep the two sides apart."""
        unit = self.stream.time_unit
        options: dict[str, Any] = {} if unit == "s" else {"time_unit": unit, "source_time_unit": unit}
        return options | ({"bipartite": True} if self.stream.num_sources is not None else {})
