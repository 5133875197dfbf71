"""Writing files so that a crash leaves the old one or the new one; how mapped ones are read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, under a temporary name, bring it to the disk, and rename it."""
    partial = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries (new and renamed files) to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def release_pages(*arrays: np.ndarray) -> None:
    """Let go of the pages of memory-mapped columns, which then no longer count as this process's memory.

    What was written stays in the system's cache until it is on the disk. Arrays that are not shared maps of files, such
    as copy-on-write ones, are left alone.
    """
    _advise(mmap.MADV_DONTNEED, *arrays)


def expect_random_reads(*arrays: np.ndarray) -> None:
    """Tell the system that memory-mapped columns are read here and there, so that it fetches a page and not megabytes.

    A row of a few bytes that is not in memory otherwise costs a whole read-ahead of the disk, 128 kB to 8 MB.
    """
    _advise(mmap.MADV_RANDOM, *arrays)


@contextmanager
def scanning(*arrays: np.ndarray) -> Iterator[None]:
    """Columns are read from one end to the other meanwhile; afterwards here and there again."""
    _advise(mmap.MADV_SEQUENTIAL, *arrays)
    try:
        yield
    finally:
        expect_random_reads(*arrays)


def _advise(advice: int, *arrays: np.ndarray) -> None:
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and getattr(array, "mode", None) in ("r", "r+", "w+"):
            mapped.madvise(advice)
