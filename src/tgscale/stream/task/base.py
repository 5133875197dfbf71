"""What a task is to the engine: which scores are wanted of a batch, how they are judged, and by which rules beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tgscale.stream.batch import Batch
from tgscale.train.metrics import refuse_nan

Metrics = dict[str, float | None]


class Scored(Protocol):
    """What a model or a rule made of the events of a part."""

    def summary(self, new: Tensor | None = None) -> Metrics:
        """Metrics over all events; ``new`` marks those of nodes without training events."""


class Table(Protocol):
    """Takes what the batches of a part come to, in any order.

    Attributes:
        columns: zeros where nothing was added yet, so that tables of several ranks add up to the whole.
    """

    columns: Tensor

    def add(self, start: int, logits: Tensor) -> None:
        """Take the logits of the part's events from ``start`` on."""

    def scores(self) -> Scored:
        """All of them."""


class StreamTask(Protocol):
    """What is learned from the embeddings of a batch.

    Every root is embedded as of strictly before its event, and so is all else that a task looks at: labels of events at
    the same time or later are not there yet.

    Attributes:
        name: in the configuration.
        title: in results.
        metric: by which validations are compared; higher is better.
    """

    name: str
    title: str
    metric: str

    def attach(self, model: nn.Module) -> None:
        """Give the model what the task needs of weights, so that they are trained, averaged and saved with it: a module
        ``task_head``."""

    def negatives(self, wanted: int) -> int:
        """Negative destinations of each event, where link prediction takes ``wanted``."""

    def logits(self, equations: Any, h: Tensor, batch: Batch) -> Tensor:
        """Scores of a batch of B events, ``[B, ...]``.

        Args:
            equations: the model's methods, compiled or not.
            h: embeddings of the batch's roots, ``[R, dim]``.
            batch: the events.
        """

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch's events. Where not all count, those that do are weighted up, so that all training
        events together come to the mean over the ones that count."""

    def table(self, first: int, last: int) -> Table:
        """For the scores of the events ``[first, last)``."""

    def rules(self, part: str) -> dict[str, Scored] | None:
        """Rules without training, on the same events; None: those for candidates, which the engine knows."""

    def describe(self) -> dict[str, Any] | None:
        """All that a metric depends on beside model and split; None: what the engine says of candidates."""


class RowTable:
    """A few numbers for each event of a part.

    Args:
        first, last: the events.
        width: numbers per event.
        rows: logits of some events and their ids, ``[B]``, to numbers, ``[width, B]``.
        summarize: all numbers, ``[width, events]``, to metrics.
        dtype: of the numbers.
    """

    def __init__(
        self,
        first: int,
        last: int,
        width: int,
        rows: Callable[[Tensor, Tensor], Tensor],
        summarize: Callable[[Tensor, Tensor], Metrics],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.first, self._rows, self._summarize = first, rows, summarize
        self.columns = torch.zeros(width, last - first, dtype=dtype)

    def add(self, start: int, logits: Tensor) -> None:
        refuse_nan(logits)
        event = torch.arange(self.first + start, self.first + start + len(logits), device=logits.device)
        self.columns[:, start : start + len(logits)] = self._rows(logits, event).to("cpu", self.columns.dtype)

    def scores(self) -> RowTable:
        return self

    def summary(self, new: Tensor | None = None) -> Metrics:
        """Metrics over all events."""
        event = torch.arange(self.first, self.first + self.columns.shape[1])
        return self._summarize(self.columns, event)
