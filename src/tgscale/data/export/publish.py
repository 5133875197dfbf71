"""Files that take their place when all of them are on disk: a crash leaves the old ones or the new ones."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from tgscale.data.directory import META
from tgscale.data.files import sync_folder
from tgscale.errors import StoreError


@contextmanager
def publishing(out: Path, files: tuple[str, ...], overwrite: bool) -> Iterator[Path]:
    """A path to write to, in a hidden folder beside the target; what lies in it moves to its place at the end.

    Args:
        out: the target: a file (with those beside it whose names begin like its own), or a folder.
        files: for a folder, patterns of the files that it may hold; none for a file.
        overwrite: replace what is there; a folder only if it holds nothing but such files.

    Raises:
        StoreError: the target exists, the disk is full, or the target cannot be written.
    """
    out = out.absolute()
    _check(out, files, overwrite)
    folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder / out.name
        _sync(folder)
        _check(out, files, overwrite)
        if files:
            _replace_folder(folder / out.name, out)
        else:
            _move_files(folder, out, overwrite)
        sync_folder(out.parent)
    except OSError as error:
        raise _said(out, folder, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(out: Path, files: tuple[str, ...], overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise StoreError(f"{out} already exists: choose another target, or pass --overwrite to replace it.")
    if not files and out.is_dir():
        raise StoreError(f"{out} is a folder, and this format is a file: give the name of a file.")
    if files and not out.is_dir():
        raise StoreError(f"{out} is a file, and this format is a folder: give the name of a folder.")
    if files:
        others = [file.name for file in out.iterdir() if not any(fnmatch(file.name, known) for known in files)]
        if others or (out / META).exists():
            raise StoreError(f"{out} holds other files ({', '.join(sorted(others)[:3])}): choose another target.")


def _sync(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())


def _replace_folder(new: Path, out: Path) -> None:
    old = out.parent / f".{out.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _move_files(folder: Path, out: Path, overwrite: bool) -> None:
    # The main file last: while it is the old one, or not there, nobody takes the export for whole.
    for file in sorted(folder.iterdir(), key=lambda file: file.name == out.name):
        target = out.parent / file.name
        if not overwrite and os.path.lexists(target):
            raise StoreError(f"{target} already exists: choose another target, or pass --overwrite to replace it.")
        os.replace(file, target)


def _said(out: Path, folder: Path, error: OSError) -> StoreError:
    free = shutil.disk_usage(folder if folder.exists() else next(p for p in out.parents if p.exists())).free
    # Libraries do not all pass on why a write failed.
    if error.errno == errno.ENOSPC or "No space left" in str(error) or (error.errno is None and free < 1 << 20):
        return StoreError(
            f"disk full while writing {out}: {free / 1e6:,.1f} MB are free there. Free some room or choose a target on "
            "another disk; nothing was left behind."
        )
    return StoreError(f"{out} cannot be written: {error}. Choose another target, or correct what is named.")
