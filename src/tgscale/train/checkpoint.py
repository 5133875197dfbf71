"""Checkpoints: a nested state, written all or nothing, the newest few kept.

The tensors go through ``torch.distributed.checkpoint``, each rank's into a folder of its own: what a rank holds (its
memory copy) is its own, so nothing has to be planned across ranks. Its default storage keeps its index, and everything
that is not a tensor, as pickles, and unpickling a file that came from somebody else runs their code. So its safetensors
storage is used, which holds tensors and nothing else; the rest of the state (structure, numbers, strings) is JSON
beside it, with the SHA-256 of every shard. Nothing here unpickles anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from tgscale.data.files import sync_folder, write_atomically
from tgscale.errors import ConfigError, RunError
from tgscale.train.distributed import Ranks

logger = logging.getLogger(__name__)

STATE = "state.json"
PREFIX = "step-"


class Checkpointer:
    """Saves and loads states by step; one folder per step, and in it one per rank.

    A state is a nested dict (keys: strings or ints), list or tuple of tensors, numbers, strings, bools and None, such
    as the ``state_dict`` of a module or an optimiser.

    Args:
        folder: where the checkpoints lie; made by the first save. All ranks must see it.
        keep: how many of the newest are kept.
        ranks: the processes that save and load together, each its own state; this process alone unless given.
    """

    def __init__(self, folder: Path | str, keep: int = 2, ranks: Ranks | None = None) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least one checkpoint must be kept")
        self.folder, self.keep, self.ranks = Path(folder), keep, ranks or Ranks()

    def steps(self) -> list[int]:
        """Steps of all checkpoints, oldest first, damaged ones included."""
        names = [entry.name for entry in self.folder.glob(f"{PREFIX}*")]
        return sorted(int(name.removeprefix(PREFIX)) for name in names if name.removeprefix(PREFIX).isdigit())

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a state. Whatever happens, the folder holds the checkpoints of before, or also this one, whole.

        Raises:
            TypeError: the state holds something that is neither a tensor nor a plain value.
            RunError: it cannot be written, for want of room or of permission; on all ranks.
        """
        tensors: dict[str, Tensor] = {}
        structure = _encode(state, "", tensors)
        partial = self.folder / f".{PREFIX}{step}.tmp"
        try:
            with self._writing(step):
                if self.ranks.is_first:
                    shutil.rmtree(partial, ignore_errors=True)
                    partial.mkdir(parents=True)
            own = partial / _shard(self.ranks.rank)
            with self._writing(step):
                own.mkdir()
                _save_tensors(tensors, own)
                files = {f"{own.name}/{file.name}": _describe(file) for file in sorted(own.iterdir())}
            entries = self.ranks.gather_objects({"state": structure, "files": files})
            with self._writing(step):
                if self.ranks.is_first:
                    write_atomically(partial / STATE, json.dumps({"step": step, "ranks": entries}))
                    self._publish(partial, self._path(step))
        finally:
            if self.ranks.is_first:
                shutil.rmtree(partial, ignore_errors=True)
        if self.ranks.is_first:
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self._path(old))

    def load(self, step: int | None = None) -> tuple[int | None, dict[str, Any]]:
        """Read this rank's state; its tensors are on the CPU.

        Args:
            step: which one; the newest unless given. Those that are damaged for any rank are then passed over, with a
                warning.

        Returns:
            Step and state; ``(None, {})`` when there is no checkpoint at all.

        Raises:
            ConfigError: they are of another number of ranks.
            RunError: the step that was asked for is missing or damaged, or all checkpoints are damaged.
        """
        if step is not None:
            return step, self._read(step)
        steps = self.ranks.broadcast_object(self.steps())
        for candidate in reversed(steps):
            try:
                return candidate, self._read(candidate)
            except RunError as error:
                if self.ranks.is_first:
                    logger.warning("%s Trying the one before it.", error)
        if steps:
            raise RunError(
                f"all {len(steps)} checkpoints in {self.folder} are damaged: start again with another --run."
            )
        return None, {}

    def _read(self, step: int) -> dict[str, Any]:
        with self.ranks.together():
            state = _read(self._path(step), self.ranks)
        return state

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        with self.ranks.together():
            try:
                yield
            except (OSError, CheckpointException) as error:
                if isinstance(cause := _cause(error), KeyboardInterrupt):
                    raise cause from None
                raise RunError(
                    f"checkpoint {self._path(step)} cannot be written ({_reason(error)}). Make room or check "
                    "permissions, then go on with --resume: the checkpoints of before are as they were."
                ) from error

    def _path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step:08d}"

    def _publish(self, partial: Path, path: Path) -> None:
        if path.exists():  # a resumed run comes by a step that was saved before
            shutil.rmtree(path)
        os.rename(partial, path)
        sync_folder(self.folder)


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON. Every JSON object is a tag: a tensor's name, or the kind of a container."""
    if isinstance(value, Tensor):
        if name in tensors:
            raise TypeError(f"two tensors of the state are both called {name!r}")
        for known, tensor in tensors.items():
            if value.is_set_to(tensor):  # one parameter that several modules share
                return {"tensor": known}
        tensors[name] = value.detach().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"key {key!r} of {name or 'the state'} is {type(key).__name__}: strings and ints only")
        return {"dict": [[key, _encode(item, f"{name}/{key}".lstrip("/"), tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if value is None or type(value) in (str, bool, int, float):
        return value
    raise TypeError(f"{name} is {type(value).__name__}: a checkpoint holds tensors and plain values")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)


def _save_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    if tensors:
        with _one_process():
            dcp.save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True), no_dist=True)


def _load_tensors(folder: Path) -> dict[str, Tensor]:
    reader = HuggingFaceStorageReader(str(folder))
    found = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in found.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    if tensors:
        with _one_process():
            dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


class _one_process(warnings.catch_warnings):
    """Keeps torch from telling that there is no process group: that is meant."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def _describe(file: Path) -> dict[str, Any]:
    with open(file, "rb") as handle:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}


def _read(path: Path, ranks: Ranks) -> dict[str, Any]:
    try:
        saved = json.loads((path / STATE).read_text(encoding="utf-8"))["ranks"]
        if len(saved) != ranks.world:
            raise ConfigError(
                f"checkpoint {path} is of {len(saved)} ranks, and now there are {ranks.world}: start as many."
            )
        entry = saved[ranks.rank]
        wrong = [name for name, is_ in entry["files"].items() if _describe(path / name) != is_]
        if wrong:
            raise RunError(f"checkpoint {path} is damaged: {wrong[0]} is not what was written.")
        return _decode(entry["state"], _load_tensors(path / _shard(ranks.rank)) if entry["files"] else {})
    except FileNotFoundError as error:
        raise RunError(f"checkpoint {path} is missing or incomplete: {error.filename} not found.") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError, CheckpointException) as error:
        raise RunError(f"checkpoint {path} is damaged ({_reason(error)}).") from error


def _shard(rank: int) -> str:
    return f"rank-{rank:05d}"


def _cause(error: BaseException) -> BaseException:
    """The error below those that torch wraps around it."""
    return next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error


def _reason(error: BaseException) -> str:
    error = _cause(error)
    return getattr(error, "strerror", None) or repr(error)
