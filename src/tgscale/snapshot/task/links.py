"""Next-snapshot link prediction: which nodes are joined at the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgscale.data.snapshots import SnapshotSequence
from tgscale.errors import ConfigError
from tgscale.graph.draws import draw_nodes
from tgscale.nn.decoder import LinkDecoder
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.placement import Embeddings
from tgscale.snapshot.task.base import Metrics
from tgscale.snapshot.task.edges import StepEdges, compact
from tgscale.snapshot.task.history import PAIR_DIM, RULES, PairHistory
from tgscale.train.metrics import ap_auc, reciprocal_ranks


class LinkPrediction:
    """Each edge of the next snapshot against random other destinations; ties count half.

    Args:
        sequence: whose graph changes.
        config: numbers of edges and negatives, seeds, and whether the decoder sees the pairs' history.
        device: of the embeddings.

    Raises:
        ConfigError: a topology that never changes, or no two destinations to choose between.
    """

    name, lead, metric, better = "link prediction", 1, "mrr", "higher"
    all_nodes = True

    def __init__(self, sequence: SnapshotSequence, config: SnapshotConfig, device: torch.device) -> None:
        if sequence.num_graphs < 2:
            raise ConfigError(
                f"{sequence.name} shows one graph at all steps, so there are no links to predict: choose --task "
                "regression."
            )
        self.config, self.edges, self.num_steps = config, StepEdges(sequence, device), sequence.num_steps
        self.history = PairHistory(sequence, device)
        into = np.zeros(sequence.num_nodes, bool)
        for g in range(sequence.num_graphs):
            into |= np.diff(sequence.indptr[g]) > 0
        self.population = torch.from_numpy(np.flatnonzero(into)).to(device)
        if len(self.population) < 2:
            raise ConfigError(f"{sequence.name} has {len(self.population)} destination: there is nothing to choose.")

    def head(self, dim: int) -> nn.Module:
        return LinkDecoder(dim, PAIR_DIM if self.config.net.pair_encoding else 0)

    def items(self, step: int) -> int:
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
        train = self.config.train
        picked = self.edges.pick(step, train.edges_per_step, seed)[part[0] :: part[1]]
        logits = self._logits(head, h, step, picked, train.negatives, seed)
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return nn.functional.cross_entropy(logits, target, reduction="sum")

    def score(self, head: nn.Module, h: Tensor, step: int) -> np.ndarray:
        return self._rows(self._logits(head, h, step, *self._scored(step)))

    def summarize(self, rows: np.ndarray) -> Metrics:
        ap, auc = ap_auc(torch.from_numpy(rows[:, 1]), torch.from_numpy(rows[:, 2]))
        return {"mrr": float(rows[:, 0].mean()), "ap": ap, "auc": auc}

    def baselines(self, steps: range, train: range) -> dict[str, Metrics]:
        """EdgeBank, the latest snapshot, recency and popularity."""
        rows: dict[str, list[np.ndarray]] = {name: [] for name in RULES}
        for step in steps:
            source, candidate = self._candidates(step, *self._scored(step))
            u, v = source[:, None].expand_as(candidate).reshape(-1), candidate.reshape(-1)
            for name, rule in RULES.items():
                rows[name].append(self._rows(rule(self.history, u, v, step).view(candidate.shape)))
        return {name: self.summarize(np.concatenate(each)) for name, each in rows.items()}

    def describe(self) -> dict[str, Any]:
        evaluation = self.config.eval
        return {
            "name": f"mrr{evaluation.negatives}",
            "negatives": evaluation.negatives,
            "population": "destinations",
            "population_size": len(self.population),
            "exclude_own": True,
            "edges_per_step": evaluation.edges_per_step,
            "ties": "half (mean of the optimistic and the pessimistic rank)",
            "seed": evaluation.seed,
        }

    def _scored(self, step: int) -> tuple[Tensor, int, int]:
        evaluation = self.config.eval
        picked = self.edges.pick(step, evaluation.edges_per_step, evaluation.seed)
        return picked, evaluation.negatives, evaluation.seed

    def _candidates(self, step: int, picked: Tensor, negatives: int, seed: int) -> tuple[Tensor, Tensor]:
        """Sources ``[B]`` and candidates ``[B, 1 + negatives]``, the true destination first."""
        source, destination = self.edges.ends(picked)
        drawn = draw_nodes(self.population, picked, negatives, seed, other_than=destination)
        return source, torch.cat([destination[:, None], drawn], dim=1)

    def _logits(self, head: nn.Module, h: Embeddings, step: int, picked: Tensor, negatives: int, seed: int) -> Tensor:
        return self.logits(head, h, *self._candidates(step, picked, negatives, seed), step)

    def logits(self, head: nn.Module, h: Embeddings, source: Tensor, candidate: Tensor, step: int) -> Tensor:
        """How likely sources ``[B]`` are joined to candidates ``[B, C]`` at a step, ``[B, C]``."""
        pairs = self.history.features(source, candidate, step) if self.config.net.pair_encoding else None
        rows, (of_source, of_candidate) = compact(h, source, candidate)
        return head(rows, of_source, of_candidate, pairs)

    @staticmethod
    def _rows(logits: Tensor) -> np.ndarray:
        rank = reciprocal_ranks(logits[:, 0], logits[:, 1:])
        return torch.stack([rank, logits[:, 0].double(), logits[:, 1].double()], dim=1).cpu().numpy()
