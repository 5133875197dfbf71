"""JODIE's csv, which TGN and TGB's own loaders read too: users and items each count from zero."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.export.outgoing import Outgoing, Writer
from tgscale.data.export.pieces import NODE_IDS_SUFFIX, feature_columns, write_text
from tgscale.data.stream import mark_nodes
from tgscale.errors import DataError

HEADER = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features"


def two_sides(data: Outgoing) -> bool:
    """Is no node both source and destination?"""
    stream = data.stream
    if stream.num_sources is not None:
        return True
    return not (mark_nodes(stream.num_nodes, stream.src) & mark_nodes(stream.num_nodes, stream.dst)).any()


def _numbers(num_nodes: int, nodes: np.ndarray) -> np.ndarray:
    """Number of each node among those that stand in a column, int64 ``[N]``."""
    return np.cumsum(mark_nodes(num_nodes, nodes)) - 1


def rows(data: Outgoing) -> Iterator[pa.RecordBatch]:
    """Rows of the file."""
    stream = data.stream
    users, items = _numbers(stream.num_nodes, stream.src), _numbers(stream.num_nodes, stream.dst)
    for part in data.chunks():
        label = np.zeros(part.stop - part.start, np.int64) if stream.label is None else stream.label[part]
        features = {} if stream.edge_features is None else feature_columns(stream.edge_features[part], "f")
        yield pa.record_batch(
            {
                "user_id": pa.array(users[stream.src[part]]),
                "item_id": pa.array(items[stream.dst[part]]),
                "timestamp": pa.array(np.asarray(stream.time[part])),
                "state_label": pa.array(np.asarray(label)),
                **features,
            }
        )


def write(data: Outgoing, target: Path) -> None:
    """Write the file, and which ids its numbers stand for when they differ."""
    write_text(target, HEADER, rows(data))
    ids = ids_of_sides(data)
    if ids is not None:
        pq.write_table(ids, target.with_name(f"{target.stem}{NODE_IDS_SUFFIX}"))


def ids_of_sides(data: Outgoing) -> pa.Table | None:
    """Which id of the source each user and each item stands for (side, node, id); None where numbers and ids agree."""
    stream, ids, sides = data.stream, data.node_ids(), []
    for side, column in (("user", stream.src), ("item", stream.dst)):
        nodes = np.flatnonzero(mark_nodes(stream.num_nodes, column))
        columns = {"side": [side] * len(nodes), "node": np.arange(len(nodes)), "id": ids.take(pa.array(nodes))}
        sides.append(pa.table(columns))
    table = pa.concat_tables(sides)
    return None if table["node"].equals(table["id"]) else table


def check(data: Outgoing) -> list[str]:
    """Refuse a stream whose nodes are on both sides: users and items would be told apart."""
    if not two_sides(data):
        raise DataError(
            "jodie holds users and items, and some nodes of this stream are both source and destination: they would "
            "become two nodes each. Export to csv, tgl or dyglib."
        )
    said = [] if data.stream.label is not None else ["the stream has no labels; state_label is 0 throughout"]
    if ids_of_sides(data) is not None:
        said.append("users and items are numbered from 0; the ids of the source lie in the file beside it")
    return said


def reading(data: Outgoing, target: Path) -> dict[str, Any]:
    """Options that read it back."""
    options = {"format": "jodie"} | data.units() | {"bipartite": True}
    return options if data.stream.label is not None else options | {"label": ""}


WRITER = Writer("JODIE's csv", frozenset({"label", "edge_features", "ids"}), write, reading, check=check)
