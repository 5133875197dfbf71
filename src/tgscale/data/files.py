"""Writing files so that a crash leaves the old one or the new one; letting go of mapped ones."""

from __future__ import annotations

import mmap
import os
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
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and getattr(array, "mode", None) in ("r", "r+", "w+"):
            mapped.madvise(mmap.MADV_DONTNEED)
