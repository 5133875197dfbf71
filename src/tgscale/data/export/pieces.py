"""What several writers share: delimited text and arrays, written a chunk at a time."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tgscale.data.directory import CHUNK_BYTES
from tgscale.data.export.outgoing import Outgoing

NODE_IDS_SUFFIX = ".node_ids.parquet"
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""How text is compressed, by the suffix of the file's name. What an import reads, too."""


def write_text(path: Path, header: str, batches: Iterator[pa.RecordBatch], delimiter: str = ",") -> None:
    """Write delimited text with this first line (none when it is empty); text is quoted, numbers are not.

    A name that ends in ``.gz``, ``.bz2`` or ``.xz`` is compressed so. Floats are written with the fewest digits that
    read back as the same number.
    """
    options = pacsv.WriteOptions(include_header=False, delimiter=delimiter)
    with OPENERS.get(path.suffix, open)(path, "wb") as file:
        if header:
            file.write(f"{header}\n".encode())
        writer = None
        for batch in batches:
            writer = writer or pacsv.CSVWriter(file, batch.schema, write_options=options)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def write_parquet(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Write Parquet, a row group per batch."""
    writer = None
    for batch in batches:
        writer = writer or pq.ParquetWriter(path, batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def feature_columns(table: np.ndarray, prefix: str) -> dict[str, pa.Array]:
    """A table ``[rows, F]`` as columns ``prefix0, prefix1, ..``."""
    return {f"{prefix}{i}": pa.array(np.ascontiguousarray(table[:, i])) for i in range(table.shape[1])}


def lists_of(values: pa.Array, lengths: np.ndarray) -> pa.Array:
    """Values that follow one another as lists of these lengths."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)), values)


def node_rows(data: Outgoing) -> Iterator[pa.RecordBatch]:
    """Node features as rows ``id, n0, n1, ..``; the stream must have some."""
    table, ids = data.stream.node_features, data.node_ids()
    assert table is not None
    step = max(1024, CHUNK_BYTES // (4 * table.shape[1] + 64))
    for first in range(0, len(table), step):
        chunk = table[first : first + step]
        yield pa.record_batch({"id": ids.slice(first, len(chunk)), **feature_columns(chunk, "n")})


def write_node_ids(path: Path, data: Outgoing) -> None:
    """Write which id of the source each number stands for, when they differ."""
    if data.ids is not None:
        pq.write_table(pa.table({"node": np.arange(len(data.ids)), "id": data.ids}), path)


def array_file(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A new ``.npy`` file as a writable memory map."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)


def copy_rows(target: np.ndarray, source: np.ndarray, add: int = 0) -> None:
    """Copy rows, converted to the target's type, with ``add`` added, a chunk at a time."""
    step = max(1024, CHUNK_BYTES // max(1, target[:1].nbytes))
    for first in range(0, len(source), step):
        target[first : first + step] = source[first : first + step]
        if add:
            target[first : first + step] += add
