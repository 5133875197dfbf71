"""Scores of a run of events, batch by batch, and the metrics over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgscale.train.metrics import ap_auc, reciprocal_ranks


@dataclass
class Scores:
    """Scores of consecutive events.

    Attributes:
        reciprocal_rank: of each event's true destination among its candidates, ties counting half, ``[B]``.
        positive, negative: score of the true destination and of the first negative, ``[B]``.
    """

    reciprocal_rank: Tensor
    positive: Tensor
    negative: Tensor

    @property
    def mrr(self) -> float:
        return float(self.reciprocal_rank.mean())

    def summary(self, new: Tensor | None = None) -> dict[str, float | None]:
        """``mrr``, ``ap`` and ``auc`` over all events; with a mask ``new`` also ``mrr_new_nodes`` (None: no such)."""
        ap, auc = ap_auc(self.positive, self.negative)
        result: dict[str, float | None] = {"mrr": self.mrr, "ap": ap, "auc": auc}
        if new is not None:
            result["mrr_new_nodes"] = float(self.reciprocal_rank[new].mean()) if new.any() else None
        return result


class ScoreCollector:
    """Gathers the scores of batches."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, logits: Tensor) -> None:
        """Take a batch's scores, ``[B, C]``, column 0 being the true destination."""
        rank = reciprocal_ranks(logits[:, 0], logits[:, 1:])
        self._parts.append((rank.double().cpu(), logits[:, 0].cpu(), logits[:, 1].cpu()))

    def scores(self) -> Scores:
        """All of them, in order."""
        return Scores(*(torch.cat(column) for column in zip(*self._parts, strict=True)))
