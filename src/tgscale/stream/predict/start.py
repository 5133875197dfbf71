"""Where predictions start: the run's weights, and its memory as it is after its last event."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tgscale.data.append import More, append_events
from tgscale.data.following import Rows
from tgscale.data.store import open_stream
from tgscale.data.stream import EventStream, Split
from tgscale.stream.config import PipelineConfig, TrainConfig
from tgscale.stream.engine import StreamEngine
from tgscale.stream.predict.classes import RunClasses
from tgscale.train.progress import Progress


@dataclasses.dataclass(frozen=True)
class Base:
    """What the new rows follow.

    Attributes:
        data: the directory of ``stream``.
        stream: the events of the run, and of the predictions that are followed.
        split: their parts.
        first: how many of them come before the new rows.
        memory: as it was after them, or None: then the run's is walked there from the end of its training part.
    """

    data: Path
    stream: EventStream
    split: Split
    first: int
    memory: dict[str, Tensor] | None = None

    @classmethod
    def of(cls, config: TrainConfig, data: Path, after: str) -> Base:
        """The data of a run, up to the end of its part ``after``."""
        stream = open_stream(data)
        split = config.eval.split_of(stream)
        return cls(data, stream, split, split.range(after)[1])

    @property
    def last_time(self) -> int:
        """Time of the last event that the memory has seen."""
        return int(self.stream.time[self.first - 1])


def joined_stream(
    base: Base, events: Rows | None, queries: Rows | None, folder: Path, classes: RunClasses | None = None
) -> EventStream:
    """The events of before and the new ones as one stream, written to ``folder`` unless it is there.

    With ``classes`` it has the labels of the events of before. Nothing is written where there is nothing new: no event,
    no node, and none of before left out.
    """
    last = queries or events
    assert last is not None
    new = 0 if events is None else len(events.src)
    total = base.first + new
    # The parts of this stream are not those of the run; what is learned from training events stays what it was.
    split = Split(base.split.train, base.first if new else base.first - 1, total)
    if not new and last.num_nodes == base.stream.num_nodes and base.first == base.stream.num_events:
        return dataclasses.replace(base.stream, source_split=split)
    if not folder.exists():
        older = base.stream if classes is None else classes.numbered(base.stream)
        more = _more(base, events, last.num_nodes, classes)
        append_events(older, base.first, more, folder, split, last.node_ids)
    return open_stream(folder)


def _more(base: Base, events: Rows | None, num_nodes: int, classes: RunClasses | None) -> More:
    if events is not None:
        assert events.dst is not None
        labels = {} if classes is None else classes.labels(events)
        return More(events.src, events.dst, events.time, num_nodes, events.edge_features, **labels)
    stream = base.stream
    none = None if stream.edge_features is None else stream.edge_features[:0]
    return More(stream.src[:0], stream.dst[:0], stream.time[:0], num_nodes, none)


def make_engine(config: TrainConfig, stream: EventStream, device: torch.device, best: dict[str, Any]) -> StreamEngine:
    """An engine on the joined stream, with the weights of the best validation and the memory beside them.

    New nodes have the memory of a node that nothing has happened to, and zeros wherever the model has a row per node.
    """
    pipeline = PipelineConfig(slice_features=config.pipeline.slice_features)
    engine = StreamEngine(dataclasses.replace(config, pipeline=pipeline), stream, device, pretrain=False)
    engine.model.load_state_dict(grown(best["model"], engine.model.state_dict(), zero=True))
    engine.memory.reset()
    engine.memory.load_state_dict(grown(best["memory"], engine.memory.state_dict(), zero=False))
    engine.model.eval()
    engine.builder.sampler.seed = config.eval.seed
    return engine


def grown(saved: dict[str, Tensor], now: dict[str, Tensor], zero: bool) -> dict[str, Tensor]:
    """A saved state with as many rows as there are now; the rows that come to it are zeros, or as they are now."""
    result = {}
    for name, tensor in saved.items():
        there = now[name]
        if tensor.shape == there.shape or tensor.shape[1:] != there.shape[1:]:
            result[name] = tensor
            continue
        rest = there[len(tensor) :]
        result[name] = torch.cat([tensor.to(there), torch.zeros_like(rest) if zero else rest])
    return result


def walk_to_end(engine: StreamEngine, base: Base, quiet: bool) -> None:
    """Let the memory take in the parts after training, in the batches of the evaluation, if it has not yet."""
    if base.memory is not None:
        return
    config = engine.config
    parts = [base.split.range("val"), base.split.range("test")]
    spans = [
        span
        for part in parts
        if part[1] <= base.first
        for span in config.eval.rule.spans(*part, config.eval_batch_size)
    ]
    with Progress(base.first - base.split.train, "events of before", quiet) as progress:
        for start, stop in spans:
            engine.advance(start, stop)
            progress.advance(stop - start)
