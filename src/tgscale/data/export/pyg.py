"""PyG's ``TemporalData``, as a dictionary of tensors: ``TemporalData.from_dict(torch.load(FILE))`` makes it one.

A dictionary of tensors loads with ``weights_only=True``, which a saved object of another library does not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tgscale.data.export.outgoing import Outgoing, Writer
from tgscale.data.export.pieces import NODE_IDS_SUFFIX, array_file, copy_rows, write_node_ids
from tgscale.data.export.tensors import save, tensor


def write(data: Outgoing, target: Path) -> None:
    """Write ``src, dst, t`` (int64 ``[E]``), and where there are such ``msg`` (float32 ``[E, F]``), ``y`` (int64
    ``[E]``), ``split`` (int8 ``[E]``) and ``x`` (float32 ``[N, G]``)."""
    stream = data.stream
    work = target.with_name("work")
    work.mkdir()
    content: dict[str, Any] = {}
    for name, column in (("src", stream.src), ("dst", stream.dst), ("t", stream.time), ("y", stream.label)):
        if column is not None:
            content[name] = array_file(work / f"{name}.npy", np.int64, (stream.num_events,))
            copy_rows(content[name], column)
    if stream.source_split is not None:
        content["split"] = array_file(work / "split.npy", np.int8, (stream.num_events,))
        for rows in data.chunks():
            content["split"][rows] = data.parts_of(rows)
    content |= {"msg": stream.edge_features} if stream.edge_features is not None else {}
    content |= {"x": stream.node_features} if stream.node_features is not None else {}
    save({name: tensor(column) for name, column in content.items()}, target)
    shutil.rmtree(work)
    write_node_ids(target.with_name(f"{target.stem}{NODE_IDS_SUFFIX}"), data)


def check(data: Outgoing) -> list[str]:
    """Say what becomes of the ids."""
    if data.ids is None:
        return []
    return ["nodes are named by number; the ids of the source lie in the file beside it"]


WRITER = Writer(
    "tensors of PyG's TemporalData",
    frozenset({"label", "split", "edge_features", "node_features", "ids"}),
    write,
    lambda data, target: {"format": "pyg"} | data.units(),
    check=check,
    binary=True,
)
