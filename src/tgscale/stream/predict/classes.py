"""Classes of new events, for a run of such a task: what they are called, the labels that are known, and the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from tgscale.data.append import UNTOLD, UNTOLD_CLASSES
from tgscale.data.following import Rows
from tgscale.data.row_classes import ClassNames
from tgscale.data.stream import EventStream
from tgscale.errors import ConfigError
from tgscale.stream.batch import Batch, BatchBuilder
from tgscale.stream.config import TrainConfig
from tgscale.stream.engine import StreamEngine
from tgscale.stream.predict.ranking import Columns, Piece
from tgscale.stream.predict.request import Request
from tgscale.stream.predict.walk import Step
from tgscale.stream.task import label_column
from tgscale.stream.task.event_class import EventClassTask, told_events
from tgscale.train.metrics import refuse_nan


@dataclass(frozen=True)
class RunClasses(ClassNames):
    """The classes of a run's events.

    All events of the run count, also those that predictions do not follow: the head has a score for each class.

    Attributes:
        unknown: number of the class that says that an event has none, or None.
    """

    unknown: int | None = None

    @classmethod
    def of(cls, config: TrainConfig, stream: EventStream) -> RunClasses:
        """Those of a run on this stream, whose task is not links.

        Raises:
            ConfigError: the classes are those of nodes.
        """
        column, unknown = label_column(config, stream), config.task.unknown
        assert column is not None
        if column == "node_label":
            raise ConfigError(
                f"{config.run} was trained for classes of nodes, which do not change with new events: predictions are "
                "of links (--task link), of classes of events (edge-class) and of the state of sources (node-class "
                "on labels of events)."
            )
        names = stream.classes.get(column)
        if names:
            return cls(column, names, unknown)
        if column == "edge_classes":
            assert stream.edge_classes is not None
            return cls(column, tuple(range(stream.edge_classes.shape[1])), unknown)
        assert stream.label is not None
        values = tuple(np.unique(stream.label).tolist())
        return cls(column, values, values.index(unknown) if unknown in values else None)

    @property
    def answers(self) -> tuple[str, ...] | tuple[int, ...]:
        """Names of the classes that an event can get, in the order of their scores."""
        return tuple(name for number, name in enumerate(self.names) if number != self.unknown)  # type: ignore[return-value]

    def numbered(self, stream: EventStream) -> EventStream:
        """The stream with numbers for labels, and with names for all classes.

        So a class keeps its number where the events that are followed do not have all classes.
        """
        label = stream.label
        if self.column == "label":
            assert label is not None
            named = "label" in stream.classes
            label = np.asarray(label if named else np.searchsorted(np.array(self.names), label), np.int32)
        return dataclasses.replace(stream, label=label, classes={self.column: tuple(map(str, self.names))})

    def labels(self, rows: Rows) -> dict[str, np.ndarray]:
        """Labels of new rows, as far as they bring any."""
        told: np.ndarray | None = getattr(rows, self.column)
        if told is None and self.several:
            told = np.full((len(rows.src), len(self.names)), UNTOLD_CLASSES, np.uint8)
        elif told is None:
            told = np.full(len(rows.src), UNTOLD, np.int32)
        return {self.column: told}


class Classified:
    """The classes of each event, scored as an evaluation does.

    Args:
        engine: on the joined stream.
        first: event id of row 0.
    """

    def __init__(self, engine: StreamEngine, first: int) -> None:
        assert isinstance(engine.task, EventClassTask)
        self._task, self._targets, self._seed = engine.task, engine.task.targets, engine.config.eval.seed
        self._first = first

    def pieces(self, step: Step) -> Iterator[Piece]:
        yield Piece(step, step.low, step.high, 0, self._targets.classes, self._targets.classes)

    def build(self, builder: BatchBuilder, piece: Piece) -> Batch:
        event = torch.arange(piece.step.start, piece.step.stop, device=builder.time.device)
        return builder.events(event, 0, self._seed)

    def take(self, piece: Piece, logits: Tensor) -> Columns | None:
        refuse_nan(logits)
        found, probability = self._targets.answer(logits)
        return {"class": found.cpu().numpy(), "probability": probability.cpu().numpy()}

    def metrics(self, out: Path) -> dict[str, Any]:
        """What an evaluation measures, of the rows whose true class is told, and how many these are.

        From the written file, because some of it may have been written before an interruption.
        """
        task, targets, event = self._task, self._targets, self._first
        told = told_events(task.stream, task.column)
        columns, events = [], []
        for batch in pq.ParquetFile(out).iter_batches(columns=["probability"]):
            every = torch.arange(event, event + len(batch))
            kept = torch.ones(len(batch), dtype=torch.bool) if told is None else told[every]
            probability = torch.tensor(batch.column(0).flatten().to_numpy()).view(len(batch), -1)[kept]
            events.append(every[kept])
            rows = targets.rows(targets.scores(probability).to(task.device), events[-1].to(task.device))
            columns.append(rows.to("cpu", targets.dtype))
            event += len(batch)
        if not sum(map(len, events)):
            return {}
        found = targets.summarize(torch.cat(columns, dim=1), torch.cat(events))
        return {"told": sum(map(len, events)), "metrics": found}


def refuse_ranking(request: Request, config: TrainConfig) -> None:
    """Refuse what is asked about destinations of a run that learned classes.

    Raises:
        ConfigError: as said.
    """
    given = {
        "--queries": bool(request.queries),
        "--candidates": request.candidates is not None,
        "--top-k": request.top_k is not None,
        "--evaluate": request.evaluate,
    }
    if wrong := [name for name, there in given.items() if there]:
        raise ConfigError(
            f"{', '.join(wrong)}: {request.run} was trained for task {config.task.name}, which gives each new event "
            "its classes and ranks no destinations: give --events alone, or a run of task link."
        )
