"""Edges of a step, drawn by a counter, and edge classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError, DataError
from tgscale.graph.hashing import mix
from tgscale.nn.decoder import PairClassifier
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.placement import Embeddings
from tgscale.snapshot.task.base import Metrics
from tgscale.train.metrics import refuse_nan


class StepEdges:
    """Edges of each step by their row in the sequence.

    Args:
        sequence: the snapshots.
        device: where answers go.
    """

    def __init__(self, sequence: SnapshotSequence, device: torch.device) -> None:
        self.sequence, self.device = sequence, device

    def count(self, step: int) -> int:
        """Edges of a step."""
        start, stop = self._range(step)
        return stop - start

    def pick(self, step: int, most: int, seed: int) -> Tensor:
        """All edges of a step, or ``most`` different ones; rows, rising, int64. A function of (step, seed)."""
        start, stop = self._range(step)
        if stop - start <= most:
            return torch.arange(start, stop, device=self.device)
        generator = np.random.default_rng(mix(seed & (2**64 - 1)) ^ step)
        drawn = generator.choice(stop - start, most, replace=False, shuffle=False)
        return torch.from_numpy(np.sort(drawn) + start).to(self.device)

    def ends(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Source and destination of some rows of one step, int64."""
        sequence, picked = self.sequence, rows.cpu().numpy()
        source = torch.from_numpy(np.asarray(sequence.neighbor[picked], np.int64)).to(self.device)
        if not len(picked):
            return source, source
        graph = int(np.searchsorted(sequence.offsets, picked[0], side="right")) - 1
        place = picked - sequence.offsets[graph]
        destination = np.searchsorted(sequence.indptr[graph], place, side="right") - 1
        return source, torch.from_numpy(destination.astype(np.int64)).to(self.device)

    def _range(self, step: int) -> tuple[int, int]:
        graph = int(self.sequence.graph_of[step])
        return int(self.sequence.offsets[graph]), int(self.sequence.offsets[graph + 1])


def compact(h: Embeddings, *nodes: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Rows of ``h`` for the distinct nodes among several index tensors, and these as indices into the rows."""
    distinct, place = torch.unique(torch.cat([each.reshape(-1) for each in nodes]), return_inverse=True)
    parts = place.split([each.numel() for each in nodes])
    return h[distinct], [part.view_as(each) for part, each in zip(parts, nodes, strict=True)]


class EdgeClassification:
    """The label of each edge of the next snapshot from the embeddings of its two ends.

    Args:
        sequence: with edge labels.
        config: numbers of edges, and seeds.
        device: of the embeddings.
        classes: labels that were learned, rising; those of the sequence unless given, which then may have none.

    Raises:
        ConfigError: no labels, or fewer than two classes.
        DataError: a label that is none of ``classes``.
    """

    name, lead, metric, better = "edge classification", 1, "f1", "higher"
    all_nodes = True

    def __init__(
        self,
        sequence: SnapshotSequence,
        config: SnapshotConfig,
        device: torch.device,
        classes: np.ndarray | None = None,
    ) -> None:
        if sequence.edge_label is None and classes is None:
            raise ConfigError(f"{sequence.name} has no edge labels: choose --task link, or import it with --label.")
        self.config, self.edges, self.num_steps = config, StepEdges(sequence, device), sequence.num_steps
        labels = classes if sequence.edge_label is None else np.unique(sequence.edge_label)
        assert labels is not None
        self.classes = labels if classes is None else classes
        if new := [int(label) for label in labels if label not in self.classes]:
            raise DataError(f"{sequence.name} has edges with the label {new[0]}, which the run did not learn.")
        if len(self.classes) < 2:
            raise ConfigError(f"all edges of {sequence.name} have the label {self.classes[0]}: nothing to learn.")

    def head(self, dim: int) -> nn.Module:
        return PairClassifier(dim, len(self.classes))

    def items(self, step: int) -> int:
        if self.edges.sequence.edge_label is None:
            return 0
        return min(self.edges.count(step), self.config.train.edges_per_step)

    def loss(
        self,
        head: nn.Module,
        h: Sequence[Embeddings],
        steps: range,
        seed: int,
        nodes: slice,
        part: tuple[int, int],
    ) -> Tensor:
        return torch.stack([self._loss(head, *each, seed, part) for each in zip(h, steps, strict=True)]).sum()

    def _loss(self, head: nn.Module, h: Embeddings, step: int, seed: int, part: tuple[int, int]) -> Tensor:
        picked = self.edges.pick(step, self.config.train.edges_per_step, seed)[part[0] :: part[1]]
        return nn.functional.cross_entropy(self._logits(head, h, picked), self._labels(picked), reduction="sum")

    def score(self, head: nn.Module, h: Tensor, step: int) -> np.ndarray:
        picked = self._scored(step)
        logits = self._logits(head, h, picked)
        refuse_nan(logits)  # argmax would take one for the highest
        return torch.stack([self._labels(picked), logits.argmax(1)], dim=1).double().cpu().numpy()

    def summarize(self, rows: np.ndarray) -> Metrics:
        """Accuracy, and F1 averaged over the classes that occur (macro)."""
        from torchmetrics.functional.classification import multiclass_f1_score  # slow to import

        true, found = torch.from_numpy(rows.astype(np.int64)).unbind(1)
        f1 = multiclass_f1_score(found, true, num_classes=len(self.classes), average="macro")
        return {"accuracy": float((true == found).double().mean()), "f1": float(f1)}

    def baselines(self, steps: range, train: range) -> dict[str, Metrics]:
        """The most frequent label while training."""
        labels = torch.cat([self._labels(self.edges.pick(s, self.edges.count(s), 0)) for s in train])
        majority = int(torch.bincount(labels).argmax())
        true = torch.cat([self._labels(self._scored(step)) for step in steps]).double().cpu().numpy()
        return {"most frequent label": self.summarize(np.stack([true, np.full_like(true, majority)], axis=1))}

    def describe(self) -> dict[str, Any]:
        evaluation = self.config.eval
        classes = [int(each) for each in self.classes]
        return {"name": "accuracy, macro F1", "classes": classes, "edges_per_step": evaluation.edges_per_step}

    def _scored(self, step: int) -> Tensor:
        return self.edges.pick(step, self.config.eval.edges_per_step, self.config.eval.seed)

    def _labels(self, rows: Tensor) -> Tensor:
        label = self.edges.sequence.edge_label
        assert label is not None
        found = np.searchsorted(self.classes, label[rows.cpu().numpy()])
        return torch.from_numpy(found).to(self.edges.device)

    def _logits(self, head: nn.Module, h: Embeddings, rows: Tensor) -> Tensor:
        return self.logits(head, h, *self.edges.ends(rows))

    def logits(self, head: nn.Module, h: Embeddings, source: Tensor, destination: Tensor) -> Tensor:
        """A logit per class of the edges from sources ``[B]`` to destinations ``[B]``, ``[B, classes]``."""
        found, (source, destination) = compact(h, source, destination)
        return head(found[source], found[destination])
