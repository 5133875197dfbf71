"""Rows of a table that lies in main memory or on the disk, the latest used of them kept on the device.

A row has one place, its number modulo the number of places, and a row that is fetched takes it over. Event features are
asked for by event id, and a stream's neighbors are mostly recent events: neighboring ids have different places, so what
is kept is, all but a few, the end of the stream as far as it was walked. Who owns a place is known on the host, so a
look-up waits for nothing on the device. What comes out are the table's own bits, whatever is kept.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from tgscale.errors import ConfigError


class FeatureCache:
    """Stands for a table of rows in :func:`tgscale.stream.batch.slice_rows`. Threads may share it.

    Args:
        table: ``[E, F]``, on the CPU; may be memory-mapped. To a GPU, rows go by way of page-locked memory.
        places: how many rows are kept on the device, at least one; no more than the table has.
        device: where rows are wanted.

    Attributes:
        lookups, hits: rows that were asked for, and those of them that were on the device.

    Raises:
        ConfigError: fewer than one place.
    """

    def __init__(self, table: Tensor, places: int, device: torch.device | str) -> None:
        if places < 1:
            raise ConfigError(f"the feature cache has {places} rows: give at least 1.")
        self.table, self.device = table, torch.device(device)
        places = max(1, min(places, len(table)))
        self._kept = table.new_empty(places, *table.shape[1:], device=self.device)
        self._owner = torch.full((places,), -1, dtype=torch.int64)
        self._lock = threading.Lock()
        self.lookups = self.hits = 0

    def __len__(self) -> int:
        return len(self.table)

    @property
    def shape(self) -> torch.Size:
        """That of the table."""
        return self.table.shape

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The rows on the device, ``[M, F]``.

        Args:
            rows: ``[M]``, int64, on the CPU, each once.
        """
        with self._lock:
            place = rows % len(self._owner)
            hit = self._owner[place] == rows
            missing = (~hit).nonzero().flatten()
            self.lookups += len(rows)
            self.hits += len(rows) - len(missing)
            out = self._kept[self._move(place)]
            if not len(missing):
                return out
            fetched = self._move(self.table[rows[missing]])
            out[self._move(missing)] = fetched
            self._take_over(rows[missing], place[missing], fetched)
            return out

    def _take_over(self, rows: Tensor, place: Tensor, fetched: Tensor) -> None:
        """Keep what was fetched; where several rows want a place, the one that the host says."""
        self._owner[place] = rows
        kept = (self._owner[place] == rows).nonzero().flatten()
        self._kept[self._move(place[kept])] = fetched[self._move(kept)]

    def _move(self, x: Tensor) -> Tensor:
        return x.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else x

    def report(self) -> dict[str, int | float]:
        """Places, look-ups and the share of them that were hits."""
        return {
            "rows": len(self._owner),
            "bytes": self._kept.numel() * self._kept.element_size(),
            "lookups": self.lookups,
            "hit_rate": self.hits / max(self.lookups, 1),
        }
