"""PyG's ``TemporalData``, saved as a dictionary of tensors, as the object itself, or as PyG's data sets keep it.

Only tensors are loaded (``weights_only``). An object of PyG's own class needs PyG to be installed; a dictionary, as
``torch.save(data.to_dict(), FILE)`` makes it, does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.formats.source import FILE_COLUMN, Columns, Source, sql_list
from tgscale.errors import ConfigError, DataError

COLUMNS = ("src", "dst", "t", "y", "split")


def recognise(paths: list[Path]) -> bool:
    return len(paths) == 1 and paths[0].is_file() and paths[0].suffix in (".pt", ".pth")


def read(paths: list[Path], work: Path) -> Source:
    if len(paths) != 1 or not paths[0].is_file():
        raise DataError(f"{paths[0]} is not one file: give the .pt file that holds TemporalData.")
    file = paths[0]
    tensors = _tensors(_load(file), file)
    columns = {name: _column(name, tensors[name], len(tensors["src"]), file) for name in COLUMNS if name in tensors}
    rows = work / "0" / "rows.parquet"  # the number says which source file it stands for
    _write(columns, rows)
    message = _table("msg", tensors.get("msg"), file)
    if message is not None and len(message) != len(columns["src"]):
        raise DataError(f"{file}: msg has {len(message)} rows, src has {len(columns['src'])}: give one row per event.")
    return Source(
        format="pyg",
        relation=f"read_parquet({sql_list([rows])}, filename='{FILE_COLUMN}')",
        files=[file],
        columns=Columns(
            "src", "dst", "t", "y" if "y" in columns else None, split="split" if "split" in columns else None
        ),
        ids="int",
        first_id=0,
        edge_table=message,
        node_table=_table("x", tensors.get("x"), file),
        note=f"TemporalData of PyG with {', '.join(tensors)}",
    )


def _load(file: Path) -> Any:
    import torch  # only this format and TGL's need it, and it takes seconds to load

    classes: list[Any] = []
    while True:
        try:
            with torch.serialization.safe_globals(classes):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch raises half a dozen unrelated classes here
            if "torch_geometric" in str(error) and not classes:
                classes = _pyg_classes(file)
                continue
            first = str(error).strip().split("\n")[0]
            raise DataError(
                f"{file} cannot be loaded as tensors ({first}): save it again with torch.save(data.to_dict(), FILE)."
            ) from None


def _pyg_classes(file: Path) -> list[Any]:
    try:
        from torch_geometric.data import TemporalData
        from torch_geometric.data.storage import GlobalStorage
    except ImportError:
        raise ConfigError(
            f"{file} holds an object of PyG, which is not installed: pip install torch-geometric; or save the data as "
            "tensors, torch.save(data.to_dict(), FILE)."
        ) from None
    return [TemporalData, GlobalStorage]


def _tensors(content: Any, file: Path) -> Mapping[str, Any]:
    if isinstance(content, tuple) and content:
        content = content[0]  # PyG's data sets keep (data, slices, class)
    if not isinstance(content, Mapping) and hasattr(content, "to_dict"):
        content = content.to_dict()
    if isinstance(content, Mapping):
        found = {str(name): value for name, value in content.items() if hasattr(value, "numpy")}
        missing = [name for name in ("src", "dst", "t") if name not in found]
        if not missing:
            return found
        raise DataError(f"{file} lacks {', '.join(missing)}; it has {sorted(map(str, content))}.")
    raise DataError(f"{file} holds {type(content).__name__}: TemporalData or a dictionary of tensors is expected.")


def _column(name: str, tensor: Any, events: int, file: Path) -> np.ndarray:
    array = tensor.numpy()
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or len(array) != events or array.dtype.kind not in "iufb":
        raise DataError(
            f"{file}: {name} is {array.dtype} {list(array.shape)}, one number for {events} events expected."
        )
    return array


def _table(name: str, tensor: Any, file: Path) -> np.ndarray | None:
    if tensor is None or (tensor.dim() == 2 and tensor.shape[1] == 0):
        return None
    if tensor.dim() != 2:
        raise DataError(f"{file}: {name} has shape {list(tensor.shape)}, two dimensions are expected.")
    return tensor.numpy() if tensor.element_size() <= 8 and tensor.dtype.is_floating_point else tensor.float().numpy()


def _write(columns: dict[str, np.ndarray], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, pa.from_numpy_dtype(array.dtype)) for name, array in columns.items()])
    with pq.ParquetWriter(path, schema) as writer:
        step = CHUNK_BYTES // (8 * len(columns))
        for first in range(0, len(columns["src"]), step):
            chunk = [np.ascontiguousarray(array[first : first + step]) for array in columns.values()]
            writer.write_batch(pa.record_batch(chunk, schema=schema))
