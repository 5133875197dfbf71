"""TGL folder: ``edges.csv`` (``,src,dst,time,ext_roll``), ``edge_features.pt``, ``node_features.pt``, ``labels.csv``.

``ext_roll`` is the split: 0 train, 1 validation, 2 test. ``ext_full.npz`` is not needed: T-CSR is built anew.
``labels.csv`` (``,node,time,label,ext_roll``) is read where it has a row per event, the source's at the event's time,
as in TGL's Wikipedia and Reddit: it is then the label of the event.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from tgscale.data.formats.delimited import csv_relation, plain, read_header
from tgscale.data.formats.source import Columns, Source, sql_text
from tgscale.errors import DataError


def recognise(paths: list[Path]) -> bool:
    return len(paths) == 1 and (paths[0] / "edges.csv").is_file()


def read(paths: list[Path], work: Path) -> Source:
    if not recognise(paths):
        raise DataError(f"{paths[0]} is not a TGL folder: it holds no edges.csv. Give the folder, not the file.")
    folder = paths[0]
    edges = folder / "edges.csv"
    names, delimiter = read_header(edges)
    relation = csv_relation(plain([edges], work), names, delimiter)
    labelled, note = _with_labels(folder / "labels.csv", relation, names)
    return Source(
        format="tgl",
        relation=labelled or relation,
        files=[edges],
        columns=Columns(
            "src", "dst", "time", "label" if labelled else None, split="ext_roll" if "ext_roll" in names else None
        ),
        text=True,
        ids="int",
        first_id=0,
        edge_table=_load(folder / "edge_features.pt"),
        edge_row=names[0] if names[0] == "column0" else None,
        node_table=_load(folder / "node_features.pt"),
        note=f"TGL folder (by its edges.csv){note}",
    )


def _with_labels(file: Path, edges: str, edge_names: list[str]) -> tuple[str | None, str]:
    """The relation with the labels, None when there are none for each event; and what to say of them."""
    if not file.exists() or "label" in edge_names:
        return None, ""
    names, delimiter = read_header(file)
    missing = sorted({"node", "time", "label"} - set(names))
    if missing:
        return None, f"; labels.csv lacks {', '.join(missing)}, it was left out"
    columns = ", ".join(f"{sql_text(name)}: 'VARCHAR'" for name in names)
    labels = (
        f"read_csv({sql_text(file)}, header=true, auto_detect=false, delim={sql_text(delimiter)}, "
        f"columns={{{columns}}}, ignore_errors=true)"
    )
    joined = f"{edges} e POSITIONAL JOIN {labels} l"
    same = "e.src = l.node AND try_cast(e.time AS DOUBLE) = try_cast(l.time AS DOUBLE)"
    with duckdb.connect() as db:
        query = f"SELECT count(*), count(*) FILTER ({same}) FROM {joined}"
        rows, fitting = db.execute(query).fetchall()[0]
    if rows != fitting:
        return None, "; labels.csv has not a row for each event, it was left out"
    return f"(SELECT e.*, l.label FROM {joined})", ", with labels.csv"


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
