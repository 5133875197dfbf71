"""A folder of memory-mapped ``.npy`` columns beside a ``meta.json``: what both kinds of data directory are made of.

A directory is written under a temporary name beside its target and renamed when everything is on disk, so a crash
leaves the old one or the new one. All processes of a machine that open it share one page cache. What the columns mean
is the business of :mod:`tgscale.data.store` (event streams) and :mod:`tgscale.data.snapshot_store`.
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

import tgscale
from tgscale.data.files import sync_folder
from tgscale.errors import StoreError

FORMAT_VERSION = 1
CHUNK_BYTES = 8 << 20
META = "meta.json"
KINDS = {"stream": "an event stream", "snapshots": "a snapshot sequence"}


def read_json(path: str | Path) -> dict[str, Any]:
    """The parsed ``meta.json`` of a data directory of either kind.

    Raises:
        StoreError: the directory or the file is missing, is not valid JSON, or is of a newer version.
    """
    file = Path(path) / META
    try:
        meta = json.loads(file.read_text())
        version = meta["format_version"]
    except (FileNotFoundError, NotADirectoryError):
        if Path(path).is_file():
            how = f"it is a file. Import it first: `tgscale data import {path} --out DIR`, and give DIR."
        elif (Path(path) / "config.yaml").is_file():
            how = "it looks like a run directory. Give the data directory that the run was made from, or another."
        elif not Path(path).exists():
            how = f"there is nothing of that name.{near_path(path, META)} Make one with `tgscale data import`."
        else:
            how = f"{META} not found. Make one with `tgscale data import`."
        raise StoreError(f"{path} is not a tgscale data directory: {how}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error!r}): import the data again.") from None
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} is of store version {version}, this tgscale ({tgscale.__version__}) reads version "
            f"{FORMAT_VERSION}: upgrade tgscale, or import the data again."
        )
    missing = {"columns", "files"} - set(meta)
    if missing:
        raise StoreError(f"{file} is damaged, it lacks {sorted(missing)}: import the data again.")
    return meta


def kind_of(path: str | Path) -> str:
    """What a data directory holds: ``"stream"`` or ``"snapshots"``.

    Raises:
        StoreError: not a data directory, or a damaged one.
    """
    return read_json(path).get("kind", "stream")


def read_kind(path: str | Path, kind: str, needed: set[str], columns: set[str]) -> dict[str, Any]:
    """``meta.json`` of a directory that must be of one kind and must have these keys and columns.

    Raises:
        StoreError: it is of the other kind, or damaged.
    """
    meta = read_json(path)
    found = meta.get("kind", "stream")
    if found != kind:
        raise StoreError(
            f"{path} holds {KINDS.get(found, repr(found))}, {KINDS[kind]} is expected here. Events become snapshots by "
            "`tgscale data import DIR --out NEW --every 1d`; to read either kind see `tgscale data info DIR`."
        )
    missing = (needed - set(meta)) | (columns - set(meta["columns"]))
    if missing:
        raise StoreError(f"{Path(path) / META} is damaged, it lacks {sorted(missing)}: import the data again.")
    return meta


def near_path(path: str | Path, has: str) -> str:
    """The name nearest to that of a folder which is not there, among those beside it that hold a file ``has``."""
    path = Path(path)
    beside = [each.name for each in path.parent.glob("*") if (each / has).is_file()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.with_name(near[0])}?" if near else ""


def fingerprint(path: str | Path) -> str:
    """A digest of what a data directory of either kind holds, from the checksums of its files."""
    return hashlib.sha256(json.dumps(read_json(path)["files"], sort_keys=True).encode()).hexdigest()


def open_columns(path: Path, meta: dict[str, Any], verify: bool) -> dict[str, np.ndarray]:
    """All columns as read-only memory maps, after a check of every file's size (with ``verify``, of its SHA-256).

    Raises:
        StoreError: a file that is missing, cut short, altered, or of another type or shape than ``meta`` says.
    """
    for name, entry in meta["files"].items():
        _check_file(path / name, entry, verify)
    return {name: _open_column(path, name, meta["columns"][name]) for name in meta["columns"]}


def check_lengths(path: Path, columns: dict[str, np.ndarray], expected: dict[str, int]) -> None:
    """Refuse columns whose number of rows is not the one that the counts in ``meta.json`` ask for."""
    for name, array in columns.items():
        if len(array) != expected.get(name, len(array)):
            raise StoreError(f"{path}: column {name} has {len(array)} rows, {expected[name]} expected from {META}.")


class DirectoryWriter:
    """Columns of a data directory while it is being written. Made by :func:`writing_as`."""

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

    def create_mapped(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Make a column that is filled through a memory map; it starts as zeros."""
        self.create(name, dtype, shape)
        return self.mapped(name)

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of each column made so far."""
        return {column: entry["shape"] for column, entry in self._columns.items()}

    def finish(self, meta: dict[str, Any]) -> None:
        """Write everything out, with checksums and ``meta.json`` last; ``meta`` is what only this kind knows."""
        self.close()
        meta = {
            "format_version": FORMAT_VERSION,
            "tgscale_version": tgscale.__version__,
            **meta,
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


Writer = TypeVar("Writer", bound=DirectoryWriter)


@contextmanager
def writing_as(writer_type: type[Writer], path: str | Path, overwrite: bool = False) -> Iterator[Writer]:
    """Write a data directory: the body fills a writer of this type and ends with its ``commit``.

    On any exception the temporary directory goes, and the target is as it was.

    Raises:
        StoreError: the target exists and ``overwrite`` is off, or the disk is full.
    """
    path = Path(path).absolute()
    check_target(path, overwrite)
    folder = path.parent / f".{path.name}.tmp-{os.getpid()}"
    writer = writer_type(folder)
    with _said(path, writer):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
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
def _said(path: Path, writer: DirectoryWriter) -> Iterator[None]:
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
    if not path.is_dir() or {entry.name for entry in path.iterdir()} - _own_files(path):
        raise StoreError(
            f"{path} exists and is not a tgscale data directory, or holds other files too, so it is not replaced: "
            "choose another, or remove it yourself."
        )


def _own_files(path: Path) -> set[str]:
    """Names of the files that belong to a data directory, as its ``meta.json`` lists them; none for another's."""
    try:
        meta = json.loads((path / META).read_text())
        return {META, *meta["files"]} if "format_version" in meta else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


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


def recover(path: Path) -> None:
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
