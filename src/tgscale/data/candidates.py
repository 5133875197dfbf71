"""Candidate destinations from a file: one list for all rows, or a list for each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tgscale.data.columns import USUAL
from tgscale.data.directory import DirectoryWriter, open_columns, read_json, writing_as
from tgscale.data.following import Rows
from tgscale.data.formats import read_source
from tgscale.data.formats.source import FILE_COLUMN, sql_name
from tgscale.data.ids import NodeIds
from tgscale.data.problems import refuse_bad_lines
from tgscale.data.work import parse_memory, work_database
from tgscale.errors import DataError

ROW = "row"


@dataclass(frozen=True)
class Candidates:
    """Candidate destinations.

    Attributes:
        node: node numbers: ascending and each once (one list for all), or list after list, each in the file's order.
        indptr: list ``i``, of row ``i`` in time order, is ``node[indptr[i]:indptr[i + 1]]``; None: one list for all.
        unknown: ids of the file that are no nodes, and were left out.
    """

    node: np.ndarray
    indptr: np.ndarray | None
    unknown: int


def open_candidates(folder: Path) -> Candidates:
    """What :func:`read_candidates` wrote, memory-mapped."""
    meta = read_json(folder)
    columns = open_columns(folder, meta, verify=False)
    return Candidates(columns["node"], columns.get("indptr"), meta["unknown"])


def read_candidates(
    file: Path, data: Path, rows: Rows, folder: Path, *, dst: str | None = None, memory_limit: str = "2GB"
) -> Candidates:
    """Read a table of candidates into a folder of columns.

    Args:
        file: a table with a column of destination ids and, for lists of each row's own, a column ``row``: the place of
            the row in its source, from 0.
        data: the data directory whose nodes they are.
        rows: what they are candidates for; new nodes of theirs are known, too.
        folder: to make.
        dst: the column of ids, where its name is not a usual one and there are several columns.
        memory_limit: about how much memory this may take.

    Raises:
        DataError: no such file or column, no known node, a row without candidates.
    """
    if not file.exists():
        raise DataError(f"--candidates {file} not found: give a CSV, Parquet or JSON file with a column of ids.")
    ids = NodeIds(data, rows.num_nodes, rows.node_ids)
    with writing_as(DirectoryWriter, folder) as writer:
        work = writer.folder / "work"
        with work_database(work, parse_memory(memory_limit), None) as db:
            source = read_source([file], "auto", work)
            relation = source.relation
            names = [name for name, *_ in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
            names = [name for name in names if name != FILE_COLUMN]
            row, column = _columns(
                file, names, dst or (ids.meta.get("source") or {}).get("columns", {}).get("dst"), dst
            )
            place = f"try_cast({sql_name(row)} AS BIGINT)" if row else "0"
            listed = f"SELECT {place} AS row, {sql_name(column)}::VARCHAR AS id FROM {relation}"
            db.execute(f"CREATE TABLE listed AS {listed}")
            refuse_bad_lines(db, source, "--candidates")
            wrong = db.execute("SELECT rowid FROM listed WHERE row IS NULL ORDER BY rowid LIMIT 1").fetchall()
            if wrong:
                raise DataError(
                    f"--candidates {file}, row {wrong[0][0] + 1}: the value of column {row!r} is no whole number."
                )
            known = f"SELECT node, id::VARCHAR AS id FROM ({ids.known('dst')})"
            db.execute(
                f"CREATE TABLE found AS SELECT listed.rowid AS line, row, node FROM listed JOIN ({known}) USING (id)"
            )
            unknown = db.execute("SELECT count(DISTINCT id) FROM listed WHERE rowid NOT IN (SELECT line FROM found)")
            left_out = unknown.fetchall()[0][0]
            if not db.execute("SELECT count(*) FROM found").fetchall()[0][0]:
                raise DataError(
                    f"{file}: none of its ids in column {column!r} is a node of the data, so nothing can be ranked."
                )
            if row is None:
                nodes = db.execute("SELECT DISTINCT node FROM found ORDER BY node").fetchnumpy()["node"]
            else:
                db.register("places", pa.table({"row": np.asarray(rows.row), "place": np.arange(len(rows.row))}))
                db.execute("CREATE TABLE sorted AS SELECT place, node, line FROM found JOIN places USING (row)")
                table = db.execute("SELECT place, node FROM sorted ORDER BY place, line").fetchnumpy()
                nodes = table["node"]
                indptr = np.zeros(len(rows.row) + 1, np.int64)
                np.cumsum(np.bincount(table["place"], minlength=len(rows.row)), out=indptr[1:])
                _check_all(file, rows, indptr)
                writer.create("indptr", np.int64, indptr.shape)
                writer.append("indptr", indptr)
            writer.create("node", np.int64, nodes.shape)
            writer.append("node", nodes)
        shutil.rmtree(work)
        writer.finish({"kind": "candidates", "unknown": left_out})
    return open_candidates(folder)


def _columns(file: Path, names: list[str], wanted: str | None, given: str | None) -> tuple[str | None, str]:
    row = next((name for name in names if name.lower() == ROW), None)
    others = [name for name in names if name != row]
    if wanted in others:
        return row, str(wanted)
    if given is not None:
        raise DataError(f"--candidates {file} has no column {given!r}; it has {', '.join(names)}.")
    usual = [name for name in others if name.lower() in USUAL["dst"]]
    if not usual and len(others) != 1:
        raise DataError(
            f"--candidates {file} has the columns {', '.join(names)}, and none is called like a destination: call it "
            "dst, or say which one it is with --dst."
        )
    return row, (usual or others)[0]


def _check_all(file: Path, rows: Rows, indptr: np.ndarray) -> None:
    empty = np.flatnonzero(np.diff(indptr) == 0)
    if len(empty):
        raise DataError(
            f"--candidates {file}: {len(empty):,} rows have no candidate that is a node, such as row "
            f"{int(rows.row[empty[0]])}. Give each at least one, or one list for all (without a column {ROW})."
        )
