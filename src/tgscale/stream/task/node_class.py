"""Classes of nodes that do not change: learned of some nodes, asked of others, at every event of theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError
from tgscale.graph.sampling import NeighborSampler
from tgscale.nn.class_head import ClassHead
from tgscale.stream.batch import Batch
from tgscale.stream.config import TrainConfig
from tgscale.stream.task.base import Metrics, RowTable, Scored
from tgscale.stream.task.event_class import RULE_BATCH
from tgscale.stream.task.targets import MOST_CLASSES, Multiclass

RULE_PARTNERS = 100
"""Partners that a rule looks back on."""
PARTS = ("train", "val", "test")


def split_nodes(label: np.ndarray, val: float, test: float, seed: int) -> np.ndarray:
    """Which part each node belongs to: 0 train, 1 val, 2 test, -1 without a class; ``[N]``, int64.

    Each class is split by itself, so that all occur in every part if they have nodes enough.

    Args:
        label: class of each node, ``[N]``, -1 where it is not known.
        val, test: shares of the nodes.
        seed: of the order in which nodes are dealt out.
    """
    part = np.full(len(label), -1)
    shuffled = np.random.default_rng(seed & (2**64 - 1)).permutation(len(label))
    for one in np.unique(label[label >= 0]):
        nodes = shuffled[label[shuffled] == one]
        place = (np.arange(len(nodes)) + 0.5) / len(nodes)
        part[nodes] = np.searchsorted([1 - val - test, 1 - test], place, side="right")
    return part


class NodeClassTask:
    """The class of a node, asked at the time of each of its events.

    Nodes are split beside the events: the classes of training nodes are learned in the training events, those of
    validation nodes asked in the validation events, and those of test nodes in the test events. Every node takes part
    in the memory and is sampled as a neighbor throughout. The head is told what the classes of a node's latest
    ``task.past`` partners say, as far as these are training nodes: nothing else of any label is seen.

    Args:
        config: all choices.
        stream: with classes of nodes.
        split: where the parts end.
        device: of the embeddings.

    Raises:
        ConfigError: too few or too many classes, or a part in which no event asks for anything.
    """

    name, title, metric = "node-class", "node classification", "accuracy"

    def __init__(self, config: TrainConfig, stream: EventStream, split: Split, device: torch.device) -> None:
        self.config, self.stream, self.split, self.device = config, stream, split, device
        assert stream.node_label is not None
        label, task = np.asarray(stream.node_label, np.int64), config.task
        self.classes = len(stream.classes.get("node_label", ())) or int(label.max(initial=-1)) + 1
        if not 2 <= self.classes <= MOST_CLASSES:
            raise ConfigError(
                f"the nodes of {stream.name} have {self.classes:,} classes: 2 to {MOST_CLASSES:,} are needed."
            )
        part = split_nodes(label, task.val_nodes, task.test_nodes, config.eval.seed)
        self.counts = {name: int((part == i).sum()) for i, name in enumerate(PARTS)}
        self.label, self.part = torch.from_numpy(label).to(device), torch.from_numpy(part).to(device)
        balance = "none" if task.balance == "auto" else task.balance
        # Classes of nodes, where those of events stand elsewhere; of training nodes alone.
        self.shown = Multiclass(torch.where(self.part == 0, self.label, -1), self.classes, len(label), balance)
        self.sampler = NeighborSampler(stream, max(task.past, 1), device=device, backend="tensor")
        self.time = torch.from_numpy(np.asarray(stream.time, np.int64)).to(device)
        self.src, self.dst = (torch.from_numpy(np.asarray(x, np.int64)).to(device) for x in (stream.src, stream.dst))
        asked = self._count_asked()
        self.scale = split.train / asked["train"]
        self.head = ClassHead(config.model.dim, self.classes, 1, 0, int(task.past > 0), 0, task.dropout)
        bias, belief = self.shown.start(1)
        self.head.begin(bias.cpu(), belief)

    def _count_asked(self) -> dict[str, int]:
        asked = {}
        for i, name in enumerate(PARTS):
            first, last = self.split.range(name)
            asked[name] = sum(int((self.part[side[first:last]] == i).sum()) for side in (self.src, self.dst))
            if not asked[name]:
                raise ConfigError(
                    f"no event of the {name} part has one of the {self.counts[name]} {name} nodes: give other shares "
                    "of nodes (--task.val-nodes, --task.test-nodes), another --eval.seed, or more labels."
                )
        return asked

    def attach(self, model: nn.Module) -> None:
        model.add_module("task_head", self.head)

    def negatives(self, wanted: int) -> int:
        return 0

    def logits(self, equations: Any, h: Tensor, batch: Batch) -> Tensor:
        roots = torch.cat([batch.source, batch.candidate[:, 0]])
        evidence = None
        if self.config.task.past:
            evidence = torch.stack(self.shown.evidence([self.partners(self.sampler, batch.event)]), dim=1).to(h.dtype)
        return self.by_event(self.head([h[roots]], None, evidence))

    def partners(self, sampler: NeighborSampler, event: Tensor) -> Tensor:
        """The latest partners of the sources and then the destinations of some events, strictly before each.

        Args:
            sampler: says how many, k.
            event: ids, ``[B]``.

        Returns:
            Nodes ``[2 B, k]``, -1 for none. A node is not its own partner, so that its own class is never told.
        """
        node = torch.cat([self.src[event], self.dst[event]])
        (found,) = sampler.sample(node, self.time[event].repeat(2))
        return torch.where((found.event >= 0) & (found.node != node[:, None]), found.node, -1)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        node = torch.stack([self.src[batch.event], self.dst[batch.event]], dim=1).flatten()
        return self.shown.losses(logits.view(-1, self.classes), node).sum() / len(batch.event) * self.scale

    def table(self, first: int, last: int) -> RowTable:
        return RowTable(first, last, 2, self._found, self._summarize)

    @staticmethod
    def by_event(scores: Tensor) -> Tensor:
        """Scores of B sources and then B destinations, ``[2 B, classes]``, as a row per event, ``[B, 2 classes]``."""
        return scores.unflatten(0, (2, -1)).transpose(0, 1).flatten(1)

    def _found(self, logits: Tensor, event: Tensor) -> Tensor:
        return logits.unflatten(1, (2, self.classes)).argmax(2).T

    def _summarize(self, columns: Tensor, event: Tensor) -> Metrics:
        """Over all questions, and over nodes: what is answered most often counts."""
        from torchmetrics.functional.classification import multiclass_f1_score  # slow to import

        part = 1 if int(event[0]) < self.split.val else 2
        event = event.to(self.device)
        node = torch.cat([self.src[event], self.dst[event]]).cpu()
        asked = self.part.cpu()[node] == part
        node, found = node[asked], columns.flatten().long()[asked]
        true = self.label.cpu()[node]
        nodes, row = torch.unique(node, return_inverse=True)
        votes = torch.zeros(len(nodes), self.classes, dtype=torch.int64)
        votes.index_put_((row, found), torch.ones_like(row), accumulate=True)
        return {
            "accuracy": float((true == found).double().mean()),
            "f1_macro": float(multiclass_f1_score(found, true, num_classes=self.classes, average="macro")),
            "node_accuracy": float((votes.argmax(1) == self.label.cpu()[nodes]).double().mean()),
        }

    @torch.no_grad()
    def rules(self, part: str) -> dict[str, Scored] | None:
        """The most frequent class of the training nodes, and that of the latest partners that are training nodes."""
        first, last = self.split.range(part)
        sampler = NeighborSampler(self.stream, RULE_PARTNERS, device=self.device)
        prior = self.shown.prior(self.stream.num_nodes)
        tables = {name: self.table(first, last) for name in ("most frequent class", "vote of the latest partners")}
        for start in range(first, last, RULE_BATCH):
            event = torch.arange(start, min(start + RULE_BATCH, last), device=self.device)
            vote = self.shown.shares(self.partners(sampler, event)) + 1e-3 * prior
            for name, shares in zip(tables, (prior.expand(len(vote), -1), vote), strict=True):
                tables[name].add(start - first, self.by_event(shares))
        return dict(tables)

    def describe(self) -> dict[str, Any]:
        return {
            "name": "multi-class node classification",
            "labels": "node_label",
            "classes": self.classes,
            "metrics": "accuracy and macro F1 over all events of the part's nodes; accuracy over nodes, by vote",
            "nodes": self.counts,
            "past_labels": self.config.task.past,
            "batch_size": self.config.eval_batch_size,
            "seed": self.config.eval.seed,
        }
