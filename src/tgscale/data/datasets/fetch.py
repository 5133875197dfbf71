"""One file from an address to the disk: resumed where it stopped, checked, and whole or not there.

What has arrived lies in ``.NAME.part`` until it is whole and its digest is right. The digest of each file is kept
beside it in ``NAME.sha256`` (as ``sha256sum`` writes it). Where nobody has published one, that of the first fetch is
trusted: it is recorded, and later fetches of the file must have it too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tgscale
from tgscale.data.files import sync_folder, write_atomically
from tgscale.errors import DataError, StoreError

PIECE = 1 << 20
TRIES = 5
TIMEOUT = 60.0
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, int | None], None]
"""Is called with the bytes that have arrived, and how many there will be (None: the server does not say)."""


@dataclass(frozen=True)
class Fetched:
    """A file that is there and was checked.

    Attributes:
        path: where it lies.
        sha256: its digest.
        checked: against what: ``"published"``, ``"given"``, ``"recorded"`` (that of an earlier fetch), or ``"first"``
            (nothing: this was the first).
        new: it was fetched now.
    """

    path: Path
    sha256: str
    checked: str
    new: bool


class _Transient(Exception):
    """What may be otherwise at the next try."""


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    sha1: str | None = None,
    given: str | None = None,
    tries: int = TRIES,
    wait: float = 1.0,
    progress: Progress = lambda done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> Fetched:
    """Fetch a file, unless it is there already; either way it is checked.

    Several processes may ask for one file: one fetches it, the others wait for it.

    Args:
        url: ``http``, ``https`` or ``file``.
        path: where to put it.
        sha256, sha1: published digests, if any.
        given: the SHA-256 that the caller wants, which comes before all others.
        tries: how often to try while nothing new arrives.
        wait: seconds before the second try, doubled for each further one.
        progress: see :data:`Progress`.
        note: is called with a few words when a try has failed and another follows.

    Raises:
        DataError: it cannot be had, or its digest is wrong (the file is kept beside, as ``NAME.wrong``).
        StoreError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f".{path.name}.lock")):
            new = not path.exists()
            if new:
                _download(url, path, tries, wait, progress, note)
            return _checked(path if not new else _part(path), path, sha256, sha1, given, new)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(path.parent).free
            raise StoreError(
                f"disk full while fetching {path}: {free / 1e6:,.1f} MB are free. Free some room, or choose a folder "
                "on another disk with --downloads; what has arrived is kept, the same command goes on from there."
            ) from error
        raise StoreError(f"{path} cannot be written: {error}.") from error


def digest_of(path: Path, kind: str = "sha256") -> str:
    """The digest of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def recorded_digest(path: Path) -> str | None:
    """The SHA-256 that was recorded when the file was first fetched, or None."""
    try:
        words = record_of(path).read_text().split()
    except FileNotFoundError:
        return None
    return words[0].lower() if words else None


def record_of(path: Path) -> Path:
    """Where the digest of a file is recorded."""
    return path.with_name(f"{path.name}.sha256")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # goes with the process, however that ends
        yield
    finally:
        os.close(handle)


def _checked(found: Path, path: Path, sha256: str | None, sha1: str | None, given: str | None, new: bool) -> Fetched:
    digest = digest_of(found)
    recorded = recorded_digest(path)
    expected = {"given": given, "published": sha256, "recorded": recorded}
    name = next((name for name, value in expected.items() if value is not None), None)
    wanted = None if name is None else str(expected[name]).lower()
    if name in (None, "recorded") and sha1 is not None:  # only a SHA-1 was published
        if digest_of(found, "sha1") != sha1.lower():
            raise _wrong(found, path, f"SHA-1 {digest_of(found, 'sha1')}", f"the published one is {sha1}")
        name, wanted = "published", None
    if wanted is not None and digest != wanted:
        raise _wrong(found, path, f"SHA-256 {digest}", f"the {name} one is {wanted}")
    if new:
        os.replace(found, path)
        _about(path).unlink(missing_ok=True)
        sync_folder(path.parent)
    if recorded != digest:
        write_atomically(record_of(path), f"{digest}  {path.name}\n")
    return Fetched(path, digest, name or "first", new)


def _wrong(found: Path, path: Path, has: str, expected: str) -> DataError:
    aside = path.with_name(f"{path.name}.wrong")
    os.replace(found, aside)
    _about(path).unlink(missing_ok=True)
    return DataError(
        f"{path.name} is not the file that was expected: it has {has}, {expected}. It was kept as {aside} and not "
        "used. If its makers have changed the file and you trust the new one, name the new digest: --sha256 HEX."
    )


def _about(path: Path) -> Path:
    return path.with_name(f".{path.name}.part.json")


def _download(url: str, path: Path, tries: int, wait: float, progress: Progress, note: Callable[[str], None]) -> None:
    """Bring the whole file to ``.NAME.part``."""
    part, left, reason = _part(path), tries, ""
    while left:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _receive(url, part, _about(path), progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in TRANSIENT:
                raise _not_had(url, path, f"the server says {error.code} {error.reason}", 1) from None
            reason = f"the server says {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, _Transient) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
            if isinstance(getattr(error, "reason", None), FileNotFoundError):  # file://
                raise _not_had(url, path, reason, 1) from None
        # A connection that brings something each time is worth going on with.
        left = tries - 1 if part.exists() and part.stat().st_size > before else left - 1
        if left:
            pause = wait * 2 ** (tries - 1 - left)
            note(f"{url}: {reason}; next try in {pause:g} s")
            time.sleep(pause)
    raise _not_had(url, path, reason, tries)


def _not_had(url: str, path: Path, reason: str, tries: int) -> DataError:
    times = f" ({tries} times)" if tries > 1 else ""
    kept = f" {_part(path).stat().st_size:,} bytes have arrived and are kept." if _part(path).exists() else ""
    return DataError(
        f"{url} could not be fetched{times}: {reason}.{kept} Without a network, or if the address has changed: get the "
        f"file by hand, put it at {path.absolute()}, and run the same command again; or say where else it lies: "
        "--mirror URL."
    )


def _receive(url: str, part: Path, about: Path, progress: Progress) -> None:
    """One request; goes on at the end of what is there, if the server has the same file still."""
    have, known = (part.stat().st_size, _read(about)) if part.exists() else (0, {})
    headers = {"User-Agent": f"tgscale/{tgscale.__version__}", "Accept-Encoding": "identity"}
    if have and known.get("url") == url and known.get("validator"):
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    else:
        have = 0
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing to add: the file is whole, or another one
            error.close()
            if known.get("size") == have or error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise _Transient("the file on the server has changed") from None
        raise
    with answer:
        if have and getattr(answer, "status", None) != 206:
            have = 0  # the whole file comes: the server cannot go on, or has another one
        elif have and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
            part.unlink()
            raise _Transient(f"the server sent another part than the one asked for, {answer.headers['Content-Range']}")
        length = answer.headers.get("Content-Length")
        size = None if length is None else have + int(length)
        etag = answer.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        write_atomically(about, json.dumps({"url": url, "validator": validator, "size": size}))
        _require(part, have, size)
        _copy(answer, part, have, size, progress)


def _require(part: Path, have: int, size: int | None) -> None:
    if size is not None and shutil.disk_usage(part.parent).free < size - have:
        raise OSError(errno.ENOSPC, "no space left")


def _copy(answer: Any, part: Path, have: int, size: int | None, progress: Progress) -> None:
    with open(part, "r+b" if have else "wb") as file:
        file.seek(have)
        file.truncate()
        progress(have, size)
        whole = True
        try:
            while piece := answer.read(PIECE):
                file.write(piece)
                have += len(piece)
                progress(have, size)
        except http.client.IncompleteRead as error:
            file.write(error.partial)
            have += len(error.partial)
            whole = False
        file.flush()
        os.fsync(file.fileno())
    if not whole or size not in (None, have):
        of = "" if size is None else f" of {size:,}"
        raise _Transient(f"the connection ended after {have:,}{of} bytes")


def _read(about: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(about.read_text())
        return content if isinstance(content, dict) else {}
    return {}
