"""What is learned from the embeddings: one file per task, and a table of their names."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tgscale.data.stream import EventStream, Split
from tgscale.stream.config import TrainConfig
from tgscale.stream.task.base import StreamTask
from tgscale.stream.task.event_class import EdgeClassTask, NodeStateTask, choose_column
from tgscale.stream.task.link import LinkTask
from tgscale.stream.task.node_class import NodeClassTask

Maker = Callable[[TrainConfig, EventStream, Split, torch.device], StreamTask]


def label_column(config: TrainConfig, stream: EventStream) -> str | None:
    """The column of labels that the task is about; None for links.

    Raises:
        ConfigError: it is not there, or none is.
    """
    fitting = {"edge-class": EdgeClassTask.columns, "node-class": ("node_label", "label")}.get(config.task.name)
    return None if fitting is None else choose_column(config, stream, config.task.name, fitting)


def _node_class(config: TrainConfig, stream: EventStream, split: Split, device: torch.device) -> StreamTask:
    """The class of nodes, or, where the events have the labels, the state of their sources."""
    kind = NodeClassTask if label_column(config, stream) == "node_label" else NodeStateTask
    return kind(config, stream, split, device)


TASKS: dict[str, Maker] = {"link": LinkTask, "edge-class": EdgeClassTask, "node-class": _node_class}
"""Name -> function of (config, stream, split, device) that makes a :class:`~tgscale.stream.task.base.StreamTask`."""
