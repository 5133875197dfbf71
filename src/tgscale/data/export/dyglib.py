"""DyGLib's ``ml_NAME.csv``, ``ml_NAME.npy`` and ``ml_NAME_node.npy``: ids and rows count from 1, row 0 is zeros."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgscale.data.export.outgoing import Outgoing, Writer
from tgscale.data.export.pieces import array_file, copy_rows, write_node_ids, write_text

MOST_FEATURES = 172
"""DyGLib pads features to this width and refuses more."""


def _rows(data: Outgoing) -> Iterator[pa.RecordBatch]:
    stream = data.stream
    for rows in data.chunks():
        events = np.arange(rows.start, rows.stop)
        label = np.zeros(len(events), np.int64) if stream.label is None else stream.label[rows]
        yield pa.record_batch(
            {
                "": pa.array(events),
                "u": pa.array(stream.src[rows].astype(np.int64) + 1),
                "i": pa.array(stream.dst[rows].astype(np.int64) + 1),
                "ts": pa.array(np.asarray(stream.time[rows])),
                "label": pa.array(np.asarray(label)),
                "idx": pa.array(events + 1),
            }
        )


def write(data: Outgoing, target: Path) -> None:
    """Write the folder; the data set has its name."""
    stream, name = data.stream, f"ml_{target.name}"
    target.mkdir()
    write_text(target / f"{name}.csv", ",u,i,ts,label,idx", _rows(data))
    for file, table, count in (
        (f"{name}.npy", stream.edge_features, stream.num_events),
        (f"{name}_node.npy", stream.node_features, stream.num_nodes),
    ):
        if table is None:  # DyGLib opens both files and pads to its width
            np.save(target / file, np.zeros((count + 1, 0), np.float32))
        else:
            copy_rows(array_file(target / file, np.float32, (count + 1, table.shape[1]))[1:], table)
    write_node_ids(target / "node_ids.parquet", data)


def check(data: Outgoing) -> list[str]:
    """Say what DyGLib will make of it."""
    said = [] if data.stream.label is not None else ["the stream has no labels; label is 0 throughout"]
    if max(data.stream.edge_dim, data.stream.node_dim) > MOST_FEATURES:
        said.append(f"DyGLib itself reads at most {MOST_FEATURES} features, these are more")
    if data.ids is not None:
        said.append("nodes are numbered from 1; node_ids.parquet in the folder holds the ids of the source (from 0)")
    return said


def reading(data: Outgoing, target: Path) -> dict[str, Any]:
    """Options that read it back."""
    options = {"format": "dyglib"} | data.units()
    return options if data.stream.label is not None else options | {"label": ""}


WRITER = Writer(
    "DyGLib's ml_NAME files, in a folder",
    frozenset({"label", "edge_features", "node_features", "ids"}),
    write,
    reading,
    files=("ml_*.csv", "ml_*.npy", "node_ids.parquet"),
    check=check,
    binary=True,
)
