"""The state directory of predictions: whose it is, and what later predictions take from it when these are done."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tgscale.data.files import write_atomically
from tgscale.data.store import open_stream
from tgscale.errors import ConfigError, DataError, RunError
from tgscale.stream.predict.parts import writing
from tgscale.stream.predict.request import Request, state_beside
from tgscale.stream.predict.start import Base
from tgscale.train.checkpoint import Checkpointer

REQUEST, STREAM, CHECKPOINTS = "request.json", "stream", "checkpoints"
ELSEWHERE = "choose another --out or --state, or make room."


@contextlib.contextmanager
def state_of(request: Request, asked: str, weights: dict[str, Any]) -> Iterator[Path]:
    """The state directory of a request: locked, and of this request alone.

    Args:
        request: what is asked.
        asked: its digest.
        weights: what tells the run's weights and data from others.

    Raises:
        RunError: it is in use, is no such directory, holds the state of another request, or cannot be written.
    """
    folder, file = request.folder, request.folder / REQUEST
    if folder.exists() and not (folder.is_dir() and (file.exists() or not any(folder.iterdir()))):
        raise RunError(f"--state {folder} holds something else: give a directory that is not there, or empty.")
    with writing(folder, ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        request.out.parent.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a")  # noqa: SIM115  (held open as long as the state)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder} is in use by predictions that are still being made: wait for them.") from None
        if file.exists() and _request(folder)["asked"] != asked:
            if not request.overwrite:
                raise RunError(
                    f"{folder} holds the state of other predictions (another run, other rows or options): ask for the "
                    "same to go on with them, or pass --overwrite to throw it away."
                )
            _empty(folder)
        with writing(file, ELSEWHERE):
            write_atomically(file, json.dumps({"asked": asked, "out": str(request.out), "weights": weights}))
        try:
            yield folder
        except (ConfigError, DataError):  # the request's fault: nothing to go on with
            if not (folder / CHECKPOINTS).exists():
                remove(folder)
            raise
        if not request.keep_state:
            remove(folder)


def goes_on(folder: Path) -> bool:
    """Whether a folder is a state that the same request goes on from."""
    return bool(_request(folder).get("asked"))


def _request(folder: Path) -> dict[str, Any]:
    file = folder / REQUEST
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def remove(folder: Path) -> None:
    """Remove a state directory. What is left of it if that is interrupted is the state of nothing."""
    _empty(folder)
    shutil.rmtree(folder.resolve())


def _empty(folder: Path) -> None:
    with writing(folder, ELSEWHERE):
        write_atomically(folder / REQUEST, json.dumps({"asked": None}))
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)


def follow(folder: Path, weights: dict[str, Any]) -> tuple[Base, str]:
    """What was kept of predictions that are done: all events up to then, and the memory after them.

    Args:
        folder: their state directory.
        weights: of the run, as :func:`state_of` got them.

    Returns:
        What new rows follow, and the digest of the request that was done.

    Raises:
        ConfigError: not such a directory.
        RunError: its predictions are not done, were made with other weights, or had no events.
    """
    was = _request(folder)
    if not was.get("asked"):
        beside = state_beside(folder)
        raise ConfigError(
            f"--after {folder} is neither a part of the run (val, test) nor the state of earlier predictions, which "
            "--keep-state leaves at OUT.state." + (f" Did you mean {beside}?" if beside.exists() else "")
        )
    if was.get("weights") != weights:
        raise RunError(
            f"--after {folder}: these predictions were made with other weights or other data than this run's."
        )
    step, state = Checkpointer(folder / CHECKPOINTS).load()
    if step is None or step != state.get("steps"):
        raise RunError(f"--after {folder}: these predictions are not done: ask for them again, with --keep-state.")
    if not (folder / STREAM).exists():
        raise RunError(f"--after {folder}: these predictions brought no events: name what they followed instead.")
    stream = open_stream(folder / STREAM)
    return Base(folder / STREAM, stream, stream.split(), stream.num_events, state["memory"]), was["asked"]
