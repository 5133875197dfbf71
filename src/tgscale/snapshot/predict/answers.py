"""What is written of a step: its targets, the links that it will have, or the classes of its edges.

An answer is made from the embeddings ``[N, C]`` of one step, ``h`` below. It comes in parts, each of them columns of
equal length: of a block of sources or pairs, or of all nodes where each has a target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from tgscale.data.export.pieces import lists_of
from tgscale.data.snapshot_ids import NamedSnapshots, once_each
from tgscale.snapshot.task.edges import EdgeClassification
from tgscale.snapshot.task.links import LinkPrediction
from tgscale.snapshot.task.regression import Regression
from tgscale.train.metrics import refuse_nan

CELLS = 1 << 18
"""Pairs that are scored at once."""

Columns = dict[str, pa.Array]


class Answer(Protocol):
    """What a task says of a step.

    Attributes:
        unit: what a row is, in words.
    """

    unit: str

    def rows(self, step: int) -> int:
        """How many rows there are of a step."""

    def parts(self, head: nn.Module, h: Tensor, step: int) -> Iterator[Columns]:
        """The rows, in order.

        Raises:
            DivergedError: a score or prediction is NaN.
        """


class Targets:
    """The target of every node: ``node``, ``prediction``, and ``target`` where it is known (else null)."""

    unit = "nodes"

    def __init__(self, task: Regression, named: NamedSnapshots) -> None:
        self.task, self.named = task, named

    def rows(self, step: int) -> int:
        return len(self.named.ids)

    def parts(self, head: nn.Module, h: Tensor, step: int) -> Iterator[Columns]:
        known, prediction = self.task.known(step), _values(self.task.predict(head, h, step))
        target = pa.nulls(len(prediction), prediction.type) if known is None else _values(known)
        yield {"node": self.named.ids, "prediction": prediction, "target": target}


class LikelyLinks:
    """The likeliest destinations of sources: ``src``, and the lists ``top_dst`` and ``top_score``, best first.

    Candidates are all nodes that were a destination before the step; a node is its own only where it was one before.
    Where sources and destinations have ids of their own, they are of their side alone.

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
        steps = range(named.snapshots.num_steps)
        loops = (step for step in steps if np.equal(*named.snapshots.edges(step)).any())
        self.first_loop = next(loops, len(steps))

    def rows(self, step: int) -> int:
        return len(self._sources(step))

    def parts(self, head: nn.Module, h: Tensor, step: int) -> Iterator[Columns]:
        candidates = self._candidates(step)
        for block in _blocks(self._sources(step), max(1, CELLS // max(1, len(candidates)))):
            best, score = self._best(head, h, torch.from_numpy(block).to(h.device), candidates, step)
            real = score > -torch.inf
            lengths = real.sum(dim=1).cpu().numpy()
            yield {
                "src": self.named.ids.take(pa.array(block)),
                "top_dst": lists_of(self.named.ids.take(pa.array(best[real].cpu().numpy())), lengths),
                "top_score": lists_of(pa.array(score[real].cpu().numpy()), lengths),
            }

    def _best(
        self, head: nn.Module, h: Tensor, sources: Tensor, candidates: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Destinations and scores, ``[B, k]`` each, best first; the score of one that is not to be named is -inf."""
        parts = [h.new_zeros(len(sources), 0)]
        for some in candidates.split(max(1, CELLS // len(sources))):
            if len(some):
                score = self.task.logits(head, h, sources, some.expand(len(sources), -1), step)
                refuse_nan(score)
                own = some == sources[:, None]
                parts.append(score if self.first_loop < step else score.masked_fill(own, -torch.inf))
        score, place = torch.cat(parts, dim=1).sort(dim=1, descending=True, stable=True)
        most = min(self.top_k or len(candidates), len(candidates))
        return candidates[place[:, :most]], score[:, :most]

    def _sources(self, step: int) -> np.ndarray:
        if self.sources is not None:
            return self.sources
        snapshots = self.named.snapshots
        seen = range(max(0, step - self.window), step)
        found = np.unique(np.concatenate([snapshots.neighbor[snapshots.edge_rows(t)] for t in seen]))
        return self._of_side(found.astype(np.int64), 0)

    def _candidates(self, step: int) -> Tensor:
        population = self.task.population
        seen = population[self.task.history.destinations.before(population, step)[0] > 0]
        return torch.from_numpy(self._of_side(seen.cpu().numpy(), 1)).to(population.device)

    def _of_side(self, nodes: np.ndarray, side: int) -> np.ndarray:
        sides = self.named.side_nodes
        return nodes if len(sides) == 1 else nodes[np.isin(nodes, sides[side])]


class PairScores:
    """How likely given pairs are joined: ``src``, ``dst``, ``score`` (a logit), and ``joined`` where that is known."""

    unit = "pairs"

    def __init__(self, task: LinkPrediction, named: NamedSnapshots, src: np.ndarray, dst: np.ndarray) -> None:
        self.task, self.named, self.src, self.dst = task, named, src, dst

    def rows(self, step: int) -> int:
        return len(self.src)

    def parts(self, head: nn.Module, h: Tensor, step: int) -> Iterator[Columns]:
        edges = _Edges(self.named, step)
        for src, dst in zip(_blocks(self.src, CELLS), _blocks(self.dst, CELLS), strict=True):
            score = self.task.logits(head, h, _on(h, src), _on(h, dst)[:, None], step)[:, 0]
            refuse_nan(score)
            joined = pa.array(edges.find(src, dst) >= 0) if edges.known else pa.nulls(len(src), pa.bool_())
            yield {**_ends(self.named, src, dst), "score": pa.array(score.cpu().numpy()), "joined": joined}


class EdgeClasses:
    """The class of edges: ``src``, ``dst``, ``class``, ``probability`` of each class, and ``label`` where it is known.

    Edges of the step have their ``edge_type`` as well, where there are types: some may join the same two nodes. Of a
    pair that has several, the label is that of one.

    Args:
        task: of the run, on these snapshots.
        named: the snapshots.
        pairs: sources and destinations; the edges of the step, each once, unless given.
    """

    unit = "edges"

    def __init__(
        self, task: EdgeClassification, named: NamedSnapshots, pairs: tuple[np.ndarray, np.ndarray] | None
    ) -> None:
        self.task, self.named, self.pairs = task, named, pairs

    def rows(self, step: int) -> int:
        return len(self.pairs[0]) if self.pairs else len(once_each(self.named.snapshots, step)[0])

    def parts(self, head: nn.Module, h: Tensor, step: int) -> Iterator[Columns]:
        src, dst, more = self._edges(step)
        for at in range(0, len(src), CELLS):
            block = {name: column[at : at + CELLS] for name, column in more.items()}
            yield self._classified(head, h, src[at : at + CELLS], dst[at : at + CELLS]) | block

    def _classified(self, head: nn.Module, h: Tensor, src: np.ndarray, dst: np.ndarray) -> Columns:
        logits = self.task.logits(head, h, _on(h, src), _on(h, dst))
        refuse_nan(logits)
        probability = logits.softmax(dim=1).cpu().numpy()
        return {
            **_ends(self.named, src, dst),
            "class": pa.array(self.task.classes[logits.argmax(dim=1).cpu().numpy()]),
            "probability": lists_of(pa.array(probability.ravel()), np.full(len(src), probability.shape[1])),
        }

    def _edges(self, step: int) -> tuple[np.ndarray, np.ndarray, Columns]:
        """Source and destination of what is to be classified, and what is known of it."""
        snapshots = self.named.snapshots
        src, dst, kept = (*self.pairs, None) if self.pairs else once_each(snapshots, step)
        more = {"label": pa.nulls(len(src), pa.int64())}
        if step >= snapshots.num_steps:
            return src, dst, more
        rows, labels = snapshots.edge_rows(step), snapshots.edge_label
        if kept is None and labels is not None:
            place = _Edges(self.named, step).find(src, dst)
            more["label"] = pa.array(np.append(labels[rows], 0)[place], mask=place < 0)
        if kept is not None:
            known = {"edge_type": snapshots.edge_type, "label": labels}
            more |= {name: pa.array(column[rows][kept]) for name, column in known.items() if column is not None}
        return src, dst, more


class _Edges:
    """The edges that a step has, where it is one of the sequence's."""

    def __init__(self, named: NamedSnapshots, step: int) -> None:
        self.snapshots = named.snapshots
        self.known = step < self.snapshots.num_steps
        if self.known:
            src, dst = self.snapshots.edges(step)
            self.key = self._key(dst, src)  # rising, as rows are sorted by (dst, src)

    def _key(self, dst: np.ndarray, src: np.ndarray) -> np.ndarray:
        return dst.astype(np.int64) * self.snapshots.num_nodes + src

    def find(self, src: np.ndarray, dst: np.ndarray) -> np.ndarray:
        """The place of each pair among the step's edges, -1 for one that it does not have."""
        wanted = self._key(dst, src)
        place = np.searchsorted(self.key, wanted)
        there = place < len(self.key)
        there[there] = self.key[place[there]] == wanted[there]
        return np.where(there, place, -1)


def _values(table: np.ndarray) -> pa.Array:
    """A value per node, or a list of values where there are several."""
    if table.shape[1] == 1:
        return pa.array(table[:, 0])
    return lists_of(pa.array(table.ravel()), np.full(len(table), table.shape[1]))


def _blocks(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (array[at : at + size] for at in range(0, len(array), size))


def _on(h: Tensor, nodes: np.ndarray) -> Tensor:
    return torch.from_numpy(nodes.astype(np.int64)).to(h.device)


def _ends(named: NamedSnapshots, src: np.ndarray, dst: np.ndarray) -> Columns:
    return {"src": named.ids.take(pa.array(src)), "dst": named.ids.take(pa.array(dst))}
