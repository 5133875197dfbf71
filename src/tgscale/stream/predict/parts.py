"""Predictions on their way to a file: in parts while they are made, put together at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgscale.data.export.pieces import lists_of
from tgscale.data.files import sync_folder
from tgscale.data.following import Rows
from tgscale.errors import RunError
from tgscale.stream.predict.ranking import Columns

RATIO = "rank"
GO_ON = "make room or check permissions, then ask for the same again: it goes on from the last part that was saved."


@contextmanager
def writing(path: Path, cure: str) -> Iterator[None]:
    """Say in words what the system could not write, and what helps.

    Raises:
        RunError: as said.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise RunError(f"{where} cannot be written ({error.strerror or error}): {cure}") from error


class Parts:
    """Parts of the predictions, a Parquet file each, named by the step they begin with.

    Args:
        folder: where they lie.
        rows: what is predicted for.
        node_ids: the table of ids, or None where an id is the node's number.
        classes: what the classes are called, where events are classified.
    """

    def __init__(
        self, folder: Path, rows: Rows, node_ids: Path | None, classes: Sequence[str] | Sequence[int] | None = None
    ) -> None:
        self.folder, self._rows = folder, rows
        self._ids = None if node_ids is None else pq.read_table(node_ids, columns=["id"]).column("id").combine_chunks()
        self._classes = pa.array(classes or [])
        folder.mkdir(exist_ok=True)

    def write(self, step: int, low: int, high: int, columns: list[Columns]) -> None:
        """Write the predictions for the rows ``[low, high)``, which begin with a step.

        Raises:
            RunError: they cannot be written.
        """
        rows, table = self._rows, {}
        table["row"] = pa.array(np.asarray(rows.row[low:high]))
        table["src"] = self._as_ids(np.asarray(rows.src[low:high]))
        table["time"] = pa.array(np.asarray(rows.time[low:high]))
        if rows.dst is not None:
            table["dst"] = self._as_ids(np.asarray(rows.dst[low:high]))
        for name in ("score", "rank"):
            if columns and name in columns[0]:
                table[name] = pa.array(np.concatenate([each[name] for each in columns]))
        if columns and "top" in columns[0]:
            table |= self._lists(columns)
        if columns and "class" in columns[0]:
            table |= self._classified(columns)
        path = self._path(step)
        partial = path.with_suffix(".tmp")
        with writing(path, GO_ON):
            pq.write_table(pa.table(table), partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(self.folder)

    def join(self, out: Path, kept: set[int], about: dict[str, str]) -> dict[str, Any]:
        """Write all parts into one file, a row group each; a crash leaves the file of before or this one.

        Args:
            out: the file.
            kept: steps that parts begin with; other files are left over from a crash.
            about: goes into the file's metadata.

        Returns:
            ``rows``, and the mean reciprocal rank ``mrr`` and ``hits@10`` where there are ranks.

        Raises:
            RunError: it cannot be written; the parts stay.
        """
        with writing(out, GO_ON):
            return self._join(out, kept, about)

    def _join(self, out: Path, kept: set[int], about: dict[str, str]) -> dict[str, Any]:
        partial = out.with_name(f".{out.name}.tmp-{os.getpid()}")
        rows, reciprocal, hits, ranked = 0, 0.0, 0, False
        try:
            writer = None
            for step in sorted(kept):
                table = pq.read_table(self._path(step))
                if writer is None:
                    writer = pq.ParquetWriter(partial, table.schema.with_metadata(about))
                writer.write_table(table, row_group_size=max(1, len(table)))
                rows += len(table)
                if RATIO in table.column_names:
                    rank, ranked = table.column(RATIO).to_numpy(), True
                    reciprocal += float((1 / rank).sum())
                    hits += int((rank <= 10).sum())
            assert writer is not None
            writer.close()
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(out.parent)
        return {"rows": rows} | ({"mrr": reciprocal / rows, "hits@10": hits / rows} if ranked else {})

    def _path(self, step: int) -> Path:
        return self.folder / f"part-{step:08d}.parquet"

    def _as_ids(self, nodes: np.ndarray) -> pa.Array:
        return pa.array(nodes.astype(np.int64)) if self._ids is None else self._ids.take(pa.array(nodes))

    def _lists(self, columns: list[Columns]) -> dict[str, pa.Array]:
        real = [each["top"] >= 0 for each in columns]
        nodes = np.concatenate([each["top"][mask] for each, mask in zip(columns, real, strict=True)])
        scores = np.concatenate([each["top_score"][mask] for each, mask in zip(columns, real, strict=True)])
        lengths = np.concatenate([mask.sum(axis=1) for mask in real])
        return {"top_dst": lists_of(self._as_ids(nodes), lengths), "top_score": lists_of(pa.array(scores), lengths)}

    def _classified(self, columns: list[Columns]) -> dict[str, pa.Array]:
        """The class of each event, or a list of classes, and the probability of each class."""
        found, probability = (np.concatenate([each[name] for each in columns]) for name in ("class", "probability"))
        if found.ndim == 1:
            names = self._classes.take(pa.array(found))
        else:
            names = lists_of(self._classes.take(pa.array(np.nonzero(found)[1])), found.sum(axis=1))
        every = np.full(len(probability), probability.shape[1])
        return {"class": names, "probability": lists_of(pa.array(probability.ravel()), every)}
