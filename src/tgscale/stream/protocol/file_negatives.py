"""Negatives from TGB's files: ``{name}_val_ns.pkl`` and ``{name}_test_ns.pkl``, or with a version, ``..._ns_v2.pkl``.

A file maps ``(src, dst, t)`` to the destinations that this event is ranked against, often not equally many: they are
padded. It is a pickle, and read by :mod:`tgscale.data.plain_pickle`, which runs nothing of it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgscale.data.plain_pickle import load_plain_pickle
from tgscale.data.store import destinations_shifted, lookup_nodes, read_meta, source_ids
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError, DataError
from tgscale.stream.protocol.negatives import Drawn, Negatives


class FileNegatives(Negatives):
    """The negatives that a file holds for each event of a part.

    Args:
        stream: the events, with the ids and times of the source.
        folder: where the file lies.
        part: ``"val"`` or ``"test"``.
        first, last: the part's events ``[first, last)``.
        device: where tensors go.

    Raises:
        ConfigError: no such file, or more than one.
        DataError: it is not such a file; an event of the part is not in it; it names a node the stream does not have.
    """

    def __init__(
        self, stream: EventStream, folder: Path, part: str, first: int, last: int, device: torch.device | str = "cpu"
    ) -> None:
        self._first, self.path = first, find_file(folder, part)
        lists = _lists(self.path, stream, part, first, last)
        length = np.array([len(each) for each in lists])
        self.count = int(length.max(initial=0))
        if not self.count:
            raise DataError(f"{self.path} has no negatives for any event of the {part} part.")
        self._shortest = int(length.min())
        ids, place = np.unique(np.concatenate(lists), return_inverse=True)
        node = _nodes(stream, ids, self.path)[place]
        there = np.arange(self.count) < length[:, None]
        table = np.zeros(there.shape, np.int32 if stream.num_nodes < 2**31 else np.int64)
        table[there] = node
        self._table, self._length = torch.from_numpy(table).to(device), torch.from_numpy(length).to(device)

    def draw(self, event: Tensor) -> Drawn:
        row = event - self._first
        there = torch.arange(self.count, device=event.device) < self._length[row][:, None]
        return Drawn(self._table[row].long(), there=None if self._shortest == self.count else there)

    def describe(self) -> dict[str, Any]:
        return {
            "draw": "file",
            "file": self.path.name,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "fewest": self._shortest,
            "population": "as the file says",
            "population_size": None,
            "exclude_own": None,
        }


def find_file(folder: Path, part: str) -> Path:
    """The file of a part's negatives in a folder."""
    folder = folder.expanduser()
    found = sorted({*folder.glob(f"*_{part}_ns.pkl"), *folder.glob(f"*_{part}_ns_v*.pkl")})
    if len(found) != 1:
        what = f"{len(found)} files" if found else "no file"
        raise ConfigError(
            f"{folder} has {what} named NAME_{part}_ns.pkl or NAME_{part}_ns_vN.pkl: give a folder with one of TGB's "
            f"files of negatives for the {part} part (--eval.negatives-from)."
        )
    return found[0]


def _lists(path: Path, stream: EventStream, part: str, first: int, last: int) -> list[np.ndarray]:
    """The list of each event ``[first, last)``, in ids of the source."""
    table = load_plain_pickle(path)
    if not isinstance(table, dict) or not all(isinstance(key, tuple) and len(key) == 3 for key in table):
        raise DataError(f"{path} does not map (source, destination, time) to destinations, as TGB's files do.")
    ends = _source_ids(stream, first, last)
    lists = []
    # Once per event and run, for what was read is a Python dictionary.
    for event, key in enumerate(zip(*ends, stream.time[first:last].tolist(), strict=True), first):
        found = table.get(key)
        if found is None:
            raise DataError(
                f"event {event} of the {part} part, {key}, is not in {path.name}. TGB splits between times: train with "
                "--eval.split times; ids and times must be those of TGB's own edge list."
            )
        lists.append(np.asarray(found).astype(np.int64))
    return lists


def _source_ids(stream: EventStream, first: int, last: int) -> tuple[list[int], list[int]]:
    """Ids that the source gave the ends of some events."""
    src, dst = stream.src[first:last], stream.dst[first:last]
    if stream.path is None:
        return src.tolist(), dst.tolist()
    ids = source_ids(stream.path)
    if ids is None:
        shift = stream.num_sources if destinations_shifted(read_meta(stream.path)) else 0
        return src.tolist(), (dst - (shift or 0)).tolist()
    try:
        ids = ids.astype(np.int64)
    except ValueError:
        raise DataError(
            f"{stream.path} has text for ids, and TGB's files have numbers: import TGB's edge list."
        ) from None
    return ids[src].tolist(), ids[dst].tolist()


def _nodes(stream: EventStream, ids: np.ndarray, path: Path) -> np.ndarray:
    """Nodes of destinations' ids."""
    if stream.path is None:
        nodes = np.where(ids < stream.num_nodes, ids, -1)
    else:
        nodes = lookup_nodes(stream.path, ids.tolist(), "dst")
    if (nodes < 0).any():
        raise DataError(
            f"{path.name} names destination {ids[nodes < 0][0]}, which {stream.name} does not have: import TGB's whole "
            "edge list."
        )
    return nodes
