"""What a row is scored against: its own destination, the run's negatives, or candidates. One class per choice.

A choice cuts the rows of a step into pieces, makes the batch of each, and turns its logits into columns of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tgscale.data.candidates import Candidates
from tgscale.data.following import Rows
from tgscale.data.stream import EventStream
from tgscale.stream.batch import Batch, BatchBuilder
from tgscale.stream.engine import StreamEngine
from tgscale.stream.predict.walk import Step
from tgscale.stream.protocol.negatives import Drawn
from tgscale.train.metrics import optimistic_ranks, tie_aware_ranks

PAIRS = 1 << 13
"""Pairs of a source and a candidate that are scored at once."""


@dataclass(frozen=True)
class Piece:
    """Rows ``[low, high)`` of a step, against the candidates ``[first, last)`` of ``total``."""

    step: Step
    low: int
    high: int
    first: int = 0
    last: int = 0
    total: int = 0


Columns = dict[str, np.ndarray]
"""``score`` and ``rank`` ``[n]``, ``top`` (node numbers, -1 for none) and ``top_score`` ``[n, k]``,
``class`` ``[n]`` or ``[n, C]`` and ``probability`` ``[n, C]``; those that are."""


class Choice(Protocol):
    """What rows are scored against."""

    def pieces(self, step: Step) -> Iterator[Piece]:
        """The rows of a step, in order."""

    def build(self, builder: BatchBuilder, piece: Piece) -> Batch:
        """The batch of a piece; may be called in any thread."""

    def take(self, piece: Piece, logits: Tensor) -> Columns | None:
        """Columns of the rows that are done with these logits; called in the order of the pieces."""


class OwnDestination:
    """Each event's own destination alone."""

    def pieces(self, step: Step) -> Iterator[Piece]:
        yield Piece(step, step.low, step.high)

    def build(self, builder: BatchBuilder, piece: Piece) -> Batch:
        event = torch.arange(piece.step.start, piece.step.stop, device=builder.time.device)
        return builder.against(event, Drawn(event.new_empty(len(event), 0)))

    def take(self, piece: Piece, logits: Tensor) -> Columns | None:
        return {"score": _first(logits)}


class Negatives:
    """The run's own protocol: its negatives, batches and ties."""

    def __init__(self, engine: StreamEngine) -> None:
        self._negatives = engine.negatives_of("test")
        self._ranks = tie_aware_ranks if engine.config.eval.rule.ties == "half" else optimistic_ranks

    def pieces(self, step: Step) -> Iterator[Piece]:
        yield Piece(step, step.low, step.high)

    def build(self, builder: BatchBuilder, piece: Piece) -> Batch:
        event = torch.arange(piece.step.start, piece.step.stop, device=builder.time.device)
        return builder.against(event, self._negatives.draw(event))

    def take(self, piece: Piece, logits: Tensor) -> Columns | None:
        rank = self._ranks(logits[:, 0], logits[:, 1:])
        return {"score": _first(logits), "rank": rank.cpu().numpy()}


class Lists(Protocol):
    """Lists of candidate destinations."""

    @property
    def longest(self) -> int:
        """The longest list of any row."""

    def length(self, step: Step, low: int, high: int) -> int:
        """The longest list of these rows."""

    def of(self, step: Step, low: int, high: int, first: int, last: int) -> np.ndarray:
        """Places ``[first, last)`` of the rows' lists, ``[high - low, last - first]``; -1 after the end of a list."""


class Given:
    """From a file."""

    def __init__(self, candidates: Candidates) -> None:
        self._node, self._indptr = candidates.node, candidates.indptr

    @property
    def longest(self) -> int:
        return len(self._node) if self._indptr is None else int(np.diff(self._indptr).max(initial=0))

    def length(self, step: Step, low: int, high: int) -> int:
        if self._indptr is None:
            return len(self._node)
        return int(np.diff(self._indptr[low : high + 1]).max())

    def of(self, step: Step, low: int, high: int, first: int, last: int) -> np.ndarray:
        if self._indptr is None:
            return np.broadcast_to(self._node[first:last], (high - low, last - first))
        start, stop = self._indptr[low:high, None], self._indptr[low + 1 : high + 1, None]
        place = start + np.arange(first, last)
        return np.where(place < stop, self._node[np.minimum(place, stop - 1)], -1)


class Seen:
    """Every destination of an event before the step: those of the run's data in ascending order, then new ones."""

    def __init__(self, stream: EventStream, first: int) -> None:
        before = np.unique(stream.dst[:first])
        new, at = np.unique(stream.dst[first:], return_index=True)
        fresh = ~np.isin(new, before)
        order = np.argsort(at[fresh], kind="stable")
        self._node = np.concatenate([before, new[fresh][order]]).astype(np.int64)
        self._since = np.concatenate([np.full(len(before), -1), first + at[fresh][order]])

    @property
    def longest(self) -> int:
        return len(self._node)

    def length(self, step: Step, low: int, high: int) -> int:
        return int(np.searchsorted(self._since, step.start))

    def of(self, step: Step, low: int, high: int, first: int, last: int) -> np.ndarray:
        return np.broadcast_to(self._node[first:last], (high - low, last - first))


class Ranked:
    """Candidates, best first; of events also their own destination and its rank among the others.

    Args:
        rows: events or queries.
        lists: their candidates.
        kept: how many of the best are written; None for all.
        first: event id of row 0, where the rows are events.
    """

    def __init__(self, rows: Rows, lists: Lists, kept: int | None, first: int) -> None:
        self._rows, self._lists, self._kept, self._first = rows, lists, kept, first
        self._scored: list[Tensor] = []

    def rows_of(self, cells: int) -> int | None:
        """How many rows may have no more than ``cells`` scores written; None where few of each row's are."""
        return None if self._kept else max(1, cells // max(1, self._lists.longest))

    def pieces(self, step: Step) -> Iterator[Piece]:
        if step.low == step.high:
            return
        rows = max(1, PAIRS // max(1, self._lists.length(step, step.low, step.high)))
        for low in range(step.low, step.high, rows):
            high = min(low + rows, step.high)
            total = self._lists.length(step, low, high)
            for first in range(0, total, PAIRS):
                yield Piece(step, low, high, first, min(first + PAIRS, total), total)

    def build(self, builder: BatchBuilder, piece: Piece) -> Batch:
        nodes = self._nodes(piece, piece.first, piece.last)
        source = torch.from_numpy(np.asarray(self._rows.src[piece.low : piece.high], np.int64))
        if self._rows.dst is None:
            time = torch.from_numpy(np.array(self._rows.time[piece.low : piece.high]))
            padded = np.where(nodes < 0, nodes[:, :1].clip(min=0), nodes)
            device = builder.time.device
            return builder.queries(source.to(device), torch.from_numpy(padded).to(device), time.to(device))
        own = np.asarray(self._rows.dst[piece.low : piece.high], np.int64)[:, None]
        others = torch.from_numpy(np.where(nodes < 0, own, nodes))
        event = torch.arange(self._first + piece.low, self._first + piece.high, device=builder.time.device)
        return builder.against(event, Drawn(others.to(builder.time.device)))

    def take(self, piece: Piece, logits: Tensor) -> Columns | None:
        logits = logits.float().cpu()
        has_own = self._rows.dst is not None
        self._scored.append(logits[:, 1:] if has_own else logits)
        if piece.last < piece.total:
            return None
        nodes = torch.from_numpy(np.array(self._nodes(piece, 0, piece.total)))
        scores = torch.cat(self._scored, dim=1).masked_fill(nodes < 0, -torch.inf)
        self._scored.clear()
        columns = self._best(nodes, scores)
        if has_own:
            assert self._rows.dst is not None
            own = torch.from_numpy(np.asarray(self._rows.dst[piece.low : piece.high], np.int64))
            others = scores.masked_fill(nodes == own[:, None], -torch.inf)
            columns |= {"score": _first(logits), "rank": tie_aware_ranks(logits[:, 0], others).numpy()}
        return columns

    def _nodes(self, piece: Piece, first: int, last: int) -> np.ndarray:
        return self._lists.of(piece.step, piece.low, piece.high, first, last)

    def _best(self, nodes: Tensor, scores: Tensor) -> Columns:
        # Stable: of equal scores the one that stands first in the list comes first.
        order = scores.argsort(dim=1, descending=True, stable=True)[:, : self._kept]
        return {"top": nodes.gather(1, order).numpy(), "top_score": scores.gather(1, order).numpy()}


def _first(logits: Tensor) -> np.ndarray:
    """Column 0 as an array of its own: a view would keep all the others alive until the part is written."""
    return logits[:, 0].float().cpu().numpy().copy()
