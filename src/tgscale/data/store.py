"""The data directory: memory-mapped ``.npy`` columns beside a ``meta.json``.

A directory is written under a temporary name beside its target and renamed when everything is on disk, so a crash
leaves the old one or the new one. All processes of a machine that open it share one page cache.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np

import tgscale
from tgscale.data.files import sync_folder
from tgscale.data.index import TCSR, PairIndex, build_tcsr, pair_index_of
from tgscale.data.stream import EventStream, Split
from tgscale.errors import StoreError

FORMAT_VERSION = 1
CHUNK_BYTES = 8 << 20
META = "meta.json"
NODE_IDS = "node_ids.parquet"
EVENT_COLUMNS = ("src", "dst", "time")
INDEX_COLUMNS = ("tcsr_indptr", "tcsr_neighbor", "tcsr_event_id", "pairs_indptr", "pairs_partner", "pairs_event_id")
OPTIONAL = ("label", "edge_features", "node_features")


def save_stream(stream: EventStream, path: str | Path, overwrite: bool = False) -> None:
    """Write a stream, with its T-CSR and pair index, as a data directory.

    Args:
        stream: what to write.
        path: the directory to make.
        overwrite: replace a data directory that is already there.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    with writing(path, overwrite) as writer:
        for name in (*EVENT_COLUMNS, *OPTIONAL):
            array = getattr(stream, name)
            if array is not None:
                writer.create(name, array.dtype, array.shape)
                writer.append(name, array)
        writer.write_indices(stream.num_nodes)
        writer.commit(
            name=stream.name,
            num_nodes=stream.num_nodes,
            time_unit=stream.time_unit,
            num_sources=stream.num_sources,
            source_split=stream.source_split,
            source={"format": "memory"},
        )


def open_stream(path: str | Path, verify: bool = False) -> EventStream:
    """Open a data directory; columns are read-only memory maps, so nothing is read until it is used.

    Args:
        path: the data directory.
        verify: also read every file and compare its SHA-256 with the one in ``meta.json``.

    Raises:
        StoreError: no data directory, written by a newer tgscale, a file that is missing or cut short, a column of
            another type or shape than ``meta.json`` says, or (with ``verify``) of another checksum.
    """
    path = Path(path)
    _recover(path)
    meta = read_meta(path)
    for name, entry in meta["files"].items():
        _check_file(path / name, entry, verify)
    columns = {name: _open_column(path, name, meta["columns"][name]) for name in meta["columns"]}
    _check_counts(path, meta, columns)
    split = meta["source_split"]
    return EventStream(
        src=columns["src"],
        dst=columns["dst"],
        time=columns["time"],
        num_nodes=meta["nodes"],
        label=columns.get("label"),
        edge_features=columns.get("edge_features"),
        node_features=columns.get("node_features"),
        num_sources=meta["num_sources"],
        source_split=None if split is None else Split(**split),
        time_unit=meta["time_unit"],
        name=meta["name"],
        path=path,
        stored_tcsr=TCSR(columns["tcsr_indptr"], columns["tcsr_neighbor"], columns["tcsr_event_id"]),
        stored_pairs=PairIndex(columns["pairs_indptr"], columns["pairs_partner"], columns["pairs_event_id"]),
    )


def fingerprint(path: str | Path) -> str:
    """A digest of what a data directory holds, from the checksums of its files."""
    return hashlib.sha256(json.dumps(read_meta(path)["files"], sort_keys=True).encode()).hexdigest()


def read_meta(path: str | Path) -> dict[str, Any]:
    """The parsed ``meta.json`` of a data directory.

    Raises:
        StoreError: the directory or the file is missing, is not valid JSON, or is of a newer version.
    """
    file = Path(path) / META
    try:
        meta = json.loads(file.read_text())
        version = meta["format_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{path} is not a tgscale data directory: {META} not found. Make one with `tgscale data import`."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error!r}): import the data again.") from None
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} is of store version {version}, this tgscale ({tgscale.__version__}) reads version "
            f"{FORMAT_VERSION}: upgrade tgscale, or import the data again."
        )
    missing = {"name", "events", "nodes", "time_unit", "num_sources", "source_split", "columns", "files"} - set(meta)
    missing |= set(EVENT_COLUMNS + INDEX_COLUMNS) - set(meta.get("columns", ()))
    if missing:
        raise StoreError(f"{file} is damaged, it lacks {sorted(missing)}: import the data again.")
    return meta


def lookup_nodes(path: str | Path, ids: list[Any], side: str | None = None) -> np.ndarray:
    """Node numbers of source ids.

    Args:
        path: the data directory.
        ids: ids as they stood in the source, integers or strings.
        side: ``"src"`` or ``"dst"``; needed for a bipartite stream, whose two id spaces are apart.

    Returns:
        int64, shape ``[len(ids)]``; -1 for an id that the source did not have.

    Raises:
        StoreError: a bipartite stream and no ``side``.
    """
    meta = read_meta(path)
    first, last = _side_range(path, meta, side)
    if NODE_IDS not in meta["files"]:
        # The source's ids were dense already; a bipartite stream only moved its destinations up by num_sources.
        nodes = np.array([int(i) if str(i).isdecimal() else -1 for i in ids], np.int64) + first
        return np.where((nodes >= first) & (nodes < last), nodes, -1)
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT n.node FROM unnest($ids::VARCHAR[]) WITH ORDINALITY AS wanted(id, place) "
            "LEFT JOIN (SELECT node, id::VARCHAR AS id FROM read_parquet($file) "
            "WHERE node >= $first AND node < $last) n ON n.id = wanted.id ORDER BY place",
            {"ids": [str(i) for i in ids], "file": str(Path(path) / NODE_IDS), "first": first, "last": last},
        ).fetchall()
    return np.array([-1 if node is None else node for (node,) in rows], np.int64)


def _side_range(path: str | Path, meta: dict[str, Any], side: str | None) -> tuple[int, int]:
    if meta["num_sources"] is None:
        return 0, meta["nodes"]
    if side not in ("src", "dst"):
        raise StoreError(f"{path} is bipartite, its sources and destinations have ids of their own: give side.")
    return (0, meta["num_sources"]) if side == "src" else (meta["num_sources"], meta["nodes"])


class StoreWriter:
    """Columns of a data directory while it is being written. Made by :func:`writing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, BinaryIO] = {}
        self._columns: dict[str, dict[str, Any]] = {}
        self.committed = False
        self._needed = 0

    @property
    def bytes_planned(self) -> int:
        """Bytes that the directory needs, as far as is known."""
        return max(self._needed, sum(entry["bytes"] for entry in self._columns.values()))

    def require(self, size: int) -> None:
        """Refuse at once when the disk has no room for a directory of this many bytes."""
        self._needed = size
        if shutil.disk_usage(self.folder).free < size:
            raise OSError(errno.ENOSPC, "no space left")

    def create(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        """Make a column of known type and shape, and take its room on disk at once, so that a full disk shows early
        and as an error (a memory map that finds no room kills the process)."""
        dtype = np.dtype(dtype)
        file = open(self.folder / f"{name}.npy", "wb+")  # noqa: SIM115  (closed by commit or close)
        self._open[name] = file
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        size = file.tell() + dtype.itemsize * int(np.prod(shape))
        self._columns[name] = {"dtype": dtype.str, "shape": list(shape), "bytes": size}
        _reserve(file, size)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Write the next rows of a column."""
        dtype = self._columns[name]["dtype"]
        step = max(1, CHUNK_BYTES // max(1, rows[:1].nbytes))
        for at in range(0, len(rows), step):  # in pieces, so that converting a memory map stays small
            self._open[name].write(np.ascontiguousarray(rows[at : at + step], dtype).data)

    def mapped(self, name: str) -> np.ndarray:
        """A column as a writable memory map."""
        self._open[name].flush()
        return np.load(self.folder / f"{name}.npy", mmap_mode="r+", allow_pickle=False)

    def _create_mapped(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        self.create(name, dtype, shape)
        return self.mapped(name)

    def write_indices(self, num_nodes: int) -> None:
        """Build T-CSR and pair index of the columns ``src`` and ``dst`` straight into their files."""
        src, dst = self.mapped("src"), self.mapped("dst")
        tcsr = build_tcsr(src, dst, num_nodes, lambda name, *spec: self._create_mapped(f"tcsr_{name}", *spec))
        pair_index_of(tcsr, src, dst, lambda name, *spec: self._create_mapped(f"pairs_{name}", *spec))

    def commit(
        self,
        *,
        name: str,
        num_nodes: int,
        time_unit: str,
        num_sources: int | None,
        source_split: Split | None,
        source: dict[str, Any],
    ) -> None:
        """Write everything out, with checksums and ``meta.json`` last."""
        self.close()
        shapes = {column: entry["shape"] for column, entry in self._columns.items()}
        meta = {
            "format_version": FORMAT_VERSION,
            "tgscale_version": tgscale.__version__,
            "name": name,
            "events": shapes["src"][0],
            "nodes": num_nodes,
            "edge_dim": shapes["edge_features"][1] if "edge_features" in shapes else 0,
            "node_dim": shapes["node_features"][1] if "node_features" in shapes else 0,
            "time_unit": time_unit,
            "num_sources": num_sources,
            "source_split": None if source_split is None else asdict(source_split),
            "source": source,
            "columns": {column: {k: entry[k] for k in ("dtype", "shape")} for column, entry in self._columns.items()},
            "files": {file.name: _describe(file) for file in sorted(self.folder.iterdir())},
        }
        with open(self.folder / META, "w") as file:
            json.dump(meta, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.folder)
        self.committed = True

    def close(self) -> None:
        """Flush and close all columns."""
        while self._open:
            self._open.popitem()[1].close()


@contextmanager
def writing(path: str | Path, overwrite: bool = False) -> Iterator[StoreWriter]:
    """Write a data directory: the body fills the writer and ends with ``commit``.

    On any exception the temporary directory goes, and the target is as it was.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    path = Path(path).absolute()
    check_target(path, overwrite)
    folder = path.parent / f".{path.name}.tmp-{os.getpid()}"
    writer = StoreWriter(folder)
    with _said(path, writer):
        path.parent.mkdir(parents=True, exist_ok=True)
        _recover(path)
        _remove_stale(path)
        folder.mkdir()
        try:
            with _locked(folder):
                yield writer
                if not writer.committed:
                    raise RuntimeError("a data directory was written without commit()")
                check_target(path, overwrite)
                _publish(folder, path)
        finally:
            with suppress(OSError):  # what is not on disk by now is thrown away
                writer.close()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _said(path: Path, writer: StoreWriter) -> Iterator[None]:
    """Say in words what the system could not do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(path, writer.bytes_planned) from error
        raise StoreError(f"{path} cannot be made: {error}. Choose another target, or correct what is named.") from error


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that exists, unless it is a data directory and may be replaced."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise StoreError(f"{path} already exists: choose another target, or pass --overwrite to replace it.")
    empty = path.is_dir() and not any(path.iterdir())
    if not empty and not (path / META).is_file():
        raise StoreError(f"{path} exists and is not a tgscale data directory, so it is not replaced: choose another.")


def disk_full(path: Path, needed: int) -> StoreError:
    """The error for a disk that has no room for a data directory of ``needed`` bytes (0: not known yet)."""
    free = shutil.disk_usage(path.parent).free
    need = f"{needed / 1e6:,.1f} MB are needed there" if needed else "the source alone does not fit there"
    return StoreError(
        f"disk full while writing {path}: {need}, {free / 1e6:,.1f} MB are free. Free some room or choose a target on "
        "another disk; nothing was left behind."
    )


def _reserve(file: BinaryIO, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, max(size, 1))
    else:
        os.truncate(file.fileno(), size)


def _describe(file: Path) -> dict[str, Any]:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The lock goes with its process, however that ends: so a folder without a lock is a crashed import's.
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _publish(folder: Path, path: Path) -> None:
    old = path.parent / f".{path.name}.old"
    if os.path.lexists(path):
        os.rename(path, old)
    os.rename(folder, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _recover(path: Path) -> None:
    """Put the old directory back when a crash fell between the two renames of a replacement."""
    path = path.absolute()
    old = path.parent / f".{path.name}.old"
    if not old.exists() or any(_in_use(folder) for folder in _temporaries(path)):
        return
    if os.path.lexists(path):
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(old, path)


def _temporaries(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{glob.escape(path.name)}.tmp-*"))


def _in_use(folder: Path) -> bool:
    try:
        with _locked(folder):
            return False
    except BlockingIOError:
        return True


def _remove_stale(path: Path) -> None:
    for folder in _temporaries(path):
        if _in_use(folder):
            raise StoreError(f"{path} is being written by another process ({folder}): wait for it.")
        shutil.rmtree(folder)


def _check_file(file: Path, entry: dict[str, Any], verify: bool) -> None:
    if not file.is_file():
        raise StoreError(f"{file} is missing: import the data again.")
    size = file.stat().st_size
    if size != entry["bytes"]:
        raise StoreError(f"{file} has {size} bytes, {entry['bytes']} were written: it is damaged, import again.")
    if verify and _describe(file)["sha256"] != entry["sha256"]:
        raise StoreError(f"{file} does not match its SHA-256 in {META}: it was altered, import the data again.")


def _open_column(path: Path, name: str, entry: dict[str, Any]) -> np.ndarray:
    file = path / f"{name}.npy"
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise StoreError(f"{file} cannot be opened ({error}): it is damaged, import the data again.") from None
    if array.dtype.str != entry["dtype"] or list(array.shape) != entry["shape"]:
        raise StoreError(
            f"{file} holds {array.dtype.str} {list(array.shape)}, {META} says {entry['dtype']} {entry['shape']}: "
            "it is damaged, import the data again."
        )
    return array


def _check_counts(path: Path, meta: dict[str, Any], columns: dict[str, np.ndarray]) -> None:
    events, nodes = meta["events"], meta["nodes"]
    rows = dict.fromkeys(("src", "dst", "time", "label", "edge_features", "pairs_partner", "pairs_event_id"), events)
    rows |= {"tcsr_indptr": nodes + 1, "pairs_indptr": nodes + 1, "node_features": nodes}
    rows |= dict.fromkeys(("tcsr_neighbor", "tcsr_event_id"), len(columns["tcsr_neighbor"]))
    for name, array in columns.items():
        if len(array) != rows.get(name, len(array)):
            raise StoreError(f"{path}: column {name} has {len(array)} rows, {rows[name]} expected from {META}.")
