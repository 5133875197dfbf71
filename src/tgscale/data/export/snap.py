"""SNAP's list: a line ``SRC DST TIME`` per event, integers with a space between them, no header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tgscale.data.export.outgoing import Outgoing, Writer
from tgscale.data.export.pieces import NODE_IDS_SUFFIX, write_node_ids, write_text


def _rows(data: Outgoing) -> Iterator[pa.RecordBatch]:
    for rows in data.chunks():
        if data.text_ids:
            ends = {side: pa.array(np.asarray(getattr(data.stream, side)[rows])) for side in ("src", "dst")}
        else:
            ends = {side: data.source_ids(side, rows) for side in ("src", "dst")}
        yield pa.record_batch(ends | {"time": pa.array(np.asarray(data.stream.time[rows]))})


def write(data: Outgoing, target: Path) -> None:
    """Write the list; ids that are text become numbers, with the mapping in a file beside it."""
    write_text(target, "", _rows(data), delimiter=" ")
    if data.text_ids:
        write_node_ids(target.with_name(f"{target.stem}{NODE_IDS_SUFFIX}"), data)


def check(data: Outgoing) -> list[str]:
    """Say what becomes of ids that are text."""
    return ["ids of the source are text; numbers stand for them, see the file beside it"] if data.text_ids else []


WRITER = Writer(
    "SNAP's list of SRC DST TIME",
    frozenset({"ids"}),
    write,
    lambda data, target: {"format": "snap"} | data.units(),
    check=check,
)
