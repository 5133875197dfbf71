"""Files that take their place when all of them are on disk: a crash leaves the old ones or the new ones."""

from __future__ import annotations

import errno
import glob
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
def publishing(out: Path, files: tuple[str, ...], overwrite: bool, least: int = 0) -> Iterator[Path]:
    """A path to write to, in a hidden folder beside the target; what lies in it moves to its place at the end.

    Args:
        out: the target: a file (with those beside it whose names begin like its own), or a folder.
        files: for a folder, patterns of the files that it may hold; none for a file.
        overwrite: replace what is there; a folder only if it holds nothing but such files.
        least: bytes that will be needed at least; a disk that has fewer is refused at once.

    Raises:
        StoreError: the target exists, the disk is full, or the target cannot be written.
    """
    out = out.absolute()
    _recover(out)
    _check(out, files, overwrite)
    folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        if shutil.disk_usage(folder).free < least:
            raise OSError(errno.ENOSPC, "No space left on device")
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


def _recover(out: Path) -> None:
    """Tidy up after a crash: what it had begun goes, what it had put aside comes back."""
    for folder in out.parent.glob(f".{glob.escape(out.name)}.tmp-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdecimal() and (int(pid) == os.getpid() or not _runs(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)
    old = _old(out)
    if old.exists() and not os.path.lexists(out):
        os.rename(old, out)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _old(out: Path) -> Path:
    return out.parent / f".{out.name}.old"


def _sync(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())


def _replace_folder(new: Path, out: Path) -> None:
    old = _old(out)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _move_files(folder: Path, out: Path, overwrite: bool) -> None:
    # The main file last: while it is the old one, or not there, nobody takes the export for whole.
    files = sorted(folder.iterdir(), key=lambda file: file.name == out.name)
    for target in (out.parent / file.name for file in files):
        if not overwrite and os.path.lexists(target):
            raise StoreError(f"{target} already exists: choose another target, or pass --overwrite to replace it.")
    for file in files:
        os.replace(file, out.parent / file.name)


def _said(out: Path, folder: Path, error: OSError) -> StoreError:
    free = shutil.disk_usage(folder if folder.exists() else next(p for p in out.parents if p.exists())).free
    # Libraries do not all pass on why a write failed.
    if error.errno == errno.ENOSPC or "No space left" in str(error) or (error.errno is None and free < 1 << 20):
        return StoreError(
            f"disk full while writing {out}: {free / 1e6:,.1f} MB are free there. Free some room or choose a target on "
            "another disk; nothing was left behind."
        )
    return StoreError(f"{out} cannot be written: {error}. Choose another target, or correct what is named.")
