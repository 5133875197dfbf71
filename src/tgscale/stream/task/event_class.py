"""Classes of events: of an edge, from both of its ends, or the state of its source, from the source alone."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tgscale.data.append import UNTOLD_CLASSES
from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError
from tgscale.graph.search import as_tensor
from tgscale.nn.class_head import ClassHead
from tgscale.nn.pair_encoding import pair_dim
from tgscale.stream.batch import Batch
from tgscale.stream.config import TrainConfig
from tgscale.stream.task.base import RowTable, Scored
from tgscale.stream.task.past_labels import PastEvents
from tgscale.stream.task.targets import Multilabel, Targets, one_class

RULE_PAST = 20
"""Events that a rule looks back on."""
RULE_BATCH = 4096


class EventClassTask:
    """Classifies every event by what was known strictly before its time.

    An embedding takes in only events before the root's time, so an event's own features are not seen when it is
    classified, whether they encode its label or not; those of earlier events are. Neither is any label of an event at
    its time or later. ``task.past`` labels of earlier events are: of the same pair, source and destination.

    Args:
        config: all choices.
        stream: with labels.
        split: where the parts end.
        device: of the embeddings.

    Raises:
        ConfigError: no labels, or none that can be learned.
    """

    name = title = ""
    columns: ClassVar[tuple[str, ...]] = ()
    looks_at: ClassVar[tuple[str, ...]] = ()  # whose past, the most particular first
    ends: ClassVar[int] = 2

    def __init__(self, config: TrainConfig, stream: EventStream, split: Split, device: torch.device) -> None:
        self.config, self.stream, self.split, self.device = config, stream, split, device
        self.column = choose_column(config, stream, self.name, self.columns)
        self.targets = _targets(config, stream, split, self.column, device)
        self.metric = self.targets.metric
        told = told_events(stream, self.column)
        self.past = {whose: past_of(stream, whose, device, told) for whose in self.looks_at}
        self.head = self._head()
        labelled = getattr(self.targets, "label", None)
        known = split.train if labelled is None else int((labelled[: split.train] >= 0).sum())
        self.scale = split.train / known

    @property
    def past_dim(self) -> int:
        """Width of what the head is told of past labels."""
        return len(self.looks_at) * (2 * self.targets.classes + 1) if self.config.task.past else 0

    def _head(self) -> ClassHead:
        model, pairs = self.config.model, self.ends == 2 and self.config.model.pair_encoding
        outputs, pair_width = self.targets.outputs, pair_dim(model.pair_groups) if pairs else 0
        groups = len(self.looks_at) if self.past_dim else 0
        head = ClassHead(model.dim, outputs, self.ends, self.past_dim, groups, pair_width, self.config.task.dropout)
        bias, belief = self.targets.start(len(self.looks_at))
        head.begin(bias.cpu(), belief)
        return head

    def attach(self, model: nn.Module) -> None:
        model.add_module("task_head", self.head)

    def negatives(self, wanted: int) -> int:
        return 0

    def past_features(self, event: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Of each group of past events: how the classes share them, the classes of the latest, whether there is one;
        and the evidence of each group.

        Returns:
            ``[B, past_dim]`` and ``[B, groups, outputs]``, float32; None if the head is told nothing.
        """
        if not self.past_dim:
            return None, None
        groups = [self.past[whose].latest(event, self.config.task.past) for whose in reversed(self.looks_at)]
        parts = []
        for found in groups:
            parts += [self.targets.shares(found), self.targets.shares(found[:, :1]), (found[:, :1] >= 0).float()]
        return torch.cat(parts, dim=1), torch.stack(self.targets.evidence(groups), dim=1)

    def logits(self, equations: Any, h: Tensor, batch: Batch) -> Tensor:
        ends = [h[batch.source], h[batch.candidate[:, 0]]][: self.ends]
        past, evidence = self.past_features(batch.event)
        pair = batch.pair_features[:, 0] if self.head.pair is not None and batch.pair_features is not None else None
        as_h = [None if x is None else x.to(h.dtype) for x in (past, evidence, pair)]
        return self.head(ends, *as_h)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self.targets.losses(logits, batch.event).mean() * self.scale

    def table(self, first: int, last: int) -> RowTable:
        targets = self.targets
        return RowTable(first, last, targets.width, targets.rows, targets.summarize, targets.dtype)

    @torch.no_grad()
    def rules(self, part: str) -> dict[str, Scored] | None:
        """The most frequent class while training, and the latest one, and the share of each, in the past of the pair or
        node. Where there is no past, what is less particular: pair, source, training events."""
        first, last = self.split.range(part)
        prior = self.targets.prior(self.split.train)
        tables: dict[str, RowTable] = {}
        for start in range(first, last, RULE_BATCH):
            event = torch.arange(start, min(start + RULE_BATCH, last), device=self.device)
            for name, shares in self._rule_shares(event, prior).items():
                table = tables.setdefault(name, self.table(first, last))
                table.add(start - first, self.targets.as_logits(shares))
        return dict(tables)

    def _rule_shares(self, event: Tensor, prior: Tensor) -> dict[str, Tensor]:
        usual = prior.expand(len(event), -1)
        rules, last, often = {"most frequent class": usual}, usual, usual
        for whose in reversed(self.looks_at):  # the most particular comes last
            found = self.past[whose].latest(event, RULE_PAST)
            some = found[:, :1] >= 0
            last = torch.where(some, self.targets.shares(found[:, :1]), last)
            # What was seen equally often is ordered by how frequent it is at all.
            often = torch.where(some, self.targets.shares(found) + 1e-3 * prior, often)
            rules |= {f"last class of the {whose}": last, f"usual class of the {whose}": often}
        return rules

    def describe(self) -> dict[str, Any]:
        task, targets = self.config.task, self.targets
        balance = task.balance
        if balance == "auto":
            balance = "inverse" if targets.kind == "binary" else "none"
        return {
            "name": f"{targets.kind} {self.title}",
            "labels": self.column,
            "classes": targets.classes,
            "metrics": targets.about,
            "past_labels": task.past,
            "balance": balance,
            "batch_size": self.config.eval_batch_size,
        }


class EdgeClassTask(EventClassTask):
    """The class, or the classes, of each event from both of its ends."""

    name, title = "edge-class", "edge classification"
    columns, looks_at, ends = ("edge_classes", "label"), ("pair", "source", "destination"), 2


class NodeStateTask(EventClassTask):
    """The label of each event as the state of its source at that time, from the source alone (as JODIE's data)."""

    name, title = "node-class", "classification of the source's state"
    columns, looks_at, ends = ("label",), ("source", "destination"), 1


def choose_column(config: TrainConfig, stream: EventStream, task: str, fitting: tuple[str, ...]) -> str:
    """The column of labels that is meant.

    Raises:
        ConfigError: it is not there, or none is.
    """
    asked = config.task.labels
    wanted = fitting if asked == "auto" else (asked,)
    found = [name for name in wanted if getattr(stream, name) is not None]
    if asked != "auto" and asked not in fitting:
        raise ConfigError(f"task.labels {asked} does not go with task {task}: choose auto or {' or '.join(fitting)}.")
    if not found:
        how = {"edge_classes": "--edge-classes", "label": "--label", "node_label": "--node-labels"}
        options = " or ".join(how[name] for name in wanted)
        raise ConfigError(f"{stream.name} has no labels for task {task}: import it with {options}.")
    return found[0]


def told_events(stream: EventStream, column: str) -> Tensor | None:
    """Mask of the events whose labels were told, ``[E]``; None for all. Untold ones push none out of the past."""
    if column == "label" and not stream.classes.get(column):
        return None  # integers of the source, of which each may be a class
    labels = as_tensor(getattr(stream, column), torch.device("cpu"))
    told = labels >= 0 if column == "label" else labels[:, 0] != UNTOLD_CLASSES
    return None if told.all() else told


def past_of(stream: EventStream, whose: str, device: torch.device, known: Tensor | None = None) -> PastEvents:
    """Past events of the same ``"pair"`` (in the same direction), ``"source"`` or ``"destination"``.

    Args:
        stream: the events.
        whose: see above.
        device: where queries come from.
        known: mask of the events that count; None for all.

    Raises:
        ConfigError: so many nodes that a pair does not fit into 63 bits.
    """
    cpu = torch.device("cpu")
    src, dst, time = (as_tensor(column, cpu).long() for column in (stream.src, stream.dst, stream.time))
    if whose == "pair" and stream.num_nodes**2 >= 2**63:
        raise ConfigError(f"{stream.num_nodes:,} nodes are too many to look pairs up: leave nodes out.")
    key = {"pair": lambda: src * stream.num_nodes + dst, "source": lambda: src, "destination": lambda: dst}[whose]()
    return PastEvents(key, time, device, known)


def _targets(config: TrainConfig, stream: EventStream, split: Split, column: str, device: torch.device) -> Targets:
    task = config.task
    if column == "edge_classes":
        if task.unknown is not None:
            raise ConfigError(
                "task.unknown is for one label per event, and here an event may have several classes: leave it out."
            )
        assert stream.edge_classes is not None
        marks = as_tensor(stream.edge_classes, device)
        return Multilabel(marks, split.train, "none" if task.balance == "auto" else task.balance)
    assert stream.label is not None
    names = stream.classes.get("label", ())
    return one_class(stream.label, task.unknown, names, split.train, split.val, task.balance, device)
