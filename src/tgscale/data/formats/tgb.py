"""Edge lists of the Temporal Graph Benchmark, read by py-tgb's own loaders: ``tgbl-NAME_edgelist[_vN].csv``.

So nodes, features and split are those of the benchmark. py-tgb works in a folder of its own, in which there is nothing
but links to the source's csv files: no pickle that lay beside them is loaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.formats.source import FILE_COLUMN, Columns, Source, sql_list
from tgscale.errors import ConfigError, DataError

EDGE_LIST = re.compile(r"((?:tgbl|thgl)-[a-z]+)_edgelist(?:_v\d+)?\.csv")


def recognise(paths: list[Path]) -> bool:
    return len(paths) == 1 and _edge_list(paths[0]) is not None


def read(paths: list[Path], work: Path) -> Source:
    file = _edge_list(paths[0]) if len(paths) == 1 else None
    if file is None:
        raise DataError(
            f"{paths[0]} is no data set of TGB: give tgbl-NAME_edgelist.csv (or _v2.csv), or the folder that holds it."
        )
    match = EDGE_LIST.fullmatch(file.name)
    assert match is not None
    dataset = _loaded(match[1], file, work / "tgb")
    data = dataset.full_data
    rows = work / "0" / "rows.parquet"  # the number says which source file it stands for
    rows.parent.mkdir(parents=True)
    columns = {name: np.asarray(data[key], np.int64) for name, key in NAMES.items() if key in data}
    # Masks of train, val and test become 0, 1 and 2.
    columns["split"] = np.asarray(dataset.val_mask, np.int8) + 2 * np.asarray(dataset.test_mask, np.int8)
    pq.write_table(pa.table(columns), rows)
    node_table = getattr(dataset, "node_feat", None)
    return Source(
        format="tgb",
        relation=f"read_parquet({sql_list([rows])}, filename='{FILE_COLUMN}')",
        files=[file],
        columns=Columns("src", "dst", "time", "label" if "label" in columns else None, split="split"),
        ids="int",
        edge_table=_table(data.get("edge_feat")),
        node_table=_table(node_table),
        note=f"TGB's {match[1]}, by py-tgb",
    )


NAMES = {"src": "sources", "dst": "destinations", "time": "timestamps", "label": "edge_type"}


def _edge_list(path: Path) -> Path | None:
    if path.is_file():
        return path if EDGE_LIST.fullmatch(path.name) else None
    found = [file for file in sorted(path.iterdir()) if EDGE_LIST.fullmatch(file.name)] if path.is_dir() else []
    return found[-1] if found else None  # the last version


def _loaded(name: str, file: Path, folder: Path) -> Any:
    try:
        from tgb.linkproppred.dataset import LinkPropPredDataset
    except ImportError as error:
        raise ConfigError(
            f"{file} is a data set of TGB, which py-tgb reads, and py-tgb cannot be imported ({error}): "
            "pip install py-tgb. Its csv alone is read by --format jodie or csv, with other nodes and no split."
        ) from None
    folder.mkdir(parents=True)
    for part in file.parent.iterdir():
        if part.suffix == ".csv":
            (folder / part.name).symlink_to(part.absolute())
    try:
        # An absolute dir_name takes the place of py-tgb's own folder.
        return LinkPropPredDataset(name=name, meta_dict={"dir_name": str(folder.absolute())}, download=False)
    except (FileNotFoundError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{file} cannot be read by py-tgb: {error}") from None


def _table(values: Any) -> np.ndarray | None:
    if values is None:
        return None
    table = np.asarray(values)
    table = table.reshape(len(table), -1)
    return table if table.shape[1] else None
