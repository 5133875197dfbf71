"""TGL folder: ``edges.csv`` (``,src,dst,time,ext_roll``), ``edge_features.pt``, ``node_features.pt``.

``ext_roll`` is the split: 0 train, 1 validation, 2 test. ``ext_full.npz`` is not needed: T-CSR is built anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tgscale.data.formats.delimited import csv_relation, plain, read_header
from tgscale.data.formats.source import Columns, Source
from tgscale.errors import DataError


def recognise(paths: list[Path]) -> bool:
    return len(paths) == 1 and (paths[0] / "edges.csv").is_file()


def read(paths: list[Path], work: Path) -> Source:
    if not recognise(paths):
        raise DataError(f"{paths[0]} is not a TGL folder: it holds no edges.csv. Give the folder, not the file.")
    folder = paths[0]
    edges = folder / "edges.csv"
    names, delimiter = read_header(edges)
    return Source(
        format="tgl",
        relation=csv_relation(plain([edges], work), names, delimiter),
        files=[edges],
        columns=Columns("src", "dst", "time", split="ext_roll" if "ext_roll" in names else None),
        text=True,
        ids="int",
        first_id=0,
        edge_table=_load(folder / "edge_features.pt"),
        edge_row=names[0] if names[0] == "column0" else None,
        node_table=_load(folder / "node_features.pt"),
        note="TGL folder (by its edges.csv)",
    )


def _load(file: Path) -> np.ndarray | None:
    if not file.exists():
        return None
    import torch  # only this format needs it, and it takes seconds to load

    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises half a dozen unrelated classes here
        raise DataError(f"{file} cannot be loaded as a tensor ({error}): save it again with torch.save.") from None
    if not isinstance(tensor, torch.Tensor) or tensor.dim() != 2:
        raise DataError(f"{file} must hold one tensor of two dimensions, a row per edge or node.")
    return (tensor if tensor.dtype == torch.float32 else tensor.float()).numpy()
