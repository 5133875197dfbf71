"""DyGLib: ``ml_NAME.csv`` (``,u,i,ts,label,idx``), ``ml_NAME.npy`` and ``ml_NAME_node.npy``.

Ids and ``idx`` count from 1; row 0 of both feature tables is padding, which is never referred to and so falls away.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tgscale.data.formats.delimited import csv_relation, plain, read_header
from tgscale.data.formats.source import Columns, Source
from tgscale.errors import DataError

NAMES = {"u", "i", "ts", "label", "idx"}


def recognise(paths: list[Path]) -> bool:
    if len(paths) != 1:
        return False
    table = _table(paths[0])
    return table is not None and set(read_header(table)[0]) >= NAMES


def read(paths: list[Path], work: Path) -> Source:
    table = _table(paths[0]) if len(paths) == 1 else None
    if table is None:
        raise DataError(f"{paths[0]} is not of DyGLib: give ml_NAME.csv, or a folder that holds just one such file.")
    names, delimiter = read_header(table)
    missing = sorted(NAMES - set(names))
    if missing:
        raise DataError(f"{table} lacks the columns {missing}; it has {names}. DyGLib writes u, i, ts, label, idx.")
    edge_table = load_table(table.with_suffix(".npy"))
    return Source(
        format="dyglib",
        relation=csv_relation(plain([table], work), names, delimiter),
        files=[table],
        columns=Columns("u", "i", "ts", "label"),
        text=True,
        ids="int",
        first_id=1,
        edge_table=edge_table,
        edge_row="idx",
        node_table=load_table(table.with_name(f"{table.stem}_node.npy")),
        note="DyGLib table (by its columns u, i, ts, label, idx)",
    )


def load_table(file: Path) -> np.ndarray | None:
    """A feature table as a memory map, or None when there is none.

    Raises:
        DataError: not a NumPy file of two dimensions of numbers.
    """
    if not file.exists():
        return None
    try:
        table = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{file} cannot be opened as a .npy table ({error}): save it again with np.save.") from None
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        raise DataError(f"{file} holds {table.dtype} of shape {table.shape}: expected numbers of two dimensions.")
    return table if table.shape[1] else None  # no columns: how no features are kept


def _table(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix == ".csv" else None
    tables = list(path.glob("ml_*.csv"))
    return tables[0] if len(tables) == 1 else None
