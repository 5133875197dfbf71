"""The edge lists that py-tgb's loaders read: JODIE's layout for two sides, else ``timestamp,src,dst,weight``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgscale.data.export import jodie
from tgscale.data.export.outgoing import Outgoing, Writer
from tgscale.data.export.pieces import NODE_IDS_SUFFIX, write_node_ids, write_text

HEADER = "timestamp,src,dst,weight"


def _rows(data: Outgoing) -> Iterator[pa.RecordBatch]:
    stream = data.stream
    for rows in data.chunks():
        weight = np.ones(rows.stop - rows.start, np.float32)
        if stream.edge_features is not None and stream.edge_dim == 1:
            weight = stream.edge_features[rows, 0]
        yield pa.record_batch(
            {
                "timestamp": pa.array(np.asarray(stream.time[rows])),
                "src": pa.array(np.asarray(stream.src[rows])),
                "dst": pa.array(np.asarray(stream.dst[rows])),
                "weight": pa.array(np.ascontiguousarray(weight)),
            }
        )


def write(data: Outgoing, target: Path) -> None:
    """Write the edge list, in the layout that fits the stream."""
    if jodie.two_sides(data):
        return jodie.write(data, target)
    write_text(target, HEADER, _rows(data))
    write_node_ids(target.with_name(f"{target.stem}{NODE_IDS_SUFFIX}"), data)


def check(data: Outgoing) -> list[str]:
    """Say which layout it is, and what py-tgb makes of it."""
    if jodie.two_sides(data):
        return ["in the layout of tgbl-wiki (TGB's load_edgelist_wiki)", *jodie.check(data)]
    said = ["in the layout of tgbl-coin (TGB's csv_to_pd_data_sc), which takes log2 of the weight"]
    if data.stream.edge_dim > 1:
        said.append(f"that layout holds one weight per event: {data.stream.edge_dim} edge features are left out")
    if data.stream.label is not None:
        said.append("that layout holds no labels: they are left out")
    if data.ids is not None:
        said.append("nodes are named by number; the ids of the source lie in the file beside it")
    return said


def reading(data: Outgoing, target: Path) -> dict[str, Any]:
    """Options that read it back."""
    if jodie.two_sides(data):
        return jodie.reading(data, target)
    options = {"format": "csv"} | data.units()
    return options | ({"edge_features": "weight"} if data.stream.edge_dim == 1 else {})


WRITER = Writer("an edge list of TGB", frozenset({"label", "edge_features", "ids"}), write, reading, check=check)
