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


class ScoreTable:
    """Takes the scores of the batches of a part, in any order.

    Args:
        num_events: B, events of the part.

    Attributes:
        columns: reciprocal rank, score of the true destination and of the first negative, ``[3, B]``, float64; zeros
            where nothing was added yet, so that tables of several ranks add up to the whole.
    """

    def __init__(self, num_events: int) -> None:
        self.columns = torch.zeros(3, num_events, dtype=torch.float64)

    def add(self, start: int, logits: Tensor) -> None:
        """Take the scores ``[b, C]`` of the events from ``start`` on, column 0 being the true destination."""
        rank = reciprocal_ranks(logits[:, 0], logits[:, 1:])
        columns = torch.stack([rank.double(), logits[:, 0].double(), logits[:, 1].double()])
        self.columns[:, start : start + len(logits)] = columns.cpu()

    def scores(self) -> Scores:
        """All of them."""
        return Scores(*self.columns)
