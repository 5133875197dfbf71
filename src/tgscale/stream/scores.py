"""Scores of a run of events, batch by batch, and the metrics over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tgscale.stream.protocol.base import EvalProtocol
from tgscale.stream.protocol.mrr49 import PROTOCOL as MRR49
from tgscale.train.metrics import ap_auc, batch_ap_auc, optimistic_ranks, tie_aware_ranks


@dataclass
class Scores:
    """Scores of consecutive events.

    Attributes:
        reciprocal_rank: of each event's true destination among its candidates, ``[B]``.
        positive, negative: score of the true destination and of the first negative, ``[B]``; the latter is -inf where
            an event has no negative.
        protocol: how they are summed up.
        bounds: where the batches end, for a protocol that averages over batches.
        logits: whether the scores are a model's; else a rule's, which no sigmoid is applied to.
    """

    reciprocal_rank: Tensor
    positive: Tensor
    negative: Tensor
    protocol: EvalProtocol = MRR49
    bounds: Sequence[int] = ()
    logits: bool = True

    @property
    def mrr(self) -> float:
        return float(self.reciprocal_rank.mean())

    def summary(self, new: Tensor | None = None) -> dict[str, float | None]:
        """The metrics of the protocol over all events; with a mask ``new`` also ``mrr_new_nodes`` (None: no such).

        ``mrr``, ``ap``, ``auc`` and, where the protocol has them, ``hits@k``.
        """
        if self.protocol.average == "batches":
            ap, auc = batch_ap_auc(self.positive, self.negative, self.bounds, self.logits)
        else:
            compared = self.negative > -math.inf
            ap, auc = ap_auc(self.positive[compared], self.negative[compared])
        result: dict[str, float | None] = {"mrr": self.mrr, "ap": ap, "auc": auc}
        if self.protocol.hits:
            first = self.reciprocal_rank >= 1 / self.protocol.hits
            result[f"hits@{self.protocol.hits}"] = float(first.double().mean())
        if new is not None:
            result["mrr_new_nodes"] = float(self.reciprocal_rank[new].mean()) if new.any() else None
        return result


class ScoreTable:
    """Takes the scores of the batches of a part, in any order.

    Args:
        num_events: B, events of the part.
        protocol: its rule for ties, and how scores are summed up.
        bounds: where the batches end, for a protocol that averages over batches.
        logits: whether the scores are a model's, or else a rule's.

    Attributes:
        columns: reciprocal rank, score of the true destination and of the first negative, ``[3, B]``, float64; zeros
            where nothing was added yet, so that tables of several ranks add up to the whole.
    """

    def __init__(
        self, num_events: int, protocol: EvalProtocol = MRR49, bounds: Sequence[int] = (), logits: bool = True
    ) -> None:
        self._protocol, self._bounds, self._logits = protocol, bounds, logits
        self._ranks = tie_aware_ranks if protocol.ties == "half" else optimistic_ranks
        self.columns = torch.zeros(3, num_events, dtype=torch.float64)

    def add(self, start: int, logits: Tensor) -> None:
        """Take the scores ``[b, C]`` of the events from ``start`` on, column 0 being the true destination.

        A score of -inf stands for a negative that is not there.
        """
        rank = self._ranks(logits[:, 0], logits[:, 1:]).reciprocal()
        columns = torch.stack([rank.double(), logits[:, 0].double(), logits[:, 1].double()])
        self.columns[:, start : start + len(logits)] = columns.cpu()

    def scores(self) -> Scores:
        """All of them."""
        rank, positive, negative = self.columns
        return Scores(rank, positive, negative, self._protocol, self._bounds, self._logits)
