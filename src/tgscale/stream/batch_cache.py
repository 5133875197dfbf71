"""Batches on the disk, so that each is sampled once: what DistTGL does before training and does not count, counted.

A batch is a file of named tensors (safetensors, nothing pickled) with a checksum. Its folder is named after a hash of
all that the batches depend on, so a batch of other data or other options is never found. Negatives, and uniformly drawn
neighbors, are what differs from epoch to epoch: a number of *sets* is kept (DistTGL: 32), to be used in turn.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import tgscale
from tgscale.errors import ConfigError, RunError
from tgscale.stream.batch import Batch

logger = logging.getLogger(__name__)

CACHE_VERSION = 1
"""Raise it when a batch changes in what it holds, so that no batch of before is used."""

CHECKSUM = "crc32"


class BatchCache:
    """Keeps the batches of one stream and one set of options. Several processes may fill and use the same folder.

    Args:
        folder: where caches lie; this one in a subfolder of its own, made here.
        key: all that batches depend on: fingerprint of the data, sampling, batch size, negatives, seed. JSON values.
        sets: how many sets of negatives there are.

    Attributes:
        path: the subfolder.

    Raises:
        ConfigError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path | str, key: dict[str, Any], sets: int) -> None:
        if sets < 1:
            raise ValueError(f"sets is {sets}: give 1 or more")
        self.sets = sets
        complete = {"key": key, "version": CACHE_VERSION, "tgscale": tgscale.__version__}
        text = json.dumps(complete, sort_keys=True, indent=1)
        self.path = Path(folder).expanduser() / f"batches-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        self.hits = self.misses = self.damaged = self.bytes_read = self.bytes_written = 0
        self.seconds_reading = self.seconds_writing = self.seconds_preparing = 0.0
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(self.path / "key.json", lambda partial: partial.write_text(text))  # for people
        except OSError as error:
            raise ConfigError(
                f"the batch cache {folder} cannot be used ({error.strerror}): give another folder, or none."
            ) from None

    def get(self, batch_index: int, set_index: int) -> Batch | None:
        """A batch, on the CPU; None where it is not there, or damaged (a warning says so).

        Args:
            batch_index: which batch, 0 or more.
            set_index: with which negatives, in ``[0, sets)``.
        """
        batch = self._read(batch_index, set_index)
        self.hits += batch is not None
        self.misses += batch is None
        return batch

    def put(self, batch_index: int, set_index: int, batch: Batch) -> None:
        """Keep a batch; one that is there is replaced. All or nothing.

        Raises:
            RunError: it cannot be written, for want of room or of permission.
        """
        path, began = self._file(batch_index, set_index), time.perf_counter()
        # Copies: parts of one tensor, as some of them are, would be refused.
        tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in batch.tensors().items()}
        try:
            checksum = {CHECKSUM: _checksum(tensors)}
            self.bytes_written += self._write(path, lambda partial: save_file(tensors, partial, metadata=checksum))
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"the batch cache {self.path} cannot be written ({error}). Make room, give another folder, or none."
            ) from error
        finally:
            self.seconds_writing += time.perf_counter() - began

    def get_or_make(self, batch_index: int, set_index: int, make: Callable[[int, int], Batch]) -> Batch:
        """The batch that is kept, or else that which ``make(batch_index, set_index)`` gives, which is then kept."""
        batch = self.get(batch_index, set_index)
        if batch is None:
            batch = make(batch_index, set_index)
            self.put(batch_index, set_index, batch)
        return batch

    def prepare(
        self,
        make: Callable[[int, int], Batch],
        batches: Iterable[int],
        sets: Iterable[int] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> float:
        """Fill the cache beforehand. What is there and whole is not made again.

        Args:
            make: the batch of ``(batch_index, set_index)``.
            batches: which ones; processes that share the folder may each take some.
            sets: with which negatives; all sets unless given.
            progress: called after each batch with the number of its events.

        Returns:
            The seconds that it took.
        """
        began, batches = time.perf_counter(), list(batches)
        for set_index in range(self.sets) if sets is None else sets:
            for batch_index in batches:
                batch = self._read(batch_index, set_index)
                if batch is None:
                    batch = make(batch_index, set_index)
                    self.put(batch_index, set_index, batch)
                if progress:
                    progress(len(batch.event))
        seconds = time.perf_counter() - began
        self.seconds_preparing += seconds
        return seconds

    def report(self) -> dict[str, Any]:
        """What this process has had from the cache and what that took, as plain JSON values.

        ``hits`` and ``misses`` count what was asked for, not what :meth:`prepare` did; bytes and seconds count both.
        ``seconds_preparing`` has the making, the writing and the reading of :meth:`prepare` in it.
        """
        counted = ("hits", "misses", "damaged", "bytes_read", "bytes_written")
        timed = ("seconds_reading", "seconds_writing", "seconds_preparing")
        return {"path": str(self.path), "sets": self.sets, **{name: getattr(self, name) for name in counted + timed}}

    def _file(self, batch_index: int, set_index: int) -> Path:
        if batch_index < 0 or not 0 <= set_index < self.sets:
            raise ValueError(f"batch {batch_index} of set {set_index}: there are {self.sets} sets, counted from 0")
        return self.path / f"set-{set_index:04d}-batch-{batch_index:08d}.safetensors"

    def _write(self, path: Path, write: Callable[[Path], object]) -> int:
        """Write a file under a temporary name, rename it, and return its size."""
        # Not a process id: machines that share the folder may have the same ones. Not brought to the disk, which takes
        # longer than all the rest: a file that a crash left half-written has a wrong checksum.
        partial = self.path / f".{path.name}.tmp-{uuid.uuid4().hex}"
        try:
            write(partial)
            size = partial.stat().st_size
            partial.replace(path)
            return size
        finally:
            partial.unlink(missing_ok=True)

    def _read(self, batch_index: int, set_index: int) -> Batch | None:
        path, began = self._file(batch_index, set_index), time.perf_counter()
        try:
            with safe_open(path, framework="pt") as file:
                # Copies: the file is mapped into memory, and must not be needed any more when the batch is used.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
                expected = (file.metadata() or {}).get(CHECKSUM)
            if _checksum(tensors) != expected:
                raise ValueError("its checksum is wrong")
            batch = Batch.from_tensors(tensors)
            self.bytes_read += path.stat().st_size
            return batch
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            logger.warning("%s is damaged (%s): the batch is made again.", path, error)
            self.damaged += 1
            return None
        finally:
            self.seconds_reading += time.perf_counter() - began


def _checksum(tensors: dict[str, Tensor]) -> str:
    """CRC-32 of names, types, shapes and contents. It is there to notice accidents, not attacks."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
