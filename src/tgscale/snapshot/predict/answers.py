"""What is written of a step: its targets, the links that it will have, or the classes of its edges.

An answer is made from the embeddings ``[N, C]`` of one step, ``h`` below, and is columns of equal length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from tgscale.data.export.pieces import lists_of
from tgscale.data.snapshot_ids import NamedSnapshots
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.task.regression import Regression
from tgscale.train.metrics import refuse_nan

CELLS = 1 << 18
"""Pairs that are scored at once."""

Columns = dict[str, pa.Array]
Done = Callable[[int], None]
"""Takes how many more of the :attr:`Answer.unit` are done."""


class Answer(Protocol):
    """What a task says of a step.

    Attributes:
        unit: what :meth:`work` counts.
    """

    unit: str

    def work(self, step: int) -> int:
        """How many things there are to be predicted at a step."""

    def columns(self, head: nn.Module, h: Tensor, step: int, done: Done) -> Columns:
        """The predictions."""


class Targets:
    """The target of every node: ``node``, ``prediction``, and ``target`` where it is known (else null)."""

    unit = "nodes"

    def __init__(self, task: Regression, named: NamedSnapshots) -> None:
        self.task, self.named = task, named

    def work(self, step: int) -> int:
        return len(self.named.ids)

    def columns(self, head: nn.Module, h: Tensor, step: int, done: Done) -> Columns:
        predicted, known = self.task.predict(head, h, step), self.task.known(step)
        done(len(predicted))
        prediction = _values(predicted)
        target = pa.nulls(len(predicted), prediction.type) if known is None else _values(known)
        return {"node": self.named.ids, "prediction": prediction, "target": target}


class LikelyLinks:
    """The likeliest destinations of sources: ``src``, and the lists ``top_dst`` and ``top_score``, best first.

    Candidates are all nodes that were a destination before the step; a node is its own only where snapshots have loops.

    Args:
        task: of the run, on these snapshots.
        named: the snapshots.
        sources: nodes; those that are sources of an edge in the group before the step unless given.
        window: steps of a group.
        top_k: how many destinations of each; 0 for all.
    """

    unit = "sources"

    def __init__(
        self, task: LinkPrediction, named: NamedSnapshots, sources: np.ndarray | None, window: int, top_k: int
    ) -> None:
        self.task, self.named, self.sources, self.window, self.top_k = task, named, sources, window, top_k
        snapshots = named.snapshots
        self.loops = any((src == dst).any() for src, dst in map(snapshots.edges, range(snapshots.num_steps)))

    def work(self, step: int) -> int:
        return len(self._sources(step))

    def columns(self, head: nn.Module, h: Tensor, step: int, done: Done) -> Columns:
        sources, candidates = self._sources(step), self._candidates(step)
        nodes, scores, lengths = [], [], []
        for block in _blocks(sources, max(1, CELLS // max(1, len(candidates)))):
            best, score = self._best(head, h, torch.from_numpy(block).to(h.device), candidates, step)
            real = torch.isfinite(score)
            nodes.append(best[real].cpu().numpy())
            scores.append(score[real].cpu().numpy())
            lengths.append(real.sum(dim=1).cpu().numpy())
            done(len(block))
        ids = self.named.ids.take(pa.array(_joined(nodes, np.int64)))
        listed = _joined(lengths, np.int64)
        top_dst, top_score = lists_of(ids, listed), lists_of(pa.array(_joined(scores, np.float32)), listed)
        return {"src": self.named.ids.take(pa.array(sources)), "top_dst": top_dst, "top_score": top_score}

    def _best(
        self, head: nn.Module, h: Tensor, sources: Tensor, candidates: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Destinations and scores, ``[B, k]`` each, best first; the score of one that is not to be named is -inf."""
        parts = []
        for some in candidates.split(max(1, CELLS // len(sources))):
            score = self.task.logits(head, h, sources, some.expand(len(sources), -1), step)
            refuse_nan(score)
            parts.append(score if self.loops else score.masked_fill(some == sources[:, None], -torch.inf))
        score, place = torch.cat(parts, dim=1).sort(dim=1, descending=True, stable=True)
        most = min(self.top_k or len(candidates), len(candidates))
        return candidates[place[:, :most]], score[:, :most]

    def _sources(self, step: int) -> np.ndarray:
        if self.sources is not None:
            return self.sources
        snapshots = self.named.snapshots
        seen = range(max(0, step - self.window), step)
        return np.unique(np.concatenate([snapshots.neighbor[snapshots.edge_rows(t)] for t in seen])).astype(np.int64)

    def _candidates(self, step: int) -> Tensor:
        population = self.task.population
        return population[self.task.history.destinations.before(population, step)[0] > 0]


class PairScores:
    """How likely given pairs are joined: ``src``, ``dst``, ``score`` (a logit), and ``joined`` where that is known."""

    unit = "pairs"

    def __init__(self, task: LinkPrediction, named: NamedSnapshots, src: np.ndarray, dst: np.ndarray) -> None:
        self.task, self.named, self.src, self.dst = task, named, src, dst

    def work(self, step: int) -> int:
        return len(self.src)

    def columns(self, head: nn.Module, h: Tensor, step: int, done: Done) -> Columns:
        scores = []
        for src, dst in _pairs(self.src, self.dst, h.device):
            scores.append(self.task.logits(head, h, src, dst[:, None], step)[:, 0])
            done(len(src))
        score = torch.cat(scores)
        refuse_nan(score)
        return {
            "src": self.named.ids.take(pa.array(self.src)),
            "dst": self.named.ids.take(pa.array(self.dst)),
            "score": pa.array(score.cpu().numpy()),
            "joined": self._joined(step),
        }

    def _joined(self, step: int) -> pa.Array:
        snapshots = self.named.snapshots
        if step >= snapshots.num_steps:
            return pa.nulls(len(self.src), pa.bool_())
        src, dst = (ends.astype(np.int64) for ends in snapshots.edges(step))
        return pa.array(np.isin(self.src * snapshots.num_nodes + self.dst, src * snapshots.num_nodes + dst))


class EdgeClasses:
    """The class of edges: ``src``, ``dst``, ``class``, ``probability`` of each class, and ``label`` where it is known.

    Args:
        task: of the run, on these snapshots.
        named: the snapshots.
        pairs: sources and destinations; the edges of the step, all of its stored rows, unless given.
    """

    unit = "edges"

    def __init__(
        self, task: EdgeClassification, named: NamedSnapshots, pairs: tuple[np.ndarray, np.ndarray] | None
    ) -> None:
        self.task, self.named, self.pairs = task, named, pairs

    def work(self, step: int) -> int:
        return len(self.pairs[0]) if self.pairs else self.task.edges.count(step)

    def columns(self, head: nn.Module, h: Tensor, step: int, done: Done) -> Columns:
        snapshots = self.named.snapshots
        src, dst = self.pairs or snapshots.edges(step)
        parts = []
        for some_src, some_dst in _pairs(src, dst, h.device):
            parts.append(self.task.logits(head, h, some_src, some_dst))
            done(len(some_src))
        logits = torch.cat(parts) if parts else h.new_zeros(0, len(self.task.classes))
        refuse_nan(logits)
        probability = logits.softmax(dim=1).cpu().numpy()
        every = np.full(len(probability), probability.shape[1])
        labels = snapshots.edge_label
        if labels is None or self.pairs:
            label = pa.nulls(len(src), pa.int64())
        else:
            label = pa.array(np.asarray(labels[snapshots.edge_rows(step)]))
        return {
            "src": self.named.ids.take(pa.array(src)),
            "dst": self.named.ids.take(pa.array(dst)),
            "class": pa.array(self.task.classes[logits.argmax(dim=1).cpu().numpy()]),
            "probability": lists_of(pa.array(probability.ravel()), every),
            "label": label,
        }


def _values(table: np.ndarray) -> pa.Array:
    """A value per node, or a list of values where there are several."""
    if table.shape[1] == 1:
        return pa.array(table[:, 0])
    return lists_of(pa.array(table.ravel()), np.full(len(table), table.shape[1]))


def _blocks(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (array[at : at + size] for at in range(0, len(array), size))


def _pairs(src: np.ndarray, dst: np.ndarray, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for some in zip(_blocks(src, CELLS), _blocks(dst, CELLS), strict=True):
        yield tuple(torch.from_numpy(ends.astype(np.int64)).to(device) for ends in some)  # type: ignore[misc]


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
